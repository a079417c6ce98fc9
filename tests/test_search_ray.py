"""A search on a local Ray cluster of two workers: killed, resumed, and come to the same numbers."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from budgetnets import count_params

pytest.importorskip("ray.tune", reason="pip install 'budgetnets[ray]'")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SCRIPT = Path(__file__).parent.parent / "examples" / "search_ray.py"
SEARCH = ("--max-params", 20_000, "--max-macs", 3e6, "--objective", "params", "--candidates", 2, "--workers", 2)
TRAINING = ("--data", "fake", "--epochs", 8, "--grace", 8, "--holdout", 64, "--", "--limit", 1024, "--batch-size", 64)
# Ray's own workers are niced to 15, so that another busy process would starve them.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}


def start(out, *more):
    command = [sys.executable, SCRIPT, *SEARCH, "--out", out, *more, *TRAINING]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(list(map(str, command)), env=ENVIRONMENT, **pipes)


def finish(process, status=0):
    try:
        said = process.communicate(timeout=800)[0]
    finally:
        process.kill()
    assert process.returncode == status, said[-4000:]
    return said


def results(out):
    """What each network reached, by its spec."""
    return {json.dumps(row["spec"]): row for row in json.loads((out / "results.json").read_text())}


def knows_an_epoch(out):
    """Whether the search would go on from an epoch: its state names one, which it does a moment after it is saved."""
    return any("checkpoint_0000" in state.read_text() for state in out.glob("experiment_state-*.json"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--grace", 9), "--grace 9 of --epochs 8; use 1 or more, and no more than the epochs"),
        (("--grace", 0), "--grace 0 of"),
        (("--reduction", 1), "--reduction 1 stops nothing; use 2 or more"),
        (("--candidates", 0), "must be 1 or more"),
        (("--workers", 0), "must be 1 or more"),
        (("--gpus", -1), "--gpus -1.0 is out of range"),
        (("--", "--model", "resnet9_cifar", "--test", "every"), "--model, --test after --: the search sets it itself"),
        (("--", "--no-fast"), "--fast after --: the search sets it itself"),
        (("--", "--epochs", 3), "--epochs after --"),
        (("--", "--mixup", 1), "--mixup: of no effect here"),
    ],
)
def test_what_ray_would_refuse_late_is_refused_at_once(options, said, monkeypatch, capsys):
    assert refusal(monkeypatch, *TRAINING[:4], *options) == 2
    assert said in capsys.readouterr().err


def test_images_that_are_too_few_are_told_before_ray_starts(monkeypatch):
    assert "--holdout 5000 leaves none of the 512 training images" in refusal(monkeypatch, "--data", "fake")


def refusal(monkeypatch, *options):
    """What search_ray.py ends with as it reads its options."""
    search_ray = pytest.importorskip("search_ray", reason="pip install 'budgetnets[ray]'")
    monkeypatch.setattr(sys, "argv", list(map(str, [SCRIPT, *SEARCH, "--out", "nowhere", *options])))
    with pytest.raises(SystemExit) as stopped:
        search_ray.parse_args()
    return stopped.value.code


def test_a_candidate_that_cannot_be_trained_fails_with_its_reason(monkeypatch):
    search_ray = pytest.importorskip("search_ray", reason="pip install 'budgetnets[ray]'")
    with pytest.raises(RuntimeError, match="--holdout 5000 leaves none of the 512 training images"):
        search_ray.trial({"options": ["--data", "fake", "--holdout", "5000", "--fast", "--out", "x"], "threads": 1})


def test_a_killed_search_goes_on_to_the_same_numbers(tmp_path):
    said = finish(start(tmp_path / "whole"))
    whole = results(tmp_path / "whole")
    assert len(whole) == 2
    for row in whole.values():
        assert row["params"] == count_params(**row["spec"]) <= 20_000
        assert row["epochs"] == 8
        assert f"{row['params']:,}" in said

    out = tmp_path / "parts"
    process = start(out)
    while process.poll() is None and not knows_an_epoch(out):
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert not (out / "results.json").exists(), "the search was over before it was killed"
    assert "holds another search" in finish(start(out, "--cpus", 2), status=1)
    finish(start(out))
    parts = results(out)
    assert {spec: row["top1"] for spec, row in parts.items()} == {spec: row["top1"] for spec, row in whole.items()}
    assert max(row["started_at"] for row in parts.values()) > 1
