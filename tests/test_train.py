"""Claims about examples/train.py, as a user meets it: in a process of its own."""

import json
import re
import signal
import time

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from scripts import refusal, refused, run, start
from torchvision.datasets import FakeData
from training import assert_same_weights, cifar, read_log, train

import budgetnets
from budgetnets.verification import read_test_set

TINY = {"N": 2, "B": 1, "C": [8, 16]}


def train_options(out, *more, model_args=TINY):
    tiny = ["--model", "budget_resnet", "--model-args", json.dumps(model_args), "--data", "fake", "--limit", 256]
    return [*tiny, "--batch-size", 64, "--cpu", "--workers", 0, "--out", out, *more]


DROPOUT = TINY | {"drop_rate": 0.3, "drop_path_rate": 0.2}
RANDOM = ["--epochs", 4, "--sizes", "16x1", "--mixup", 0.4, "--cutmix", 1.0, "--cutout", 0.5, "--flip", "random"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run to its end with everything random that the recipe has."""
    out = tmp_path_factory.mktemp("train") / "run"
    run("train.py", *train_options(out, *RANDOM, model_args=DROPOUT))
    return out


def test_a_run_logs_every_epoch_and_draws_its_curves(finished):
    log = read_log(finished)
    assert [entry["epoch"] for entry in log["epochs"]] == [1, 2, 3, 4]
    for entry in log["epochs"]:
        assert 0 <= entry["train_top1"] <= 100
        assert 0 <= entry["eval_top1"] <= 100
        assert np.isfinite([entry["train_loss"], entry["eval_loss"], entry["lr"]]).all()
    assert log["params"] == budgetnets.count_params(*TINY.values())
    assert log["args"]["mixup"] == 0.4
    with Image.open(finished / "curves.png") as curves:
        assert curves.format == "PNG"


def test_the_first_epochs_can_have_smaller_images(finished):
    assert [entry["size"] for entry in read_log(finished)["epochs"]] == [16, 32, 32, 32]


def test_the_written_weights_load_into_the_network_and_reach_the_logged_accuracy(finished):
    assert fake_test_accuracy(finished) == pytest.approx(read_log(finished)["epochs"][-1]["eval_top1"], abs=1e-4)


def fake_test_accuracy(out):
    """Top-1 in percent of a run's weights on the noise images that stand for the test set."""
    model = budgetnets.build_resnet(**TINY).eval()
    model.load_state_dict(load_file(out / "model.safetensors"))
    transform = budgetnets.transforms(model)
    data = FakeData(256, (3, 32, 32), 10, random_offset=10**6)
    with torch.inference_mode():
        hits = model(torch.stack([transform(image) for image, _ in data])).argmax(1) == torch.tensor(
            [label for _, label in data]
        )
    return 100 * hits.float().mean().item()


def kill_after_an_epoch(process, out):
    deadline = time.monotonic() + 300
    while not (out / "checkpoint.pt").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "no checkpoint in five minutes"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_killed_run_resumes_to_the_same_weights(finished, tmp_path):
    options = train_options(tmp_path / "run", *RANDOM, model_args=DROPOUT)
    kill_after_an_epoch(start("train.py", *options), tmp_path / "run")
    assert 1 <= len(read_log(tmp_path / "run")["epochs"]) < 4

    output = run("train.py", *options, "--resume")
    assert "epoch 4" in output
    assert "epoch 1 " not in output
    assert_same_weights(finished, tmp_path / "run")
    seconds = {"train_seconds": 0}
    logs = [[entry | seconds for entry in read_log(out)["epochs"]] for out in (finished, tmp_path / "run")]
    assert logs[0] == logs[1]


@pytest.mark.slow
def test_the_fast_path_resumes_to_the_same_weights_too(tmp_path):
    options = ["--fast", "--auto-augment", "trivial", "--cutout", 0.5, "--epochs", 2]
    run("train.py", *train_options(tmp_path / "whole", *options))
    kill_after_an_epoch(start("train.py", *train_options(tmp_path / "parts", *options)), tmp_path / "parts")
    run("train.py", *train_options(tmp_path / "parts", *options, "--resume"))
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")


def test_a_second_run_in_the_same_folder_is_refused(finished):
    before = (finished / "model.safetensors").read_bytes()
    message = refusal("train.py", *train_options(finished, *RANDOM, model_args=DROPOUT))
    assert "already holds a run" in message
    assert "--resume" in message
    assert (finished / "model.safetensors").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("resume", [[], ["--resume"]], ids=["anew", "resumed"])
def test_of_two_runs_started_at_once_in_one_folder_one_is_refused(resume, tmp_path):
    options = train_options(tmp_path / "run", "--epochs", 30, *resume)
    both = [start("train.py", *options) for _ in range(2)]
    try:
        deadline = time.monotonic() + 300
        while all(process.poll() is None for process in both):
            assert time.monotonic() < deadline, "both run"
            time.sleep(0.01)
        (second,) = (process for process in both if process.poll() is not None)
        assert "another run is writing into it" in refused(second)
        (first,) = (process for process in both if process is not second)
        assert first.poll() is None
        first.send_signal(signal.SIGKILL)
        first.communicate()
    finally:
        for process in both:
            process.kill()
    run("train.py", *train_options(tmp_path / "run", "--epochs", 30, "--resume"))  # a killed run's claim is free
    assert len(read_log(tmp_path / "run")["epochs"]) == 30


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.safetensors", "checkpoint.pt"])
def test_a_full_disk_costs_an_epoch_and_the_run_resumes_to_the_same_weights(file, finished, tmp_path):
    out = tmp_path / "run"
    options = train_options(out, *RANDOM, model_args=DROPOUT)
    kill_after_an_epoch(start("train.py", *options), out)
    before = (out / "checkpoint.pt").read_bytes()
    room = (out / file).stat().st_size - 1
    message = refused(start("train.py", *options, "--resume", file_limit=room))
    assert f"cannot write {out}" in message
    assert "make room" in message
    assert (out / "checkpoint.pt").read_bytes() == before
    assert not list(out.glob("*.tmp"))
    run("train.py", *options, "--resume")
    assert_same_weights(finished, out)


def test_resuming_with_other_options_is_refused_and_names_them(finished):
    message = refusal("train.py", *train_options(finished, *RANDOM, "--lr", 0.3, "--resume", model_args=DROPOUT))
    assert re.search(r"\blr differ", message)


@pytest.mark.timeout(120)
def test_a_folder_without_cifar10_is_refused_with_what_was_expected(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()  # there, but empty: nothing is to be downloaded
    message = refusal("train.py", "--data", tmp_path, "--out", tmp_path / "run", "--cpu")
    assert f"expected {tmp_path / 'cifar-10-batches-py'}" in message
    assert "data_batch_1" in message


def test_a_folder_that_is_not_there_is_refused_and_not_made(tmp_path):
    message = refusal("train.py", "--data", tmp_path / "typo", "--out", tmp_path / "run", "--cpu")
    assert f"--data {tmp_path / 'typo'}: there is no such folder; expected a folder with cifar-10-batches-py" in message
    assert not (tmp_path / "typo").exists()


def test_choosing_by_the_test_set_is_refused(tmp_path):
    choices = [["--keep-best"], ["--early-stop", 3]]
    for process in [start("train.py", *train_options(tmp_path, *choice)) for choice in choices]:
        assert "add --holdout" in refused(process, status=2)


def test_a_diverging_run_ends_naming_step_and_learning_rate(tmp_path):
    many_updates = ["--batch-size", 8, "--lr", 1e30, "--warmup", 0, "--sched", "constant"]
    message = refusal("train.py", *train_options(tmp_path / "run", *many_updates))
    assert re.search(r"the loss is (nan|inf) at step 2, learning rate 1e\+30; lower --lr", message)


def test_weights_that_the_last_update_of_an_epoch_breaks_are_not_written(tmp_path):
    one_update = ["--batch-size", 256, "--lr", 1e30, "--warmup", 0, "--sched", "constant", "--ema", 0]
    message = refusal("train.py", *train_options(tmp_path / "run", *one_update))
    assert re.search(r"the loss is (nan|inf) at step 1, learning rate 1e\+30", message)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


@pytest.mark.slow
def test_the_test_set_can_be_watched_beside_a_holdout_and_chooses_nothing(tmp_path):
    options = ["--holdout", 64, "--keep-best", "--epochs", 4, "--lr", 0.05, "--ema", 0.5]
    run("train.py", *train_options(tmp_path / "alone", *options))
    run("train.py", *train_options(tmp_path / "watched", *options, "--test", "every"))
    alone, watched = (read_log(tmp_path / name) for name in ("alone", "watched"))
    assert [entry["eval_top1"] for entry in watched["epochs"]] == [entry["eval_top1"] for entry in alone["epochs"]]
    assert watched["epochs"][watched["kept_epoch"] - 1]["test_top1"] == watched["test_top1"] == alone["test_top1"]
    assert_same_weights(tmp_path / "alone", tmp_path / "watched")


def test_the_best_epoch_on_the_holdout_is_kept_and_the_test_set_waits_for_the_end(tmp_path):
    out = tmp_path / "run"
    choose = ["--holdout", 64, "--early-stop", 2, "--keep-best", "--epochs", 8]
    run("train.py", *train_options(out, *choose, "--lr", 0.05, "--ema", 0.5))
    log = read_log(out)
    accuracies = [entry["eval_top1"] for entry in log["epochs"]]
    best = accuracies.index(max(accuracies)) + 1
    assert log["evaluated_on"] == "holdout"
    assert log["kept_epoch"] == best
    assert len(accuracies) == min(8, best + 2)
    assert not any("test" in key for entry in log["epochs"] for key in entry)
    assert log["test_top1"] == pytest.approx(fake_test_accuracy(out), abs=1e-4)


@pytest.mark.slow
def test_the_test_set_can_be_left_alone(tmp_path):
    out = tmp_path / "run"
    run("train.py", *train_options(out, "--holdout", 64, "--epochs", 1, "--test", "never"))
    log = read_log(out)
    assert "eval_top1" in log["epochs"][-1]
    assert not any(name.startswith("test") for name in log)
    message = refusal("train.py", *train_options(tmp_path / "none", "--test", "never"), status=2)
    assert "add --holdout 5000" in message


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        ["--auto-augment", "rand-m6-n2", "--cpu" if torch.accelerator.is_available() else "--no-cpu"],
        ["--fast", "--auto-augment", "trivial", "--cutout", 1],
        ["--fast", "--asam", 0.5, "--clip", 1],  # by the sharpness of the whole batch, not of each process's share
    ],
    ids=["usual", "fast", "asam"],
)
def test_two_processes_reach_the_weights_of_one(tmp_path, path):
    """BatchNorm is frozen, since on a CPU each process normalizes by the images of its own."""
    options = ["--freeze-bn", *path, "--epochs", 2, "--lr", 0.02, "--ema", 0.9]
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    run("train.py", *train_options(tmp_path / "one", *options))
    run("train.py", *train_options(tmp_path / "two", *options), launcher=two)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-5)
        if "running_mean" in name:
            assert not one[name].any()
    logs = [read_log(tmp_path / name)["epochs"] for name in ("one", "two")]
    for entries in zip(*logs, strict=True):
        assert entries[0]["train_loss"] == pytest.approx(entries[1]["train_loss"], rel=1e-4)
        assert entries[0]["train_top1"] == entries[1]["train_top1"]


@pytest.mark.slow
@pytest.mark.parametrize("path", [["--ema", 0], ["--fast", "--ema", 0.5]], ids=["usual", "fast, averaged"])
def test_the_accuracy_that_two_processes_log_is_that_of_the_network_that_they_write(tmp_path, path):
    """Each of them normalizes by images of its own while it trains."""
    from accelerate import Accelerator

    two = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    options = ["--epochs", 1, "--lr", 0.5, "--warmup", 0, *path]
    run("train.py", *train_options(tmp_path / "run", *options), launcher=two)
    logged = read_log(tmp_path / "run")["epochs"][-1]
    arguments = list(map(str, train_options(tmp_path / "again", *options)))
    args, accelerator = train.parse_args(arguments), Accelerator(cpu=True)
    test = cifar.make_loaders(args, accelerator)[-1]
    model = budgetnets.create(f"local-dir:{tmp_path / 'run'}", pretrained=True)
    top1, loss = train.evaluate(model, test, accelerator)
    assert logged["eval_top1"] == pytest.approx(top1, abs=1e-4)
    assert logged["eval_loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.slow
def test_a_killed_and_resumed_run_on_real_images_learns_and_classifies(cifar10, tmp_path):
    out, letters = tmp_path / "run", {"N": 3, "B": 1, "C": [16, 32, 64]}
    options = ["--model", "budget_resnet", "--model-args", json.dumps(letters), "--data", cifar10, "--limit", 2000]
    options += ["--epochs", 8, "--batch-size", 50, "--cpu", "--workers", 0, "--out", out, "--eval-every", 8]
    kill_after_an_epoch(start("train.py", *options), out)
    run("train.py", *options, "--resume")
    assert read_log(out)["epochs"][-1]["eval_top1"] > 35  # of 2,000 test images; guessing gives 10

    model = budgetnets.build_resnet(**letters).eval()
    model.load_state_dict(load_file(out / "model.safetensors"))
    images, labels = read_test_set(cifar10)
    transform = budgetnets.transforms(model)
    batch = torch.stack([transform(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images[:500]])
    with torch.inference_mode():
        assert (model(batch).argmax(1) == labels[:500]).float().mean() > 0.3
