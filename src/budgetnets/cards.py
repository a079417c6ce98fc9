"""Cards: what a variant is, what its report says of it and what we measured; and the model cards that the Hub shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .budget import spec_macs, spec_memory, spec_params
from .rows import Reported, Variant, Weights
from .spec import ResNetSpec
from .variants import READ_CARD, REPORTS, find_variant, find_weights

LIMITS = """\
The network saw 32x32 images of its training set's classes alone. It names one of them for any image, also for one that
shows none of them, and its probabilities were not calibrated. CIFAR-10's labels and their few mistakes come from its
authors."""


@dataclass(frozen=True)
class Card:
    """All that is known of a variant; `print(card)` shows it.

    Attributes:
        name: the variant's name.
        spec: its architecture.
        params, macs, memory: parameters; multiply-adds and peak activation bytes (fp32) of one image.
        budget: the parameters that it may have.
        report: the reports that describe it; empty for a network of our own.
        reported_params: the count as the report prints it; empty where it prints none.
        reported: top-1 on CIFAR-10's test set in percent, run by run, as the reports give it.
        note: what does not agree in the report, or where a network of our own comes from.
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
            *([f"reported parameters: {self.reported_params or 'none printed'}"] if self.report else []),
            *(f"reported top-1: {r.top1:g} % (run {r.run})" for r in self.reported),
            *([f"note: {self.note}"] if self.note else []),
        ]
        if self.weights is None:
            why = "not trained yet" if place == "within" else "the network is over the budget, listed for comparison"
            return "\n".join([*lines, f"weights: none; {why}"])
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
    row, weights = find_variant(name, READ_CARD), find_weights(name)
    return Card(
        name=row.name,
        spec=row.spec,
        params=row.params,
        macs=spec_macs(row.spec),
        memory=spec_memory(row.spec),
        budget=row.budget,
        report=tuple(f"{key}, {REPORTS[key]}" for key in row.reports),
        reported_params=row.reported_params,
        reported=row.reported,
        note=row.note,
        top1=weights.top1 if weights else None,
        provenance=_provenance(weights) if weights else "",
        weights=weights,
    )


def _provenance(weights: Weights) -> str:
    recipe = ", ".join(f"{key} {value}" for key, value in weights.recipe.items())
    return f"{weights.dataset} test set, the shipped file in fp32, one crop, last epoch; {recipe}"


def _card_data(**data: Any) -> Any:
    from huggingface_hub import ModelCardData

    return ModelCardData(library_name="timm", pipeline_tag="image-classification", **data)


def _render(data: Any, body: str) -> str:
    from huggingface_hub import ModelCard

    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}"))


def _snippet(name: str, class_names: Sequence[str], spec: ResNetSpec) -> str:
    answer = "print(model.class_names[int(logits.argmax())])" if class_names else "print(int(logits.argmax()))"
    if spec.in_chans in (1, 3):
        needed = "from PIL import Image"
        given = 'image = Image.new("RGB", (640, 480), "skyblue")  # in place of Image.open(path)'
        images = "budgetnets.transforms(model)(image).unsqueeze(0)"
    else:  # no picture has so many
        shape = f"(1, {spec.in_chans}, {spec.input_size}, {spec.input_size})"
        needed = "import torch"
        given = f"images = torch.zeros{shape}  # normalized as in its training"
        images = "images"
    return f"""\
```python
import budgetnets  # also registers the architecture with timm
{needed}

model = budgetnets.create({json.dumps(name, ensure_ascii=False)}, pretrained=True)  # in eval mode
{given}
logits = model({images})
{answer}
```"""


def _architecture(spec: ResNetSpec, pool_type: str = "avg") -> str:
    return f"""\
```text
{spec}
```

- Parameters: {spec_params(spec, pool_type):,}
- Multiply-adds for one image: {spec_macs(spec, pool_type):,}
- Activations for one image in fp32, at their peak: {spec_memory(spec, pool_type) / 1024:,.0f} KiB"""


def hub_card(row: Variant, weights: Weights) -> str:
    """Return the model card that the Hub shows for trained weights of a variant."""
    from huggingface_hub import EvalResult

    name = f"{row.name}.{weights.tag}"
    result = EvalResult(
        task_type="image-classification",
        dataset_type="cifar10",
        dataset_name=weights.dataset,
        dataset_split="test",
        metric_type="accuracy",
        metric_name="top-1, one crop, last epoch",
        metric_value=weights.top1,
    )
    data = _card_data(
        license=weights.license,
        datasets=["cifar10"],
        tags=["budgetnets", "timm", "cifar10", "resnet"],
        model_name=name,
        eval_results=[result],
    )
    reported = "\n".join(f"- {r.top1:g} % in the report's run {r.run}" for r in row.reported)
    theirs = f"{reported}\n\nThose are the figures of the report, from its own training." if reported else ""
    remarks = "".join(f"{remark}\n\n" for remark in (theirs, row.note) if remark)
    source = "\n".join(f"- {key}: {REPORTS[key]}" for key in row.reports) or "- A network of the zoo's own."
    return _render(
        data,
        f"""\
# {name}

A residual network for 32x32 images, trained on {weights.dataset}; a variant of the budgetnets zoo.

{_snippet(f"hf-hub:{row.hub_repo}", weights.classes, row.spec)}

`budgetnets.create("{row.name}", pretrained=True)` loads the same file, and checks its sha256.

## Architecture

{_architecture(row.spec)}

## Accuracy

Top-1 on {weights.dataset}'s test set: **{weights.top1:.2f} %**, or {weights.top1_flip:.2f} % with the mean of the
logits of each image and its mirror image ({weights.mean_and_spread}); expected calibration error {weights.ece:.2f} %.
{_provenance(weights)}.

{remarks}Images are scaled to 0..1 and normalized with mean {weights.mean} and standard deviation {weights.std}.

## Limits

{LIMITS}

## Source

{source}
""",
    )


def user_card(
    spec: ResNetSpec,
    pool_type: str,
    *,
    name: str,
    class_names: Sequence[str],
    dataset: str,
    top1: float | None,
    license: str,
) -> str:
    """Return the model card of a network that a user publishes; a `name` without a colon is the Hub's."""
    accuracy = f"\nTop-1 as its author gives it: {top1:.2f} %.\n" if top1 is not None else ""
    classes = f"\nClasses: {', '.join(class_names)}.\n" if class_names else ""
    source = name if ":" in name else f"hf-hub:{name}"
    return _render(
        _card_data(license=license, tags=["budgetnets", "timm", "resnet"]),
        f"""\
# {name.rpartition("/")[2]}

A residual network for small images, made with budgetnets{f" and trained on {dataset}" if dataset else ""}.

{_snippet(source, class_names, spec)}
{classes}{accuracy}
## Architecture

{_architecture(spec, pool_type)}
""",
    )
