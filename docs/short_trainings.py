"""What the predictor's short trainings say of each choice: one linear fit over all of them, with standard errors."""

import json
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from benchmark_tables import RESULTS, table
from findings import finding

from budgetnets import ResNetSpec

RUNS = RESULTS / "predictor_runs.json"

# What each choice is in a network, as a number; one more of it is what the table's row is about.
CHOICES: dict[str, Callable[[ResNetSpec], float]] = {
    "One block more in each layer": lambda spec: sum(spec.blocks) / spec.num_layers,
    "One layer more, which halves the map once more": lambda spec: spec.num_layers,
    "Kernels of 5, not 3": lambda spec: spec.kernel_sizes[0] == 5,
    "A skip kernel of 3, not 1": lambda spec: spec.skip_kernel_sizes[0] == 3,
    "Squeeze-and-excitation, one after the stem": lambda spec: spec.se == "stem",
    "Squeeze-and-excitation in each block": lambda spec: spec.se == "block",
    "A pool over parts of the final map, not all of it": lambda spec: spec.grid > 1,
}
COSTS = ("Twice the parameters, at equal multiply-adds", "Twice the multiply-adds, at equal parameters")

TEXT = """\
## What {networks} short trainings say

The [search's predictor](search.md#the-predictor) was fitted to {runs} trainings of {networks} networks, drawn from the
default space between {least} and {most} million multiply-adds: {train_images:,} images for {epochs} epochs,
evaluated at the last epoch on {holdout_images:,} others.
A linear fit over all of them gives what one choice changes while parameters, multiply-adds and the other choices stay
equal (so where it costs more, the layers are narrower), in percentage points, with its standard error.

{rows}

So short a training favours what learns fast: a network of many blocks or layers is behind here, and may be ahead after
a hundred epochs. No longer training has confirmed any of this yet."""


class Effect(NamedTuple):
    """What a choice changes, in percentage points, and its standard error."""

    points: float
    error: float


def effects(rows: list[dict]) -> dict[str, Effect]:
    """Return the effect of each choice, by least squares over the networks; several seeds of one count as their mean.

    Raises:
        ValueError: the networks are too few, or too much alike, to tell the choices apart.
    """
    accuracies, costs = defaultdict(list), {}
    for row in rows:
        if row["accuracy"] is not None:  # a training that diverged has none
            spec = ResNetSpec.from_dict(row["spec"])
            accuracies[spec].append(row["accuracy"])
            costs[spec] = np.log2(row["params"]), np.log2(row["macs"])
    names = [*CHOICES, *COSTS]
    inputs = np.array([[*(float(of(spec)) for of in CHOICES.values()), *costs[spec], 1] for spec in accuracies])
    outputs = np.array([np.mean(values) for values in accuracies.values()])
    freedom = len(outputs) - len(names) - 1
    if freedom < 1 or np.linalg.matrix_rank(inputs) < inputs.shape[1]:
        raise ValueError(f"{len(outputs)} trained networks do not tell {len(names)} choices apart; train more of them")
    found = np.linalg.lstsq(inputs, outputs, rcond=None)[0]
    variance = ((outputs - inputs @ found) ** 2).sum() / freedom
    errors = np.sqrt(variance * np.diag(np.linalg.inv(inputs.T @ inputs)))
    return {name: Effect(*pair) for name, *pair in zip(names, found, errors, strict=False)}


def section() -> str:
    """Return the section of docs/lessons.md."""
    runs = json.loads(RUNS.read_text(encoding="utf-8"))
    networks = {ResNetSpec.from_dict(row["spec"]) for row in runs["rows"]}
    found = sorted(effects(runs["rows"]).items(), key=lambda item: -item[1].points)
    rows = [(name, finding(*effect), f"{effect.points:+.1f} +- {effect.error:.1f}") for name, effect in found]
    shown = table(("Choice", "Finding", "Points"), rows, right=1)
    macs = [row["macs"] / 1e6 for row in runs["rows"]]
    counts = {
        "networks": len(networks),
        "runs": len(runs["rows"]),
        "least": f"{min(macs):.0f}",
        "most": f"{max(macs):.0f}",
    }
    return TEXT.format(**runs | counts | {"rows": shown})
