"""Claims about the two comparisons beside train.py: pruning, as R1 tried it, and torch's schedulers, as R2 did."""

import json

import pytest
import torch
from training import option_checks, pruning, recipes, schedulers, train, words

pytestmark = pytest.mark.usefixtures("train_in_process")
TINY = """--model budget_resnet --model-args '{"N": 2, "B": 1, "C": [8, 16]}' --data fake --cpu --workers 0"""


# --- pruning.py


PRUNE = f"{TINY} --limit 128 --batch-size 64 --epochs 2 --no-pretrained"


def weights_of_the_network():
    """Of convolutions and the classifier: the stem, two blocks of two, a skip, and 16 to 10 classes."""
    return 3 * 8 * 9 + 2 * 8 * 8 * 9 + 8 * 16 * 9 + 16 * 16 * 9 + 8 * 16 + 16 * 10


def test_pruning_zeroes_the_smallest_weights_and_they_stay_zero(tmp_path, monkeypatch):
    seen = []
    finetune = pruning.finetune

    def note(model, *rest):
        before = [(m.weight_orig.detach().clone(), m.weight_mask.clone()) for m, _ in pruning.prunable(model)]
        finetune(model, *rest)
        seen.append((before, [m.weight.detach() for m, _ in pruning.prunable(model)]))

    monkeypatch.setattr(pruning, "finetune", note)
    pruning.main(words(PRUNE, "--shares 0.5 0.9 --out", tmp_path / "run"))
    log = json.loads((tmp_path / "run" / "pruning.json").read_text())
    assert [row["share"] for row in log["rows"]] == [0.5, 0.9]
    for row, (before, after) in zip(log["rows"], seen, strict=True):
        assert row["zeros"] == round(row["share"] * weights_of_the_network())
        dropped = torch.cat([weight[mask == 0].abs() for weight, mask in before])
        kept = torch.cat([weight[mask == 1].abs() for weight, mask in before])
        assert len(dropped) == row["zeros"]
        assert dropped.max() <= kept.min()
        for (weight, mask), now in zip(before, after, strict=True):
            assert not now[mask == 0].any()
            assert not mask.any() or not torch.equal(now[mask == 1], weight[mask == 1])
        assert all(0 <= row[key] <= 100 for key in ("pruned_top1", "finetuned_top1"))
    assert {"model", "params", "hardware", "commit", "evaluated_on", "top1"} <= log.keys()


def test_pruning_goes_on_after_the_last_share_and_refuses_other_options(tmp_path, capsys):
    pruning.main(words(PRUNE, "--shares 0.5 --out", tmp_path / "run"))
    first = json.loads((tmp_path / "run" / "pruning.json").read_text())
    with pytest.raises(SystemExit, match="already holds a run"):
        pruning.main(words(PRUNE, "--shares 0.5 0.9 --out", tmp_path / "run"))
    capsys.readouterr()
    pruning.main(words(PRUNE, "--shares 0.5 0.9 --resume --out", tmp_path / "run"))
    assert "50%" not in capsys.readouterr().out
    both = json.loads((tmp_path / "run" / "pruning.json").read_text())
    assert both["rows"][0] == first["rows"][0]
    pruning.main(words(PRUNE, "--shares 0.5 0.9 --out", tmp_path / "whole"))
    assert json.loads((tmp_path / "whole" / "pruning.json").read_text())["rows"] == both["rows"]
    with pytest.raises(SystemExit, match="lr differ from the run's own"):
        pruning.main(words(PRUNE, "--lr 0.5 --resume --out", tmp_path / "run"))
    (tmp_path / "run" / "pruning.json").write_text(json.dumps(both | {"data": "CIFAR-10"}))
    with pytest.raises(SystemExit, match="data differ from the run's own"):
        pruning.main(words(PRUNE, "--shares 0.5 0.9 --resume --out", tmp_path / "run"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--shares 0 --data fake", "must lie between 0 and 1"),
        ("--no-pretrained --data DIR", "random weights have nothing to lose"),
        ("--sched StepLR --warmup 0", "use one of timm's"),
    ],
)
def test_pruning_refuses_what_shows_nothing(options, said, tmp_path, capsys):
    with pytest.raises(SystemExit):
        pruning.main(words(options, "--out", tmp_path))
    assert said in capsys.readouterr().err


def test_pruning_refuses_options_that_it_would_not_use(tmp_path, capsys):
    with pytest.raises(SystemExit):
        pruning.main(words(PRUNE, "--asam 1 --cutmix 0.5 --out", tmp_path / "run"))
    assert "--asam, --cutmix: of no effect here" in capsys.readouterr().err.replace(
        "--cutmix, --asam", "--asam, --cutmix"
    )


# --- schedulers.py


COMPARE = f"{TINY} --limit 64 --holdout 32 --batch-size 16 --epochs 6"


def test_all_of_torchs_schedulers_that_need_no_code_are_compared():
    assert sorted(schedulers.schedules(15, 0.1)) == sorted(option_checks.OF_TORCH)


@pytest.mark.parametrize("name", sorted(set(option_checks.OF_TORCH) - {"ConstantLR", "ReduceLROnPlateau"}))
@pytest.mark.parametrize("epochs", [12, 15, 30])
def test_each_schedule_ends_at_less_than_half_of_its_highest_rate(name, epochs):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, **schedulers.schedules(epochs, 0.1)[name])
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert max(rates) == pytest.approx(0.1, rel=0.15)
    assert rates[-1] < max(rates) / 2


@pytest.mark.slow
def test_each_schedulers_run_is_a_row_and_a_repetition_trains_nothing_anew(tmp_path, monkeypatch, capsys):
    options = words(COMPARE, "--out", tmp_path)
    schedulers.main(options)
    result = json.loads((tmp_path / "schedulers.json").read_text())
    assert [row["scheduler"] for row in result["rows"]] == list(schedulers.schedules(6, 0.1))
    rates = {}
    for row in result["rows"]:
        log = json.loads((tmp_path / row["scheduler"] / "log.json").read_text())
        assert (row["holdout_top1"], row["test_top1"]) == (log["epochs"][-1]["eval_top1"], log["test_top1"])
        assert log["evaluated_on"] == "holdout"
        rates[row["scheduler"]] = [entry["lr"] for entry in log["epochs"]]
    assert rates["ConstantLR"] == [0.1] * 6
    changing = set(rates) - {"ConstantLR", "ReduceLROnPlateau"}
    assert all(len(set(rates[name])) > 1 for name in changing), rates
    assert capsys.readouterr().out.count("hold-out") == len(rates)

    monkeypatch.setattr(train, "main", lambda argv: pytest.fail("a finished run was started again"))
    assert (result["args"]["lr"], result["args"]["limit"]) == (0.1, 64)
    assert not {"data", "out", "sched"} & result["args"].keys()  # no paths, and nothing that the rows differ in
    schedulers.main(options)
    assert json.loads((tmp_path / "schedulers.json").read_text()) == result
    with pytest.raises(SystemExit, match="was run with another lr"):
        schedulers.main([*options, "--lr", "0.2"])
    path = tmp_path / "StepLR" / "log.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data": "CIFAR-10"}))
    with pytest.raises(SystemExit, match="StepLR was run with another data"):
        schedulers.main(options)


def test_a_comparison_that_was_stopped_goes_on_with_the_run_it_was_in(tmp_path, monkeypatch):
    monkeypatch.setattr(schedulers, "schedules", lambda epochs, rate: {"OneCycleLR": {"max_lr": 0.1, "total_steps": 6}})
    schedulers.main(words(COMPARE, "--out", tmp_path / "whole"))
    step = recipes.Schedule.after_epoch

    def stop(self, entry):
        if entry["epoch"] == 3:
            raise InterruptedError
        step(self, entry)

    with monkeypatch.context() as patch:
        patch.setattr(recipes.Schedule, "after_epoch", stop)
        with pytest.raises(InterruptedError):
            schedulers.main(words(COMPARE, "--out", tmp_path / "parts"))
    schedulers.main(words(COMPARE, "--out", tmp_path / "parts"))
    whole, parts = (json.loads((tmp_path / name / "schedulers.json").read_text()) for name in ("whole", "parts"))
    assert parts["rows"] == whole["rows"]


def test_a_diverging_scheduler_is_a_row_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(schedulers, "schedules", lambda epochs, rate: {"ConstantLR": {"factor": 1.0}})
    schedulers.main(words(COMPARE, "--lr 1e30 --out", tmp_path))
    (row,) = json.loads((tmp_path / "schedulers.json").read_text())["rows"]
    assert row["stopped"].startswith("the loss is")
    assert "holdout_top1" not in row


def test_what_one_scheduler_refuses_is_said_before_any_is_trained(tmp_path, monkeypatch):
    plateau = {"ConstantLR": {"factor": 1.0}, "ReduceLROnPlateau": {"watch": "eval_loss"}}
    monkeypatch.setattr(schedulers, "schedules", lambda epochs, rate: plateau)
    with pytest.raises(SystemExit):
        schedulers.main(words(COMPARE, "--eval-every 2 --out", tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", ["--test never", "--early-stop 2", "--keep-best"])
def test_a_comparison_of_other_epochs_than_the_last_is_refused(options, tmp_path):
    with pytest.raises(SystemExit, match="the last epoch of each scheduler is compared"):
        schedulers.main(words(COMPARE, options, "--out", tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", ["--sched StepLR", """--sched-args '{"step_size": 7}'"""])
def test_a_schedule_beside_those_that_are_compared_is_refused(options, tmp_path):
    with pytest.raises(SystemExit, match="leave out --sched and --sched-args"):
        schedulers.main(words(COMPARE, options, "--out", tmp_path))


def test_the_schedulers_are_not_compared_on_the_test_set(tmp_path):
    with pytest.raises(SystemExit, match="use --holdout 5000"):
        schedulers.main(words(COMPARE, "--holdout 0 --out", tmp_path))
