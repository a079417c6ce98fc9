"""Claims about the study of the reports: what its pages say follows from logs, and nothing else is said."""

import importlib.util
import json
from pathlib import Path

import pytest
import study_logs
from lessons_page import page as lessons
from lessons_page import verdict
from reproduction_page import page as reproduction

from budgetnets.variants import VARIANTS

RECIPES = study_logs.recipes.load()
STUDY = """\
last-epoch = ["R0"]
[findings]
R2 = "All epochs give {best[R2-full]} %."
[[questions]]
asks = "Was it the epochs?"
runs = ["R2", "R2-full"]
[[lessons]]
choice = "Depth"
with = "R3-V2-sgd-deep"
without = "R3-V2-sgd"
"""
NO_FINDING = STUDY.replace('R2 = "All epochs give {best[R2-full]} %."\n', "")


def write_log(folder, name, accuracies, seed=0, **changes):
    """Write the log of a run of a recipe whose last epochs have these accuracies on the test set, the others 10 %."""
    args = study_logs.defaults()
    args |= study_logs.recipes.values(name, RECIPES[name], args) | {"recipe": name, "seed": seed} | changes
    for key in study_logs.recipes.NOT_THE_RECIPE:
        args.pop(key)
    key = "test_top1" if args["holdout"] else "eval_top1"
    values = [10.0] * (args["epochs"] - len(accuracies)) + accuracies
    entries = [{"epoch": i, key: value} for i, value in enumerate(values, 1)]
    log = {"model": args["model"], "args": args, "hardware": "1 x test", "commit": "abc1234", "epochs": entries}
    log |= {"data": "CIFAR-10"}
    if args["holdout"]:
        log |= {"kept_epoch": args["epochs"], "test_top1": accuracies[-1]}
    folder.mkdir(exist_ok=True)
    path = folder / (f"{name}.seed{seed}.json" if seed else f"{name}.json")
    path.write_text(json.dumps(log))
    return path


def study_of(tmp_path, text=NO_FINDING):
    (tmp_path / "study.toml").write_text(text)
    return study_logs.read_study(tmp_path / "logs", tmp_path / "study.toml")


def row(page, name):
    """The cells of the first row of a run."""
    line = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


# --- the pages as they are


def test_every_figure_of_the_pages_has_a_log():
    study = study_logs.read_study()
    page = reproduction(study)
    for name, recipe in RECIPES.items():
        cells = row(page, name)
        assert ("not run" in cells) == (name not in study.runs)
        if "like" not in recipe:
            assert cells[1] == f"[`{recipe['model']}`](models.md#{recipe['model']})"
    assert all(name in page for name in (recipe["model"] for recipe in RECIPES.values() if "like" not in recipe))


def test_the_page_lists_all_of_the_reports_runs_and_those_beyond_them_apart():
    first, second = reproduction(study_logs.read_study()).split("## Runs beyond the reports'")
    table = first.split("## The reports' runs")[1].split("## More")[0]
    listed = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    assert listed == [name for name, recipe in RECIPES.items() if "like" not in recipe]
    listed = [line.split("`")[1] for line in second.splitlines() if line.startswith("| `")]
    assert listed == [name for name, recipe in RECIPES.items() if "like" in recipe]


def test_the_reported_figures_are_those_of_the_zoos_table():
    page = reproduction(study_logs.read_study())
    for variant in VARIANTS.values():
        for reported in variant.reported:
            assert row(page, reported.run)[5] == f"{reported.top1:.2f}"
    assert row(page, "R3-50")[5] == "none"


def test_every_run_beyond_the_reports_belongs_to_a_question_or_a_lesson():
    text = study_logs.read_study().text
    named = {name for question in text["questions"] for name in question["runs"]}
    named |= {lesson[side] for lesson in text["lessons"] for side in ("with", "without")}
    assert [name for name, recipe in RECIPES.items() if "like" in recipe and name not in named] == []


# --- logs


def test_a_log_becomes_a_row_with_best_and_last_epoch(tmp_path):
    write_log(tmp_path / "logs", "R2", [80.0, 88.5, 87.25])
    page = reproduction(study_of(tmp_path))
    assert row(page, "R2")[4:] == ["1", "85.39", "88.50 (29)", "87.25", "+3.11"]
    assert row(page, "R2-plain")[4:] == ["", "85.39", "not run", "not run", ""]
    assert "**1 of the 23** runs" in page
    assert "- `R2`, +3.11: not explained yet." in page
    assert "not run yet is `R2-full`." in page
    assert "reproduction.svg" in page


def test_r0_is_compared_at_the_last_epoch_and_its_hold_out_is_not_the_test_set(tmp_path):
    path = write_log(tmp_path / "logs", "R0-sgd", [93.0, 92.0])
    assert row(reproduction(study_of(tmp_path)), "R0-sgd")[5:] == ["92.38", "93.00 (99)", "92.00", "-0.38"]
    log = json.loads(path.read_text())
    log["epochs"] = [{"epoch": entry["epoch"], "eval_top1": 99.0} for entry in log["epochs"]]
    path.write_text(json.dumps(log))
    assert row(reproduction(study_of(tmp_path)), "R0-sgd")[5:] == ["92.38", "not logged", "92.00", "-0.38"]


def test_a_run_that_keeps_its_best_epoch_is_compared_by_what_that_is_measured_at_once_more(tmp_path):
    path = write_log(tmp_path / "logs", "R4", [91.0, 91.27, 91.1])
    log = json.loads(path.read_text()) | {"kept_epoch": 199, "test_top1": 90.74}  # on other augmented test images
    path.write_text(json.dumps(log))
    assert row(reproduction(study_of(tmp_path)), "R4")[5:] == ["90.74", "90.74 (199)", "91.10", "+0.00"]


def test_several_seeds_are_averaged(tmp_path):
    for seed, last in enumerate([94.0, 94.2, 95.0]):
        write_log(tmp_path / "logs", "R3-V2-sgd", [last + 0.3, last], seed)
    cells = row(reproduction(study_of(tmp_path)), "R3-V2-sgd")
    assert cells[4:] == ["3", "94.21", "94.70", "94.40", "+0.49"]


def test_a_finding_has_the_figures_of_the_logs_it_rests_on(tmp_path):
    write_log(tmp_path / "logs", "R2", [88.5])
    with pytest.raises(ValueError, match="the finding on R2 quotes 'R2-full', of which reports has no log"):
        reproduction(study_of(tmp_path, STUDY))
    write_log(tmp_path / "logs", "R2-full", [95.5, 95.25])
    page = reproduction(study_of(tmp_path, STUDY))
    assert "- `R2`, +3.11: All epochs give 95.50 %." in page
    assert "All its runs are made; the answer is not written yet." in page


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (STUDY.replace("{best[R2-full]}", "95.5"), "has the figure '95.5' typed in; quote a run"),
        (STUDY.replace("{best[R2-full]} %", "96 %"), "has the figure '96 %' typed in"),
        (STUDY.replace("R2 = ", "R1 = "), "has a finding on R1, which no log shows"),
        (STUDY.replace('runs = ["R2"', 'runs = ["R9"'), "names R9, and there is no such recipe"),
        (NO_FINDING.replace("runs =", 'answer = "Yes."\nruns ='), "without a log of `R2-full`; add it first"),
    ],
)
def test_what_no_log_shows_cannot_be_said(text, said, tmp_path):
    write_log(tmp_path / "logs", "R2", [88.5])
    with pytest.raises(ValueError, match=said):
        reproduction(study_of(tmp_path, text))


def test_an_answer_stands_over_its_runs(tmp_path):
    for name in ("R2", "R2-full"):
        write_log(tmp_path / "logs", name, [85.0])
    answer = 'answer = "Of {reported[R2]} %, {last[R2]} % are found."\nruns ='
    assert "Of 85.39 %, 85.00 % are found." in reproduction(study_of(tmp_path, NO_FINDING.replace("runs =", answer)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"limit": 500}, "departs from the recipe R2 in limit"),
        ({"lr": 0.2, "mixup": 0.4}, "departs from the recipe R2 in lr, mixup"),
        ({"recipe": "R9"}, "of recipe 'R9', which there is not"),
        ({"seed": 3}, r"of R2 with seed 3; name it R2\.seed3\.json"),
    ],
)
def test_a_log_of_another_run_is_refused(change, said, tmp_path):
    path = write_log(tmp_path / "logs", "R2", [88.0])
    log = json.loads(path.read_text())
    log["args"] |= change
    path.write_text(json.dumps(log))
    with pytest.raises(ValueError, match=said):
        study_of(tmp_path)


def test_a_log_of_a_run_on_noise_is_refused(tmp_path):
    path = write_log(tmp_path / "logs", "R2", [88.0])
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data": "fake"}))
    with pytest.raises(ValueError, match=r"R2\.json was trained on fake images"):
        study_of(tmp_path)


def test_a_log_of_half_a_run_is_refused_and_the_fast_path_is_not(tmp_path):
    path = write_log(tmp_path / "logs", "R2", [88.0], fast=True, precision="bf16")
    study_of(tmp_path)
    log = json.loads(path.read_text())
    log["epochs"].pop()
    path.write_text(json.dumps(log))
    with pytest.raises(ValueError, match="has 29 of 30 epochs; go on with the run"):
        study_of(tmp_path)


def test_runs_made_in_different_ways_are_not_compared(tmp_path):
    write_log(tmp_path / "logs", "R2", [88.0], fast=True)
    write_log(tmp_path / "logs", "R1", [88.0])
    with pytest.raises(ValueError, match=r"R2.json has fast True, R1.json False; train all in one way"):
        study_of(tmp_path)


# --- lessons


def test_a_lesson_gives_both_runs_their_spread_and_their_difference(tmp_path):
    for seed in range(3):
        write_log(tmp_path / "logs", "R3-V2-sgd", [94.0 + seed / 10], seed)
        write_log(tmp_path / "logs", "R3-V2-sgd-deep", [95.0 + seed / 10], seed)
    page = lessons(study_of(tmp_path))
    with_it, without = "`R3-V2-sgd-deep`: 95.10 +- 0.10 (3 seeds)", "`R3-V2-sgd`: 94.10 +- 0.10 (3 seeds)"
    assert f"| Depth | {with_it} | {without} | +1.00 | pays |" in page


def test_without_runs_a_lesson_says_nothing(tmp_path):
    assert "| Depth | `R3-V2-sgd-deep`: not run | `R3-V2-sgd`: not run |  | not run |" in lessons(study_of(tmp_path))


@pytest.mark.parametrize(
    ("with_it", "without", "said"),
    [
        ([95.0, 95.1], [94.0, 94.1, 94.2], "fewer than three seeds, no claim"),
        ([95.0, 95.1, 95.2], [94.0, 94.1, 94.2], "pays"),
        ([94.0, 94.1, 94.2], [95.0, 95.1, 95.2], "costs"),
        ([94.0, 95.0, 94.5], [94.1, 95.1, 94.6], "no difference shown"),
        ([94.0, 94.1, 94.2], [94.19, 94.29, 94.39], "no difference shown"),  # 2.3 errors, of six figures
        ([94.0, 94.0, 94.0], [95.0, 95.1, 95.2], "no spread over the seeds, no claim"),
    ],
)
def test_a_difference_within_the_spread_is_none(with_it, without, said):
    assert verdict(with_it, without) == said


# --- curves


@pytest.mark.skipif(not importlib.util.find_spec("matplotlib"), reason="pip install 'budgetnets[train]'")
def test_the_curves_are_drawn_from_the_logs_and_are_the_same_each_time(tmp_path):
    from draw_reproduction import draw

    write_log(tmp_path / "logs", "R2", [80.0, 88.5, 87.25])
    write_log(tmp_path / "logs", "R3-V2-sgd", [94.0])
    pictures = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for path in pictures:
        draw(study_of(tmp_path), path)
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
    text = pictures[0].read_text()
    for name in ("R2", "R3-V2-sgd"):
        assert f"<!-- {name} -->" in text
    assert "<!-- R1 -->" not in text


def test_the_page_shows_curves_that_are_there():
    page = reproduction(study_logs.read_study())
    assert ("reproduction.svg" in page) == (Path(__file__).parent.parent / "docs" / "reproduction.svg").exists()
