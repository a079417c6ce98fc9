"""Claims about examples/average.py: the mean of the weights, statistics of its own, and a folder like a run's."""

import argparse

import pytest
import torch
from training import OF_TIMM, TINY, average, cifar, fast_data, grow, read_log, run, weights

import budgetnets

pytestmark = pytest.mark.usefixtures("train_in_process")


@pytest.fixture
def runs(tmp_path):
    for seed in (1, 2):
        run(tmp_path / f"run{seed}", f"{TINY} --epochs 1 --seed {seed}")
    return [str(tmp_path / "run1"), str(tmp_path / "run2")]


def averaged(*options):
    average.main([*map(str, options), "--data", "fake", "--cpu"])


def test_the_weights_are_the_mean_and_the_statistics_are_those_of_the_training_images(runs, tmp_path):
    averaged(*runs, "--out", tmp_path / "both")
    first, second, mean = (weights(tmp_path / name) for name in ("run1", "run2", "both"))
    for name, tensor in mean.items():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(tensor, (first[name] + second[name]) / 2)
    model = budgetnets.build_resnet(N=2, B=1, C=[8, 16])
    model.load_state_dict(mean)
    args = argparse.Namespace(**read_log(tmp_path / "run1")["args"], data="fake")
    images, kept, _, _ = cifar.split_images(args, 1)
    pixels = fast_data.normalize(fast_data.to_device(images, kept, "cpu")[0] / 255)
    with torch.no_grad():
        maps = model.stem.conv(pixels)
    torch.testing.assert_close(model.stem.norm.running_mean, maps.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.stem.norm.running_var, maps.var((0, 2, 3)), rtol=1e-3, atol=1e-5)


def test_the_log_says_what_was_averaged_and_what_it_reached(runs, tmp_path, capsys):
    averaged(*runs, "--out", tmp_path / "both", "--images", 64)
    log = read_log(tmp_path / "both")
    assert log["epochs"] == read_log(tmp_path / "run2")["epochs"]
    assert (log["averaged"]["of"], log["averaged"]["images"]) == (runs, 64)
    assert f"{log['averaged']['eval_top1']:.2f} % on the test set" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "both").iterdir() if path.name[0] != ".") == [
        *("config.json", "curves.png", "log.json", "model.safetensors")
    ]


def test_a_training_goes_on_from_the_mean(runs, tmp_path):
    averaged(*runs, "--out", tmp_path / "both")
    letters = ["budget_resnet", "--model-args", '{"N": 2, "B": 1, "C": [8, 16]}']
    grow.main([*letters, "--start", str(tmp_path / "both"), "--out", str(tmp_path / "start.safetensors")])
    assert (tmp_path / "start.safetensors").exists()


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ([], "alone has no mean; give two trainings or more"),
        (["run1"], "is given twice"),
        (["wider"], "built differently have no mean"),
        (["timms"], "built differently have no mean"),
        (["fewer"], "their limit is 128, 64; average what has the same"),
        (["nothing"], "as a variant: unknown variant"),
        (["run2", "--images", "0"], "--images 0 is out of range"),
    ],
)
def test_what_has_no_mean_is_refused_and_nothing_is_written(second, said, runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made = {"wider": TINY.replace("[8, 16]", "[16, 16]"), "fewer": TINY.replace("--limit 128", "--limit 64")}
    made["timms"] = OF_TIMM.replace("--limit 64", "--limit 128")
    if second and second[0] in made:
        run(tmp_path / second[0], made[second[0]], "--epochs 1")
    with pytest.raises(SystemExit) as stopped:
        averaged("run1", *second, "--out", "out")
    assert said in f"{stopped.value} {capsys.readouterr().err}"
    assert not (tmp_path / "out" / "log.json").exists()


def test_no_training_writes_over_a_mean(runs, tmp_path):
    averaged(*runs, "--out", tmp_path / "both")
    with pytest.raises(SystemExit, match="already holds a run"):
        run(tmp_path / "both", TINY, "--epochs 1 --seed 5")
    with pytest.raises(SystemExit, match="already holds a run"):
        averaged(*runs, "--out", tmp_path / "both")


def test_the_last_must_have_a_log(tmp_path):
    with pytest.raises(SystemExit, match=r"resnet9_cifar has no log.json; the last must be the folder of a run"):
        averaged("seresnet20_cifar", "resnet9_cifar", "--out", tmp_path / "out")
