"""Claims about what may become bundled weights: whole runs on all images that beat the report."""

import json
import sys

import pytest
from safetensors.torch import save_file

import budgetnets

pytest.importorskip("accelerate", reason="pip install 'budgetnets[train]'")
import bundle_weights

ARGS = {"epochs": 2, "holdout": 0, "limit": 0, "mean": "0.4914,0.4822,0.4465", "std": "0.2470,0.2435,0.2616"}
BETTER = [{"eval_top1": 91.0}, {"eval_top1": 99.0}]


@pytest.fixture
def refusal(tmp_path, monkeypatch, capsys):
    """Return what is said of a run that is refused, in a folder that is then as it was."""

    def say(run):
        words = [str(run), "--tag", "any_c10", "--data", str(tmp_path), "--out", str(tmp_path / "weights")]
        monkeypatch.setattr(sys, "argv", ["bundle_weights.py", *words])
        with pytest.raises(SystemExit) as exit_:
            bundle_weights.main()
        assert exit_.value.code == 2
        assert [path.name for path in tmp_path.iterdir()] == ["run"]
        return capsys.readouterr().err

    return say


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": [{"eval_top1": 99.0}]}, "has 1 of 2 epochs; only the last epoch counts"),
        (
            {"args": {"epochs": 2, "holdout": 5000, "limit": 0}},
            "not trained on all images; leave --holdout and --limit",
        ),
        ({"args": {"epochs": 2, "holdout": 0, "limit": 100}}, "not trained on all images; leave --holdout and --limit"),
        ({"evaluated_on": "augmented test"}, "was evaluated on augmented test"),
        ({"chosen_on": "test"}, "its epoch chosen on test; a published figure is that of the last epoch"),
        (
            {"args": ARGS | {"std": "0.2023,0.1994,0.2010"}, "epochs": BETTER},
            "has --mean or --std of its own; the zoo's weights take (0.4914, 0.4822, 0.4465)",
        ),
        ({}, "reached 91.46 %, and the report 91.46 %; train it for longer"),
        ({"model": "budget_resnet"}, "trained no variant (unknown variant 'budget_resnet'"),
    ],
)
def test_a_run_that_may_not_be_published_is_refused_before_anything_is_written(changes, said, tmp_path, refusal):
    log = {"model": "resnet34_deep8_alt_cifar", "evaluated_on": "test", "chosen_on": "nothing"}
    log["args"] = ARGS
    log["epochs"] = [{"eval_top1": 99.0}, {"eval_top1": 91.46}]
    run = tmp_path / "run"
    run.mkdir()
    (run / "log.json").write_text(json.dumps(log | changes))
    (run / "model.safetensors").touch()
    (run / "curves.png").touch()
    assert said in refusal(run)


@pytest.mark.parametrize("lacking", ["log.json", "model.safetensors", "curves.png"])
def test_a_folder_that_is_no_whole_run_is_refused(lacking, tmp_path, refusal):
    run = tmp_path / "run"
    run.mkdir()
    for name in {"log.json", "model.safetensors", "curves.png"} - {lacking}:
        (run / name).touch()
    assert f"{run} holds no {lacking}; give the folder of a run that" in refusal(run)


def test_a_folder_without_the_test_set_leaves_nothing_behind(tmp_path, refusal):
    run = tmp_path / "run"
    run.mkdir()
    log = {"model": "resnet34_deep8_alt_cifar", "evaluated_on": "test", "chosen_on": "nothing"}
    (run / "log.json").write_text(json.dumps(log | {"args": ARGS, "epochs": BETTER}))
    save_file(budgetnets.create("resnet34_deep8_alt_cifar").state_dict(), run / "model.safetensors")
    (run / "curves.png").touch()
    assert "cifar-10-python.tar.gz" in refusal(run)
