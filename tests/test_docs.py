"""What the README and the documentation show is true: their code runs, their tables and links are fresh."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
NOT_RUN = "# not run in the tests"


def python_blocks(page):
    """Each block, and what the page says that it prints, where it does."""
    pattern = r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?"
    return re.findall(pattern, page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_runs_and_prints_what_is_shown(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = [(code, shown) for code, shown in python_blocks(page) if not code.startswith(NOT_RUN)]
    namespace = {"__name__": "__page__"}
    for code, shown in blocks:
        capsys.readouterr()
        exec(compile(code, str(page), "exec"), namespace)
        if shown:
            assert capsys.readouterr().out.split() == shown.split()  # long lines are wrapped on the page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_block_that_is_not_run_says_why(page):
    for code, _ in python_blocks(page):
        if code.startswith(NOT_RUN):
            assert re.match(NOT_RUN + r": \w+", code), code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_every_log_is_shown_by_a_page_or_read_by_the_code_that_makes_one():
    """Logs in these folders are tables' rows, all of them; a page has to name the others, or their curves."""
    shown = {"choice", "pruning", "schedulers", "reports"}
    pages = "".join(page.read_text() for page in PAGES)
    for path in (ROOT / "docs/logs").rglob("*.json"):
        name = path.relative_to(ROOT / "docs").as_posix()
        assert path.relative_to(ROOT / "docs/logs").parts[0] in shown or name.removesuffix("json") in pages, name


def test_the_generated_tables_are_fresh():
    command = [sys.executable, str(ROOT / "docs" / "make_tables.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_that_a_page_gives_to_a_script_exist(page):
    for script, line in re.findall(r"(examples/\w+\.py)((?:(?!examples/)[^\n`])*)", page.read_text()):
        source = (ROOT / script).read_text()
        for module in re.findall(r"^import (\w+)$", source, re.M):  # options may be declared beside the script
            beside = (ROOT / script).with_name(f"{module}.py")
            source += beside.read_text() if beside.exists() else ""
        for option in re.findall(r"--([a-z][a-z-]+)", line):
            known = option == "help" or f'"--{option}"' in source or f'("{option}",' in source
            assert known, f"{script} has no --{option}"


def last_epoch(path):
    """The last epoch of a log of docs/logs, and all of the log."""
    log = json.loads((ROOT / "docs" / path).read_text())
    return log["epochs"][-1], log


def test_the_experiments_page_compares_muon_with_sgd_as_the_logs_do():
    page = " ".join((ROOT / "docs/experiments.md").read_text().split())
    short = [
        last_epoch(f"logs/choice/budgetnet_100k.{name}.json")[0]["eval_top1"] for name in ("muon_c", "muon_b", "full_b")
    ]
    assert (
        "had {:.2f} % of the hold-out right, and with `--lr 0.012 --weight-decay 0.02` {:.2f}; SGD had {:.2f}".format(
            *short
        )
        in page
    )
    muon, sgd = (last_epoch(f"logs/budgetnet_100k_cifar.{name}_c10.json")[0] for name in ("muon73", "prog99"))
    assert f"{muon['epoch']} epochs with Muon ended at {muon['eval_top1']:.2f} %" in page
    assert f"{sgd['epoch']} with SGD at {sgd['eval_top1']:.2f} %" in page
    assert f"Muon had {muon['train_top1']:.1f} % right at the end and SGD {sgd['train_top1']:.1f}" in page
    grown, more = (last_epoch(f"logs/budgetnet_300k_cifar.{name}_c10.json") for name in ("grown34", "mean42"))
    assert f"had {grown[0]['eval_top1']:.2f} % (" in page
    assert f"after {grown[0]['epoch']} epochs with Muon, and {grown[0]['train_top1']:.1f} % of the training" in page
    assert f"{more[0]['epoch']} epochs more with cutout, smoothing and larger shifts ended at" in page
    assert f"(#means-of-two-trainings) has {more[1]['averaged']['eval_top1']:.2f}" in page


def test_the_experiments_page_compares_each_mean_with_its_two_trainings_as_the_logs_do():
    page = (ROOT / "docs/experiments.md").read_text()
    rows = re.findall(
        r"\| \[([\d.]+)\]\((\S+)\) \| ([\d.]+) \| ([\d.]+) \| \[(?:hold-out|test set)\]\((\S+)\) \|", page
    )
    assert len(rows) == 10
    for first, first_path, second, mean, path in rows:
        earlier, earlier_log = last_epoch(first_path)
        later, log = last_epoch(path)
        assert earlier_log["params"] == log["params"]
        assert first == f"{earlier['eval_top1']:.2f}"
        assert second == f"{later['eval_top1']:.2f}"
        assert mean == f"{log['averaged']['eval_top1']:.2f}"


def test_the_experiments_page_tells_what_going_on_gave_as_the_logs_do():
    page = (ROOT / "docs/experiments.md").read_text()
    linked = r"\[([\d.]+)\]\((\S+)\)"
    rows = re.findall(rf"\| {linked} \| (\d+) \| ([\d.]+) \| ([\d.]+) \| {linked} \|", page)
    assert len(rows) == 5
    for before, first, epochs, rate, cutout, after, second in rows:
        earlier, later = (json.loads((ROOT / "docs" / path).read_text()) for path in (first, second))
        assert earlier["params"] == later["params"]
        assert before == f"{earlier['epochs'][-1]['eval_top1']:.2f}"
        assert after == f"{later['epochs'][-1]['eval_top1']:.2f}"
        assert (int(epochs), float(rate)) == (len(later["epochs"]), later["args"]["lr"])
        assert float(cutout) == later["args"]["cutout"]


@pytest.mark.parametrize("page", ["weights.md", "training.md", "experiments.md"])
def test_a_figure_beside_its_log_is_that_of_the_last_epoch(page):
    text = (ROOT / "docs" / page).read_text()
    found = re.findall(r"([\d.]+) %(?: on the test set)?\s\(\[log\]\((logs/\S+\.json)\)", text)
    assert found
    for figure, path in found:
        assert figure == f"{json.loads((ROOT / 'docs' / path).read_text())['epochs'][-1]['eval_top1']:.2f}", path


def test_the_weights_page_tells_of_the_recipes_that_were_compared_as_the_logs_do():
    text = " ".join((ROOT / "docs/weights.md").read_text().split())
    logs = ROOT / "docs/logs/choice"

    def at(name, epoch, figure="eval_top1"):
        return json.loads((logs / f"{name}.json").read_text())["epochs"][epoch - 1][figure]

    cut = [len(json.loads(path.read_text())["epochs"]) for path in (logs / "cut").glob("*.json")]
    assert f"cut at {min(cut)} to {max(cut)} epochs" in text
    trivial, cutout = "cut/resnet9.trivial", "resnet9.cutout"
    assert f"at epoch 30 ({at(trivial, 30):.2f} and {at(cutout, 30):.2f} % on the hold-out" in text
    shares = at(trivial, 30, "train_top1"), at(cutout, 30, "train_top1")
    assert "with {:.0f} % of its training images right where cutout had {:.0f}".format(*shares) in text
    assert f"no better than cutout ({at('resnet9.cutmix', 40):.2f} and {at(cutout, 40):.2f} %)" in text
    for name, other in (("resnet9", cutout), ("budgetnet_300k", "budgetnet_300k.plain")):
        muon = f"cut/{name}.muon" + ("_cutout" if name == "resnet9" else "")
        assert f"{at(muon, 20):.2f} and {at(other, 20):.2f} % with `{name}_cifar`" in text


def test_the_reliability_page_lists_every_fault_that_is_tested():
    from test_hub_faults import FAULTS

    text = (ROOT / "docs" / "reliability.md").read_text()
    assert [name for name in FAULTS if name not in text] == []


def test_the_reliability_page_counts_its_tests_right():
    text = (ROOT / "docs" / "reliability.md").read_text()
    counts = dict(re.findall(r"^\| `(tests/\w+\.py)` \| (\d+) \|$", text, re.M))
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *counts]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120).stdout.splitlines()
    assert counts == {name: str(sum(line.startswith(f"{name}::") for line in listed)) for name in counts}
    assert len(counts) == 3
