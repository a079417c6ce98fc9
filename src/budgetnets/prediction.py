"""The accuracy that a network is likely to reach, from a linear model that was fitted to real trainings.

benchmarks/predictor_runs.py trains, benchmarks/fit_predictor.py fits and writes predictor.json; here it is only read,
with NumPy alone. What is predicted is the accuracy after that short training: a way to rank networks, and no promise of
what a long training reaches.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from . import vectorized
from .spec import ResNetSpec
from .vectorized import SE_BLOCK, SE_STEM, Booleans, Networks, networks_of

FILE = "predictor.json"
# What the trainings had in common and what a prediction cannot do without. Other options, such as the number of
# classes, may differ: they move the accuracy of all networks alike, as far as anyone knows.
FIXED_OPTIONS = ("block", "act", "norm", "input_size", "se_reduction", "se_bias")
OUTSIDE = 1e-9  # how far beyond the trained range, in its own width, still counts as inside

Floats = np.ndarray[Any, np.dtype[np.float64]]


def features(networks: Networks) -> dict[str, Floats]:
    """Return what the model is given of each network, (n,) each, by name."""
    projecting = np.maximum(networks.projects.sum(axis=0), 1)
    skips = (np.log(networks.skip_kernel_sizes) * networks.projects).sum(axis=0) / projecting
    return {
        "log_params": np.log(vectorized.params(networks)),
        "log_macs": np.log(vectorized.macs(networks)),
        "log_blocks": np.log(networks.blocks.sum(axis=0)),
        "layers": np.full(len(networks.se), float(networks.num_layers)),
        "log_first_width": np.log(networks.widths[0]),
        "log_last_width": np.log(networks.widths[-1]),
        "log_kernel": np.log(networks.kernel_sizes).mean(axis=0),
        "log_skip_kernel": skips,
        "log_grid": np.log(networks.grid),
        "log_final_size": np.log(networks.sizes[-1]),
        "se_stem": (networks.se == SE_STEM).astype(float),
        "se_block": (networks.se == SE_BLOCK).astype(float),
    }


def features_of(specs: Sequence[ResNetSpec]) -> dict[str, Floats]:
    """Return the features of specs that share their options, in their order."""
    found = [features(networks_of([spec])) for spec in specs]
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}


@dataclass(frozen=True)
class Prediction:
    """What to expect of n networks, (n,) each.

    Args:
        log_odds: of a right answer; what networks are ranked by.
        accuracy: the same in percent.
        uncertainty: standard deviation of that, in percentage points.
        extrapolates: whether a feature lies beyond those that were trained.
    """

    log_odds: Floats
    accuracy: Floats
    uncertainty: Floats
    extrapolates: Booleans


@dataclass(frozen=True)
class Predictor:
    """A fitted model.

    Args:
        mean, scale, low, high: of each feature in the trainings, by name.
        terms: what the model is linear in, each a product of standardized features by name.
        center: mean of each term in the trainings.
        coefficients, intercept: of the log-odds of a right answer.
        covariance: of the coefficients, in units of the residual's variance.
        residual_sd: of the log-odds, on networks that were held out.
        options: of all trained networks.
        about: how it was trained, fitted and judged.
    """

    mean: dict[str, float]
    scale: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    terms: tuple[tuple[str, ...], ...]
    center: Floats
    coefficients: Floats
    intercept: float
    covariance: Floats
    residual_sd: float
    options: dict[str, Any]
    about: dict[str, Any]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Predictor:
        """Return the predictor that fit_predictor.py wrote."""
        read: dict[str, Any] = dict(values)
        read |= {name: np.array(values[name]) for name in ("center", "coefficients", "covariance")}
        read["terms"] = tuple(map(tuple, values["terms"]))
        return cls(**read)

    def design(self, found: dict[str, Floats]) -> Floats:
        """Return the centered terms of networks by their features, (n, terms)."""
        standard = {name: (found[name] - self.mean[name]) / self.scale[name] for name in self.mean}
        return np.stack([np.prod([standard[name] for name in term], axis=0) for term in self.terms], 1) - self.center

    def log_odds(self, found: dict[str, Floats]) -> Floats:
        """Return what networks are ranked by, (n,); rounded, so that equal networks are equal."""
        return np.round(self.intercept + self.design(found) @ self.coefficients, 9)

    def widening(self, design: Floats) -> Floats:
        """Return how much further than the noise predictions may be off, (n,): the coefficients are not exact."""
        leverage = 1 / self.about["specs"] + np.einsum("ni,ij,nj->n", design, self.covariance, design)
        return np.sqrt(1 + leverage)

    def predict(self, found: dict[str, Floats]) -> Prediction:
        """Return what to expect of networks with these features."""
        design, log_odds = self.design(found), self.log_odds(found)
        share = 1 / (1 + np.exp(-log_odds))
        deviation = self.residual_sd * self.widening(design)
        outside = np.zeros(len(log_odds), dtype=bool)
        for name in self.mean:
            slack = OUTSIDE * (1 + self.high[name] - self.low[name])
            outside |= (found[name] < self.low[name] - slack) | (found[name] > self.high[name] + slack)
        return Prediction(log_odds, 100 * share, 100 * share * (1 - share) * deviation, outside)

    def unknown_options(self, options: ResNetSpec) -> list[str]:
        """Return the options, written out, of which nothing was trained."""
        return [f"{o}={getattr(options, o)!r}" for o in FIXED_OPTIONS if getattr(options, o) != self.options[o]]


@cache
def load_predictor() -> Predictor:
    """Return the predictor inside the package."""
    return Predictor.from_dict(json.loads((resources.files("budgetnets") / FILE).read_text(encoding="utf-8")))
