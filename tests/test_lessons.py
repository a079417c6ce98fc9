"""Claims about the lessons: what the short trainings and the two comparisons gave is told as it was."""

import json
from dataclasses import replace

import comparison_tables
import numpy as np
import pytest
import short_trainings
from findings import finding

from budgetnets import ResNetSpec

RUNS = json.loads(short_trainings.RUNS.read_text())


def trained(accuracy, noise=1.0):
    """The rows of the real table with other accuracies: a function of the network, and noise."""
    rng = np.random.default_rng(0)
    rows = []
    for row in RUNS["rows"]:
        made = accuracy(ResNetSpec.from_dict(row["spec"]), row) + rng.normal(0, noise)
        rows.append(row | {"accuracy": made})
    return rows


# --- the short trainings


def test_what_was_planted_is_found():
    def accuracy(spec, row):
        return 50 + 3 * (spec.skip_kernel_sizes[0] == 3) - 4 * (spec.se == "stem") + 2 * np.log2(row["params"])

    planted = dict.fromkeys([*short_trainings.CHOICES, *short_trainings.COSTS], 0.0)
    planted |= {"A skip kernel of 3, not 1": 3.0, "Squeeze-and-excitation, one after the stem": -4.0}
    planted["Twice the parameters, at equal multiply-adds"] = 2.0
    found = short_trainings.effects(trained(accuracy))
    assert found.keys() == planted.keys()
    for name, effect in found.items():
        assert abs(effect.points - planted[name]) < 3 * effect.error, name
        assert 0 < effect.error < 0.6
        if planted[name]:
            assert finding(*effect) == ("pays" if planted[name] > 0 else "costs")


def test_without_noise_the_effects_are_exact():
    found = short_trainings.effects(trained(lambda spec, row: 5 * spec.num_layers - np.log2(row["macs"]), noise=0))
    assert found["One layer more, which halves the map once more"].points == pytest.approx(5)
    assert found["Twice the multiply-adds, at equal parameters"].points == pytest.approx(-1)
    assert found["Kernels of 5, not 3"].points == pytest.approx(0, abs=1e-6)


def test_more_seeds_of_a_network_are_no_more_networks():
    rows = trained(lambda spec, row: 60.0)
    once, thrice = short_trainings.effects(rows), short_trainings.effects(rows * 3)
    assert all(once[name] == pytest.approx(thrice[name]) for name in once)


def test_a_training_that_diverged_is_left_out():
    rows = trained(lambda spec, row: 60.0)
    assert short_trainings.effects([*rows, rows[0] | {"accuracy": None}]) == short_trainings.effects(rows)


def test_too_few_networks_say_nothing():
    with pytest.raises(ValueError, match="5 trained networks do not tell 9 choices apart; train more"):
        short_trainings.effects(RUNS["rows"][:5])


def test_networks_that_never_differ_in_a_choice_say_nothing_of_it():
    rows = []
    for row in RUNS["rows"]:
        spec = replace(ResNetSpec.from_dict(row["spec"]), se=None)
        rows.append(row | {"spec": spec.to_dict()})
    with pytest.raises(ValueError, match="do not tell 9 choices apart"):
        short_trainings.effects(rows)


@pytest.mark.parametrize(
    ("points", "error", "said"),
    [(2.1, 1.0, "pays"), (-2.1, 1.0, "costs"), (2.0, 1.0, "no difference shown"), (-1.0, 1.0, "no difference shown")],
)
def test_a_difference_within_twice_its_error_is_none(points, error, said):
    assert finding(points, error) == said


# --- pruning and schedulers


@pytest.fixture
def logs(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison_tables, "LOGS", tmp_path)
    return tmp_path


def put(path, log):
    path.parent.mkdir(exist_ok=True)
    shared = {"model": "budget_resnet", "params": 12_345, "hardware": "1 x test", "commit": "abc1234"}
    args = comparison_tables.defaults() | {"epochs": 3, "limit": 64, "seed": log.pop("seed", 0)}
    path.write_text(json.dumps(shared | {"args": args} | log))


def cells(paragraphs):
    """The table's rows, without its header."""
    (table,) = (part for part in paragraphs if part.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def scheduled(*figures):
    """Rows of schedulers.json: name, accuracy on the hold-out, accuracy on the test set or None where it diverged."""
    rows = []
    for name, holdout, test in figures:
        figures = {"holdout_top1": holdout, "test_top1": test, "commit": "abc1234"}
        result = {"stopped": "the loss is nan"} if holdout is None else figures
        rows.append({"scheduler": name, "arguments": {"gamma": 0.5, "step_size": 2}} | result)
    return rows


def test_pruning_is_told_before_and_after_fine_tuning(logs):
    row = {"share": 0.5, "zeros": 6_000, "pruned_top1": 81.5, "finetuned_top1": 91.25}
    put(logs / "pruning" / "any.json", {"top1": 92.0, "rows": [row]})
    parts = comparison_tables.pruning()
    assert cells(parts) == [["none", "", "92.00", ""], ["50%", "6,000", "81.50", "91.25"]]
    assert (
        parts[-1]
        == "Fine-tuned by `--epochs 3 --limit 64`; one seed. 1 x test; commit abc1234, with the weights shipped then."
    )


def test_the_best_scheduler_on_the_hold_out_comes_first_with_its_spread_over_seeds(logs):
    first = scheduled(("StepLR", 80.0, 79.0), ("LinearLR", 90.0, 70.0), ("ConstantLR", 9.0, 99.0))
    second = scheduled(("StepLR", 82.0, 79.0), ("LinearLR", 91.0, 70.0), ("ConstantLR", None, None))
    put(logs / "schedulers" / "a.json", {"rows": first})
    put(logs / "schedulers" / "b.json", {"rows": second, "seed": 1})
    arguments = "`gamma=0.5, step_size=2`"
    assert cells(comparison_tables.schedulers()) == [
        ["`LinearLR`", arguments, "90.50 +- 0.71 (2 seeds)", "70.00 +- 0.00 (2 seeds)"],
        ["`StepLR`", arguments, "81.00 +- 1.41 (2 seeds)", "79.00 +- 0.00 (2 seeds)"],
        ["`ConstantLR`", arguments, "diverged with 1 of 2 seeds", "diverged with 1 of 2 seeds"],
    ]
    assert comparison_tables.schedulers()[-1] == "1 x test; commit abc1234."


def test_comparisons_under_different_recipes_are_not_mixed(logs):
    put(logs / "schedulers" / "a.json", {"rows": scheduled(("StepLR", 80.0, 79.0))})
    put(logs / "schedulers" / "b.json", {"rows": scheduled(("StepLR", 90.0, 89.0)), "model": "resnet9_cifar"})
    tables = [part for part in comparison_tables.schedulers() if part.startswith("|")]
    assert ["80.00 (1 seed)" in table for table in tables] == [True, False]
    assert ["90.00 (1 seed)" in table for table in tables] == [False, True]


def test_schedules_with_other_arguments_are_not_mixed(logs):
    rows = scheduled(("StepLR", 80.0, 79.0))
    put(logs / "schedulers" / "a.json", {"rows": rows})
    put(logs / "schedulers" / "b.json", {"rows": [rows[0] | {"arguments": {"gamma": 0.1}}], "seed": 1})
    assert sum("80.00 (1 seed)" in part for part in comparison_tables.schedulers()) == 2


def test_without_logs_the_page_says_so(logs):
    assert comparison_tables.pruning() == comparison_tables.schedulers() == ["Not run yet."]
