"""Claims about the table of compared recipes: whole runs on a hold-out alone, the best of each network first."""

import json

import pytest
import recipe_choice
import study_logs

GIVEN = study_logs.defaults() | {"model": "resnet9_cifar", "holdout": 5000, "test": "never", "epochs": 2}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe_choice, "LOGS", tmp_path)
    return tmp_path


def put(folder, name, top1, done=2, **changes):
    """Write a log as train.py does."""
    log = {"model": "resnet9_cifar", "evaluated_on": "holdout", "chosen_on": "nothing", "commit": "abc1234"}
    log |= {key: changes.pop(key) for key in [*log] if key in changes}
    log |= {"hardware": "1 x H100, 8 threads each", "args": GIVEN | {"model": log["model"]} | changes}
    log["epochs"] = [{"train_seconds": 90.0, "eval_top1": 10.0}] * (done - 1)
    log["epochs"] += [{"train_seconds": 90.0, "eval_top1": top1}]
    (folder / f"{name}.json").write_text(json.dumps(log))


def rows():
    return [line.strip("| ").split(" | ") for line in recipe_choice.section().splitlines()[2:] if line.startswith("|")]


def test_the_best_recipe_of_each_network_comes_first_with_the_options_that_it_departs_in(folder):
    put(folder, "a", 80.0, lr=0.05)
    put(folder, "b", 81.5, sizes="16x1", decay_all=True)
    put(folder, "c", 99.0, model="seresnet20_cifar")
    assert rows() == [
        ["`resnet9_cifar`", "`--sizes 16x1 --decay-all`", "0", "abc1234", "2", "3", "81.50"],
        ["`resnet9_cifar`", "`--lr 0.05`", "0", "abc1234", "2", "3", "80.00"],
        ["`seresnet20_cifar`", "the defaults", "0", "abc1234", "2", "3", "99.00"],
    ]
    assert recipe_choice.section().endswith("Hold-out of 5,000 training images; 1 x H100, 8 threads each.")


def test_the_last_epoch_counts_not_the_best(folder):
    put(folder, "a", 5.0)
    assert rows()[0][-1] == "5.00"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"done": 1}, "a.json has 1 of its 2 epochs; only whole runs are compared"),
        ({"test": "end"}, "a.json was not made with --holdout and --test never"),
        ({"evaluated_on": "test"}, "a.json was not made with --holdout and --test never"),
        ({"chosen_on": "holdout"}, "without choosing an epoch"),
    ],
)
def test_runs_that_would_not_be_a_fair_comparison_are_refused(folder, changes, message):
    put(folder, "a", 80.0, **changes)
    with pytest.raises(ValueError, match=message):
        recipe_choice.section()


def test_without_logs_the_page_says_so():
    assert recipe_choice.section() == "Nothing has been compared yet."
