"""Claims about runs of the reference training that were stopped, and about those that go by their evaluations."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from training import (
    BARE,
    DROPOUT,
    TINY,
    assert_resumes_after,
    assert_same_weights,
    command,
    entries,
    read_log,
    recipes,
    run,
    train,
)

pytestmark = pytest.mark.usefixtures("train_in_process")
TINY = f"{TINY} {BARE}"


# --- stopping and resuming


def in_full(options):
    """Options that the long tests alone take."""
    return pytest.param(options, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "options",
    [
        in_full("""--opt lookahead_momentum --decay-all --sched CosineAnnealingLR --sched-args '{"T_max": 4}'"""),
        in_full("""--opt adam --lr 0.01 --sched ReduceLROnPlateau --sched-args '{"patience": 1}'"""),
        in_full("""--opt rmsprop --lr 0.01 --sched StepLR --sched-args '{"step_size": 2}' --holdout 32"""),
        in_full("--reload-best --keep-best --choose-on test --sched constant --clip-value 0.1"),
        in_full("--augment-eval --rotate 15 --jitter 0.2 --flip random --sched cosine --ema 0.9"),
        "--fast --augment-eval --translate 0.1 --pad constant --keep-best --choose-on test",
    ],
    ids=["cosine", "plateau", "step", "reload", "augmented", "fast"],
)
def test_a_run_that_was_stopped_resumes_to_the_same_numbers(options, tmp_path, monkeypatch):
    options = f"{TINY} {options} --epochs 6"
    updates = 3 if "--holdout" in options else 7  # the next one is in the fourth epoch
    ended, parts, whole = assert_resumes_after(updates, options, tmp_path, monkeypatch)
    assert len(ended["epochs"]) == 3
    assert all(parts.get(name) == whole.get(name) for name in ("kept_epoch", "test_top1", "test_loss"))


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_same_numbers(tmp_path):
    """As above with a real kill; the plateau is the one schedule whose state is not the epoch alone."""
    options = f"""{TINY} --lr 0.1 --sched ReduceLROnPlateau --sched-args '{{"patience": 0}}' --epochs 8"""
    whole = run(tmp_path / "whole", options)
    start = [sys.executable, train.__file__, *command(tmp_path / "parts", options)]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # their number changes the order of sums
    process = subprocess.Popen(start, env=os.environ | threads, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while not (tmp_path / "parts" / "checkpoint.pt").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 1 <= len(read_log(tmp_path / "parts")["epochs"]) < 8
    assert entries(run(tmp_path / "parts", options, "--resume")) == entries(whole)
    assert len({entry["lr"] for entry in whole["epochs"]}) > 1


def test_a_run_is_not_resumed_under_another_recipe(tmp_path):
    run(tmp_path, "--recipe R3-V2-sgd", TINY, "--epochs 1")
    with pytest.raises(SystemExit, match=r"recipe, .*opt.* differ"):
        run(tmp_path, "--recipe R3-V2-adam", TINY, "--epochs 1 --resume")


def test_a_run_on_noise_says_so_and_one_on_real_images_does_not_go_on_with_noise(tmp_path):
    assert run(tmp_path, TINY, "--epochs 1")["data"] == "fake"
    saved = torch.load(tmp_path / "checkpoint.pt")
    saved["log"]["data"] = "CIFAR-10"
    torch.save(saved, tmp_path / "checkpoint.pt")
    with pytest.raises(SystemExit, match="data differ from the run's own"):
        run(tmp_path, TINY, "--epochs 1 --resume")


@pytest.mark.parametrize("options", ["--mixup 0.4 --cutmix 1", DROPOUT], ids=["mixing", "dropout"])
def test_the_number_of_processes_that_load_images_changes_no_number(options, tmp_path):
    for workers in (0, 1):
        run(tmp_path / str(workers), TINY, "--epochs 2", options, "--workers", workers)
    assert_same_weights(tmp_path / "0", tmp_path / "1")


def test_a_finished_run_is_not_written_over_where_its_checkpoint_is_gone(tmp_path):
    run(tmp_path, TINY, "--epochs 2")
    (tmp_path / "checkpoint.pt").unlink()
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(SystemExit, match=r"already holds a run \(config.json, log.json, model.safetensors\)"):
        run(tmp_path, TINY, "--epochs 2 --seed 5")
    with pytest.raises(SystemExit, match="holds a run without the checkpoint"):
        run(tmp_path, TINY, "--epochs 2 --resume")
    assert (tmp_path / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("left", [0, 100, -100], ids=["empty", "cut short", "without its end"])
def test_a_damaged_checkpoint_is_named(left, tmp_path):
    run(tmp_path, TINY, "--epochs 1")
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(SystemExit, match=r"checkpoint.pt cannot be read \(.+\); put back a copy of it, or start anew"):
        run(tmp_path, TINY, "--epochs 2 --resume")


def test_a_run_goes_on_with_another_number_of_processes_that_load_images(tmp_path):
    run(tmp_path, TINY, "--epochs 1")
    assert len(run(tmp_path, TINY, "--epochs 1 --resume --workers 1")["epochs"]) == 1


# --- choosing by an evaluation


def test_each_epoch_starts_from_the_best_one_so_far(tmp_path, monkeypatch):
    """R1's way; what it went by is in the log, and so is the kept epoch."""
    starts, ends = [], []
    step, evaluate = recipes.Schedule.before_update, train.evaluate

    def weights(parameters):
        return torch.cat([p.detach().flatten().clone() for p in parameters])

    def note_start(self, number):
        if number % 2 == 1:  # of the two steps of an epoch
            starts.append(weights(p for g in self.scheduler.optimizer.param_groups for p in g["params"]))
        step(self, number)

    def note_end(model, *rest):
        groups = ([p for p in model.parameters() if (p.ndim > 1) is wide] for wide in (False, True))  # as timm's
        ends.append(weights(p for group in groups for p in group))
        return evaluate(model, *rest)

    monkeypatch.setattr(recipes.Schedule, "before_update", note_start)
    monkeypatch.setattr(train, "evaluate", note_end)
    chosen = "--reload-best --keep-best --choose-on test --epochs 8"
    log = run(tmp_path, TINY, chosen, "--sched constant")
    accuracies = [entry["eval_top1"] for entry in log["epochs"]]
    best = [accuracies.index(max(accuracies[: epoch + 1])) for epoch in range(8)]
    assert any(best[epoch] != epoch for epoch in range(7)), "every epoch was better; nothing was reloaded"
    for epoch in range(1, 8):
        assert torch.equal(starts[epoch], ends[best[epoch - 1]])
    assert (log["chosen_on"], log["evaluated_on"]) == ("test", "test")
    assert log["kept_epoch"] == best[-1] + 1
    assert log["test_top1"] == max(accuracies)


def test_a_log_says_that_nothing_was_chosen(tmp_path):
    log = run(tmp_path, TINY, "--epochs 1")
    assert log["chosen_on"] == "nothing"
    assert "kept_epoch" not in log
