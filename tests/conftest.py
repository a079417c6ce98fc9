"""Fixtures: one thread, the real data set where it is at hand, specs drawn over the whole family."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # slow is not wrong
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "any machine")

DATA_VARIABLE = "BUDGETNETS_CIFAR10"


def pytest_addoption(parser):
    parser.addoption("--cifar10", default=os.environ.get(DATA_VARIABLE), help="folder that holds cifar-10-batches-py")


@pytest.fixture(scope="session")
def cifar10(request):
    """The folder with the real CIFAR-10; the test is skipped where there is none."""
    folder = request.config.getoption("--cifar10")
    if not folder:
        pytest.skip(f"needs CIFAR-10: set {DATA_VARIABLE}, or give --cifar10 DIR")
    if not (Path(folder) / "cifar-10-batches-py").is_dir():
        pytest.fail(f"{folder} holds no cifar-10-batches-py")
    return folder


@pytest.fixture(autouse=True)
def _one_thread_and_seed():
    torch.set_num_threads(1)  # the networks are small; threads only fight over the cores
    torch.manual_seed(0)


@pytest.fixture
def train_in_process(monkeypatch):
    """examples/train.py runs in this process: without its picture, which takes longer than a tiny epoch."""
    import run_folder
    from accelerate.state import AcceleratorState

    monkeypatch.setattr(run_folder, "draw_curves", lambda log, path: path.touch())
    yield
    AcceleratorState._reset_state(reset_partial_state=True)  # the precision is held for the whole process
