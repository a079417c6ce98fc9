"""Fit the predictor of accuracy to the runs of predictor_runs.py, and judge it on networks that were held out.

    python benchmarks/fit_predictor.py

The model is a Bayesian ridge regression of the log-odds of a right answer on the features of budgetnets.prediction. It
is linear in them, or has squares and products of the main ones too, whichever cross-validation prefers. That choice is
part of what is judged: the rank correlation is that of networks that had no part in fitting or choosing, with
repeated cross-validation over networks, whose seeds stay together. Needs `pip install "budgetnets[bench]"`.
"""

import argparse
import datetime
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from arguments import at_least, file
from results import FOLDER
from scipy.stats import kendalltau
from sklearn.linear_model import BayesianRidge
from sklearn.model_selection import KFold
from tqdm import tqdm

import budgetnets
from budgetnets import ResNetSpec
from budgetnets.prediction import FILE, FIXED_OPTIONS, Floats, Predictor, features_of

MAIN = ("log_params", "log_macs", "log_blocks", "log_first_width")  # their squares and products may be terms
FOLDS, REPEATS, INNER_REPEATS = 5, 20, 3
LEAST_NETWORKS = 2 * FOLDS
PACKAGED = Path(budgetnets.__file__).parent / FILE


def log_odds(accuracy: Floats, images: int) -> Floats:
    """Return the log-odds of percentages, of which 0 and 100 are half an image away from the limit."""
    share = np.clip(np.asarray(accuracy) / 100, 0.5 / images, 1 - 0.5 / images)
    return np.log(share / (1 - share))


def by_network(table: dict) -> tuple[list[ResNetSpec], Floats, dict]:
    """Return the networks, their mean log-odds over the seeds, and what is known of the noise."""
    found: dict[ResNetSpec, list[float]] = {}
    for row in table["rows"]:
        if row["accuracy"] is not None:
            found.setdefault(ResNetSpec.from_dict(row["spec"]), []).append(row["accuracy"])
    if len(found) < LEAST_NETWORKS:
        sys.exit(f"{len(found)} networks were trained, and {LEAST_NETWORKS} are needed; run predictor_runs.py further")
    images = table["holdout_images"]
    target = np.array([log_odds(np.array(values), images).mean() for values in found.values()])
    several = [values for values in found.values() if len(values) > 1]
    degrees = sum(len(values) - 1 for values in several)
    within = sum((len(values) - 1) * np.var(values, ddof=1) for values in several)
    noise = {
        "runs": sum(map(len, found.values())),
        "failed_runs": sum(row["accuracy"] is None for row in table["rows"]),
        "networks_with_several_seeds": len(several),
        "seed_sd": float(np.sqrt(within / degrees)) if degrees else None,  # percentage points
    }
    return list(found), target, noise


def terms(features: dict[str, Floats], degree: int) -> list[tuple[str, ...]]:
    """Return the terms of a model, each a product of features."""
    linear = [(name,) for name in features]
    return linear + (list(itertools.combinations_with_replacement(MAIN, 2)) if degree == 2 else [])


def fit(features: dict[str, Floats], target: Floats, degree: int) -> Predictor:
    """Return the model of a degree fitted to all networks given; its residual_sd and about are still to be found."""
    mean = {name: float(values.mean()) for name, values in features.items()}
    scale = {name: float(values.std()) or 1.0 for name, values in features.items()}  # 1: a choice that none varies
    chosen = tuple(terms(features, degree))
    ends = ({name: float(end(values)) for name, values in features.items()} for end in (np.min, np.max))
    empty = np.zeros(len(chosen))
    model = Predictor(mean, scale, *ends, chosen, empty, empty, 0.0, np.zeros((0, 0)), 0.0, {}, {"specs": len(target)})
    raw = model.design(features)
    ridge = BayesianRidge().fit(raw - raw.mean(0), target)
    values = vars(model) | {"center": raw.mean(0), "coefficients": ridge.coef_, "intercept": float(ridge.intercept_)}
    return Predictor(**values | {"covariance": ridge.sigma_ * ridge.alpha_})  # in units of the noise's variance


def rows(features: dict[str, Floats], index: np.ndarray) -> dict[str, Floats]:
    return {name: values[index] for name, values in features.items()}


def held_out(features: dict[str, Floats], target: Floats, degree: int, seed: int) -> Floats:
    """Return each network's prediction by a model that was fitted without it and its fold."""
    predicted = np.empty(len(target))
    for kept, out in KFold(min(FOLDS, len(target)), shuffle=True, random_state=seed).split(target):
        predicted[out] = fit(rows(features, kept), target[kept], degree).log_odds(rows(features, out))
    return predicted


def best_degree(features: dict[str, Floats], target: Floats) -> int:
    """Return the degree that predicts held-out networks best, by the squared error."""
    errors = {
        degree: np.mean([(held_out(features, target, degree, seed) - target) ** 2 for seed in range(INNER_REPEATS)])
        for degree in (1, 2)
    }
    return min(errors, key=errors.__getitem__)


def judge(features: dict[str, Floats], target: Floats, repeats: int) -> tuple[Floats, dict[str, list[float]]]:
    """Return the errors on held-out networks, and Kendall's tau in each repetition: ours, and of plain costs.

    The errors are in parts of what their widening lets expect, so that their spread is the noise's.
    """
    errors, tau = [], {"predictor": [], "macs alone": [], "params alone": []}
    for seed in tqdm(range(repeats), "cross-validation"):
        predicted, widening = np.empty(len(target)), np.empty(len(target))
        for kept, out in KFold(FOLDS, shuffle=True, random_state=1000 + seed).split(target):
            own, left = rows(features, kept), rows(features, out)
            model = fit(own, target[kept], best_degree(own, target[kept]))
            predicted[out], widening[out] = model.log_odds(left), model.widening(model.design(left))
        errors.append((predicted - target) / widening)
        tau["predictor"].append(float(kendalltau(predicted, target).statistic))
    tau["macs alone"].append(float(kendalltau(features["log_macs"], target).statistic))
    tau["params alone"].append(float(kendalltau(features["log_params"], target).statistic))
    return np.concatenate(errors), tau


def shared_options(specs: list[ResNetSpec]) -> dict:
    """Return the options that all networks must share."""
    for name in FIXED_OPTIONS:
        if len({getattr(spec, name) for spec in specs}) > 1:
            sys.exit(f"the networks differ in {name}, of which the features know nothing; use runs of one {name}")
    return {name: getattr(specs[0], name) for name in FIXED_OPTIONS}


def predictor_of(table: dict, repeats: int) -> dict:
    """Return the fitted and judged predictor as JSON-able values."""
    specs, target, noise = by_network(table)
    features = features_of(specs)
    options = shared_options(specs)
    errors, tau = judge(features, target, repeats)
    degree = best_degree(features, target)
    failed, commit = subprocess.getstatusoutput(f"git -C '{Path(__file__).parent}' describe --always --dirty")
    about = {
        "specs": len(specs),
        **noise,
        "degree": degree,
        "tau": {"mean": float(np.mean(tau["predictor"])), "sd": float(np.std(tau["predictor"]))},
        "tau_of_macs_alone": tau["macs alone"][0],
        "tau_of_params_alone": tau["params alone"][0],
        "cross_validation": f"{FOLDS} folds, {repeats} times",
        **{name: value for name, value in table.items() if name != "rows"},
        "hardware": sorted({row["hardware"] for row in table["rows"] if "hardware" in row}),
        "trained_at": sorted({row["commit"] for row in table["rows"] if "commit" in row}),
        "date": datetime.date.today().isoformat(),
        "commit": None if failed else commit,
    }
    found = vars(fit(features, target, degree))
    found |= {"residual_sd": float(np.sqrt(np.mean(errors**2))), "options": options, "about": about}
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=FOLDER / "predictor_runs.json", help="predictor_runs.py's table")
    parser.add_argument("--out", type=file, default=PACKAGED, help="the package's own file, unless given")
    parser.add_argument("--repeats", type=at_least(1), default=REPEATS, help=f"of the cross-validation [{REPEATS}]")
    args = parser.parse_args()
    if not args.runs.exists():
        sys.exit(f"--runs {args.runs} is missing; benchmarks/predictor_runs.py writes it")
    table = json.loads(args.runs.read_text())
    if table["data"] == "fake" and args.out == PACKAGED:
        sys.exit(f"--runs {args.runs} was trained on noise, which says nothing; give another --out to try the script")
    found = predictor_of(table, args.repeats)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    beside = args.out.with_name(args.out.name + ".tmp")
    beside.write_text(json.dumps(found, indent=1) + "\n")
    os.replace(beside, args.out)
    about = found["about"]
    print(f"{about['specs']} networks, {about['runs']} runs, degree {about['degree']}")
    print(f"Kendall's tau on held-out networks {about['tau']['mean']:.3f} +- {about['tau']['sd']:.3f}")
    print(f"of multiply-adds alone {about['tau_of_macs_alone']:.3f}, parameters {about['tau_of_params_alone']:.3f}")
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
