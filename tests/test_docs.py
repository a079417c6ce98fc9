"""What the README and the documentation show is true: their code runs, their tables and links are fresh."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from budgetnets.variants import VARIANTS

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
    if any("pretrained=True" in code for code, _ in blocks) and not VARIANTS["resnet9_cifar"].weights:
        pytest.skip("resnet9_cifar has no weights yet")
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


def test_the_training_page_compares_muon_with_sgd_as_the_logs_do():
    page = (ROOT / "docs/training.md").read_text()

    def last(name):
        return json.loads((ROOT / f"docs/logs/{name}.json").read_text())["epochs"][-1]

    for name in ("muon_c", "muon_b", "full_b"):
        assert f" {last(f'choice/budgetnet_100k.{name}')['eval_top1']:.2f}" in page
    larger, smaller = "budgetnet_300k_cifar", "budgetnet_100k_cifar"
    for name in (f"{smaller}.muon73_c10", f"{smaller}.prog99_c10", f"{larger}.grown34_c10", f"{larger}.mean42_c10"):
        epoch = last(name)
        assert f"{epoch['epoch']} " in page
        assert f" {epoch['eval_top1']:.2f}" in page
        if "mean42" not in name:  # of images with squares cut out, the share that is right says little
            assert f" {epoch['train_top1']:.1f}" in page


def test_the_training_page_compares_each_mean_with_its_two_trainings_as_the_logs_do():
    page = (ROOT / "docs/training.md").read_text()
    rows = re.findall(r"\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| \[(?:hold-out|test set)\]\((\S+)\) \|", page)
    assert len(rows) > 3
    firsts = ["choice/budgetnet_100k.muon_b", "resnet14_cifar.grown18_c10", "budgetnet_300k_cifar.grown34_c10"]
    firsts += ["averaging/resnet18_slim.first", "averaging/budgetnet_100k.second", "resnet9_cifar.prog37_c10"]
    firsts += ["resnet24_sestem_cifar.grown7_c10", "resnet26_cifar.grown9_c10", "resnet9_cifar.muon49_c10"]
    logs = [json.loads((ROOT / f"docs/logs/{name}.json").read_text()) for name in firsts]
    known = {(log["params"], f"{log['epochs'][-1]['eval_top1']:.2f}") for log in logs}
    for first, second, mean, path in rows:
        log = json.loads((ROOT / "docs" / path).read_text())
        assert second == f"{log['epochs'][-1]['eval_top1']:.2f}"
        assert mean == f"{log['averaged']['eval_top1']:.2f}"
        assert (log["params"], first) in known


def test_the_training_page_tells_what_going_on_gave_as_the_logs_do():
    page = (ROOT / "docs/training.md").read_text()
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


@pytest.mark.parametrize("page", ["weights.md", "training.md"])
def test_a_figure_beside_its_log_is_that_of_the_last_epoch(page):
    text = (ROOT / "docs" / page).read_text()
    found = re.findall(r"([\d.]+) %(?: on the test set)?\s\(\[log\]\((logs/\S+\.json)\)", text)
    assert len(found) >= 2
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
