"""A variant's card: what it is, what its report says of it, and what we measured."""

from __future__ import annotations

from dataclasses import dataclass

from .budget import count_macs, count_memory
from .spec import ResNetSpec
from .variants import REPORTS, Reported, Weights, find_variant, find_weights


@dataclass(frozen=True)
class Card:
    """All that is known of a variant; `print(card)` shows it.

    Attributes:
        name: the variant's name.
        spec: its architecture.
        params, macs, memory: parameters; multiply-adds and peak activation bytes (fp32) of one image.
        budget: the parameters that its report allowed itself.
        report: the reports that describe it.
        reported_params: the count as the report prints it; empty where it prints none.
        reported: top-1 on CIFAR-10's test set in percent, run by run, as the reports give it.
        note: what does not agree in the report.
        top1: our weights' top-1 in percent, one crop, last epoch; None without weights.
        provenance: how `top1` was measured; empty without weights.
        weights: the weights' card (hash, recipe, log, license), or None.
    """

    name: str
    spec: ResNetSpec
    params: int
    macs: int
    memory: int
    budget: int
    report: tuple[str, ...]
    reported_params: str
    reported: tuple[Reported, ...]
    note: str
    top1: float | None
    provenance: str
    weights: Weights | None

    def __str__(self) -> str:
        place = "within" if self.params <= self.budget else "over"
        costs = f"{self.macs / 1e6:.1f} million multiply-adds, {self.memory / 1024:.0f} KiB of activations"
        lines = [
            f"{self.name}: {self.params:,} parameters ({place} the budget of {self.budget:,}), {costs}",
            "",
            str(self.spec),
            "",
            *(f"report: {report}" for report in self.report),
            f"reported parameters: {self.reported_params or 'none printed'}",
            *(f"reported top-1: {r.top1:g} % (run {r.run})" for r in self.reported),
            *([f"note: {self.note}"] if self.note else []),
        ]
        if self.weights is None:
            return "\n".join([*lines, "weights: not trained yet"])
        lines += [
            f"measured top-1: {self.top1:.2f} % ({self.weights.top1_flip:.2f} % with flip averaging)",
            f"seeds: {self.weights.mean_and_spread}",
            f"expected calibration error: {self.weights.ece:.2f} %",
            f"provenance: {self.provenance}",
            f"weights: {self.name}.{self.weights.tag}, sha256 {self.weights.sha256}, {self.weights.license}",
            f"log: {self.weights.log}",
        ]
        return "\n".join(lines)


def card(name: str) -> Card:
    """Return the card of a variant, or of one of its weights when the name has a tag.

    Raises:
        ValueError: an unknown name, answered with the nearest known one.
    """
    row, weights = find_variant(name), find_weights(name)
    provenance = ""
    if weights:
        recipe = ", ".join(f"{key} {value}" for key, value in weights.recipe.items())
        provenance = f"{weights.dataset} test set, the shipped file in fp32, one crop, last epoch; {recipe}"
    return Card(
        name=row.name,
        spec=row.spec,
        params=row.params,
        macs=count_macs(row.spec),
        memory=count_memory(row.spec),
        budget=row.budget,
        report=tuple(f"{key}, {REPORTS[key]}" for key in row.report.split(", ")),
        reported_params=row.reported_params,
        reported=row.reported,
        note=row.note,
        top1=weights.top1 if weights else None,
        provenance=provenance,
        weights=weights,
    )
