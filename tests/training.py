"""examples/train.py as tests run it: in this process, a tiny network on noise images.

Tests import its modules from here, so that they are skipped where the extra is missing.
"""

import json
import shlex
from contextlib import contextmanager, suppress

import pytest
import torch
from safetensors.torch import load_file

for needed in ("accelerate", "matplotlib"):
    pytest.importorskip(needed, reason="pip install 'budgetnets[train]'")

import average  # noqa: E402, F401
import cifar  # noqa: E402, F401
import distillation  # noqa: E402, F401
import fast_data  # noqa: E402, F401
import grow  # noqa: E402, F401
import numerics  # noqa: E402, F401
import option_checks  # noqa: E402, F401
import pruning  # noqa: E402, F401
import recipes  # noqa: E402
import run_folder  # noqa: E402, F401
import sam  # noqa: E402, F401
import schedulers  # noqa: E402, F401
import train  # noqa: E402

TINY = """--model budget_resnet --model-args '{"N": 2, "B": 1, "C": [8, 16]}' --limit 128 --batch-size 64"""
OF_TIMM = """--model test_resnet --model-args '{"num_classes": 10}' --limit 64 --batch-size 32 --epochs 1"""
DROPOUT = """--model-args '{"N": 2, "B": 1, "C": [8, 16], "drop_rate": 0.3, "drop_path_rate": 0.2}'"""
BARE = "--ema 0 --warmup 0 --smoothing 0"


def words(*options):
    """The words of a command line."""
    return shlex.split(" ".join(map(str, options)))


def command(out, *options):
    return [*words("--data fake --cpu --workers 0 --out", out), *words(*options)]


def usage_error(capsys, options):
    """What is said of options that are refused."""
    with pytest.raises(SystemExit) as exit_:
        train.parse_args([*words(options), "--out", "nowhere"])
    assert exit_.value.code == 2
    return capsys.readouterr().err


def run(out, *options):
    """Train; return the log."""
    train.main(command(out, *options))
    return read_log(out)


def read_log(out):
    return json.loads((out / "log.json").read_text())


def entries(log):
    """The log of the epochs, without the seconds."""
    return [{name: value for name, value in e.items() if name != "train_seconds"} for e in log["epochs"]]


def weights(out):
    return load_file(out / "model.safetensors")


def assert_same_weights(*runs):
    one, other = map(weights, runs)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def assert_resumes_after(updates, options, folder, monkeypatch):
    """A run that ends after so many updates, and goes on, comes to the numbers of one that never ended.

    Returns the log of the run when it ended, its whole log, and that of the other run.
    """
    whole = run(folder / "whole", options)
    with stopped_before(updates + 1, monkeypatch):
        run(folder / "parts", options)
    ended = read_log(folder / "parts")
    parts = run(folder / "parts", options, "--resume")
    assert entries(parts) == entries(whole)
    assert_same_weights(folder / "whole", folder / "parts")
    return ended, parts, whole


@contextmanager
def stopped_before(update, monkeypatch):
    """Runs inside end with an error before this update, of those that are counted from 1 over all epochs."""
    step = recipes.Schedule.before_update

    class StoppedError(Exception):
        pass

    def stop(self, number):
        if number == update:
            raise StoppedError
        step(self, number)

    with monkeypatch.context() as patch, suppress(StoppedError):
        patch.setattr(recipes.Schedule, "before_update", stop)
        yield
        pytest.fail(f"the run was over before update {update}")
