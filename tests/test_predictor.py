"""Accuracy as an objective: the trainings, the fit and the prediction, from the scripts' commands to a search."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from budgetnets import ResNetSpec, SearchResults, count_macs, count_params, search, searching
from budgetnets.prediction import Predictor, features_of, load_predictor
from budgetnets.search_space import make_space

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SMALL = {"N": [2, 3], "B": [1, 2, 3], "C": [8, 16, 24], "K": 1, "P": None, "se": [None, "block"]}
ON_NOISE = ("--data", "fake", "--images", "64", "--holdout", "32", "--batch-size", "32", "--epochs", "1")


def start(script, *arguments):
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)


def finish(process, status=0):
    out, err = process.communicate(timeout=900)
    assert process.returncode == status, err[-3000:]
    return out + err


def run(script, *arguments, status=0):
    return finish(start(script, *arguments), status)


def accuracy_of(spec):
    """A made-up law: more multiply-adds and wider kernels help, more layers hurt a little; in percent."""
    score = 0.5 * np.log(count_macs(spec) / 1e6) - 0.2 * spec.num_layers + 0.3 * (spec.kernel_sizes[0] == 5)
    return 100 / (1 + np.exp(-score))


def made_up_table(noise=0.0):
    rng = np.random.default_rng(0)
    specs = []
    for _, networks in make_space(**SMALL).chunks():
        specs += [networks.spec(i) for i in range(len(networks.se))]
    chosen = [specs[i] for i in rng.choice(len(specs), 60, replace=False)]
    rows = [
        {"spec": spec.to_dict(), "seed": seed, "accuracy": float(accuracy_of(spec) + noise * rng.standard_normal())}
        for i, spec in enumerate(chosen)
        for seed in range(3 if i < 5 else 1)
    ]
    failed = {"spec": specs[0].to_dict(), "seed": 9, "accuracy": None, "failed": "the loss is nan"}
    shared = {"recipe": "none", "data": "made up", "holdout_images": 5000, "train_images": 10_000, "epochs": 4}
    return shared | {"rows": [*rows, failed]}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """The script's output for a made-up table."""
    folder = tmp_path_factory.mktemp("fit")
    (folder / "runs.json").write_text(json.dumps(made_up_table(noise=0.5)))
    said = run("fit_predictor.py", "--runs", folder / "runs.json", "--out", folder / "p.json", "--repeats", 2)
    assert "Kendall's tau on held-out networks" in said
    return json.loads((folder / "p.json").read_text())


def test_a_law_is_found_and_the_rank_correlation_is_reported(fitted):
    about = fitted["about"]
    assert about["tau"]["mean"] > 0.85
    assert about["tau"]["mean"] > about["tau_of_macs_alone"]
    assert (about["specs"], about["runs"], about["failed_runs"]) == (60, 70, 1)
    assert about["seed_sd"] == pytest.approx(0.5, rel=0.6)


def test_accuracies_without_a_law_are_reported_as_unpredictable(tmp_path):
    table = made_up_table()
    values = [row["accuracy"] for row in table["rows"]]
    np.random.default_rng(1).shuffle(values)
    table["rows"] = [row | {"accuracy": value} for row, value in zip(table["rows"], values, strict=True)]
    (tmp_path / "runs.json").write_text(json.dumps(table))
    run("fit_predictor.py", "--runs", tmp_path / "runs.json", "--out", tmp_path / "p.json", "--repeats", 2)
    assert abs(json.loads((tmp_path / "p.json").read_text())["about"]["tau"]["mean"]) < 0.35


def test_predictions_are_near_the_law_and_uncertain_far_from_the_trainings(fitted):
    predictor = Predictor.from_dict(fitted)
    inside = [ResNetSpec.from_letters(n, 2, [16, 32, 64][:n], f) for n in (2, 3) for f in (3, 5)]
    found = predictor.predict(features_of(inside))
    assert found.accuracy == pytest.approx([accuracy_of(spec) for spec in inside], abs=2)
    assert not found.extrapolates.any()
    far = predictor.predict(features_of([ResNetSpec.from_letters(4, 4, [64, 128, 256, 512], 3)]))
    assert far.extrapolates.all()
    spread = [p.uncertainty / (p.accuracy * (100 - p.accuracy)) for p in (found, far)]  # of the log-odds
    assert spread[1].min() > 1.2 * spread[0].max()


def test_a_search_for_accuracy_ranks_by_the_prediction(fitted, monkeypatch):
    monkeypatch.setattr(searching, "load_predictor", lambda: Predictor.from_dict(fitted))
    found = search(max_macs=10e6, **SMALL, limit=30)
    accuracies = [result.accuracy for result in found]
    assert accuracies == sorted(accuracies, reverse=True)
    fitting = search(max_macs=10e6, **SMALL, limit=1000, objective="params")
    assert found[0].accuracy == max(result.accuracy for result in fitting)
    assert "predicted %" in str(found)
    assert f"{found[0].accuracy:.1f} +- {found[0].uncertainty:.1f}" in str(found)
    assert "beyond the networks" not in str(found)


def test_results_that_are_all_beyond_the_trained_networks_say_what_else_to_look_at(fitted, monkeypatch):
    monkeypatch.setattr(searching, "load_predictor", lambda: Predictor.from_dict(fitted))
    far = search(N=4, objective="accuracy", limit=1)
    assert "beyond the networks" in str(far)
    assert 'as all of these are: look at objective="params" too' in str(far)
    near = search(max_macs=10e6, **SMALL, limit=1)
    mixed = str(SearchResults([*near, *far]))
    assert "beyond the networks" in mixed
    assert "as all of these are" not in mixed


def test_what_was_not_trained_is_not_predicted(fitted, monkeypatch):
    monkeypatch.setattr(searching, "load_predictor", lambda: Predictor.from_dict(fitted))
    with pytest.raises(ValueError, match=r"other options than block='bottleneck', act='silu'; use objective"):
        search(**SMALL, block="bottleneck", act="silu")
    assert search(**SMALL, block="bottleneck", objective="params")[0].accuracy is None
    assert search(**SMALL, num_classes=100, limit=1)[0].accuracy is not None


@pytest.mark.slow
def test_too_few_runs_and_noise_for_the_package_are_refused(tmp_path):
    table = made_up_table()
    (tmp_path / "few.json").write_text(json.dumps(table | {"rows": table["rows"][:5]}))
    said = run("fit_predictor.py", "--runs", tmp_path / "few.json", "--out", tmp_path / "p.json", status=1)
    assert "10 are needed" in said
    (tmp_path / "fake.json").write_text(json.dumps(table | {"data": "fake"}))
    assert "trained on noise" in run("fit_predictor.py", "--runs", tmp_path / "fake.json", status=1)
    assert not (tmp_path / "p.json").exists()


def test_the_packaged_predictor_is_as_good_as_the_project_asks():
    predictor = load_predictor()
    about = predictor.about
    assert about["data"] == "CIFAR-10"
    assert about["specs"] >= 60
    assert about["tau"]["mean"] >= 0.7
    assert search(300_000, 20e6)[0].accuracy > 0


@pytest.mark.slow
def test_runs_are_shared_and_survive_a_kill(tmp_path):
    out = tmp_path / "runs.json"
    options = (*ON_NOISE, "--count", 2, "--macs", 2e6, 4e6, "--out", out)
    killed = start("predictor_runs.py", *options)
    while killed.poll() is None and not out.exists():
        time.sleep(0.1)
    killed.kill()
    killed.communicate()
    before = json.loads(out.read_text())["rows"]
    shards = [start("predictor_runs.py", *options, "--shard", f"{i}/2") for i in (1, 2)]
    for process in shards:
        finish(process)
    table = json.loads(out.read_text())
    runs = [(json.dumps(row["spec"]), row["seed"]) for row in table["rows"]]
    assert len(runs) == len(set(runs)) == 6
    assert table["rows"][: len(before)] == before
    assert all(row["macs"] == count_macs(ResNetSpec.from_dict(row["spec"])) for row in table["rows"])
    assert all(0 <= row["accuracy"] <= 100 and row["hardware"] and row["commit"] for row in table["rows"])
    assert "0 of 6 to go" in run("predictor_runs.py", *options)
    assert "differ in recipe" in run("predictor_runs.py", *options, "--batch-size", 16, status=1)


def test_the_drawn_networks_show_every_option_and_spread_over_the_costs():
    predictor_runs = pytest.importorskip("predictor_runs", reason="pip install 'budgetnets[bench]'")
    runs = predictor_runs.plan(72, (2e6, 40e6))
    assert len(runs) == 72 + 6 * 2
    specs = [spec for spec, seed in runs if seed == 0]
    assert len(set(specs)) == 72
    for option in ("num_layers", "kernel_sizes", "skip_kernel_sizes", "grid", "se"):
        values = [getattr(spec, option) for spec in specs]
        values = [value[0] if isinstance(value, tuple) else value for value in values]
        assert min(values.count(value) for value in set(values)) >= 8, option
    costs = sorted(np.log([count_macs(spec) for spec in specs]))
    assert np.diff(costs).max() < 0.4  # nowhere a gap of more than half
    sizes = [count_params(spec) for spec in specs]
    assert max(sizes) > 50 * min(sizes)
    assert runs == predictor_runs.plan(72, (2e6, 40e6))
