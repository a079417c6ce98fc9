"""The zoo's networks are trained again as their cards say, several at a time, and a stopped command goes on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import train
import train_zoo

import budgetnets

ROOT = Path(__file__).parent.parent
TRAINED = budgetnets.list_models(pretrained=True)
# What stands in for train.py: it writes a log, or fails before.
STAND_IN = """
import json, pathlib, sys, time
folder, epochs, fails = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"
time.sleep(0.5)
if fails:
    sys.exit(1)
entries = [{"epoch": i, "eval_top1": 91.0, "train_seconds": 2.0} for i in range(epochs)]
folder.mkdir(parents=True)
(folder / "log.json").write_text(json.dumps({"epochs": entries}))
"""


class StandIns:
    """Runs whose trainings take half a second, and how many of these went on at a time."""

    def __init__(self, folder):
        self.folder, self.fails, self.started, self.at_once = folder, {}, [], []

    def make(self, name, seed=1, fails=False):
        run = train_zoo.Run(name, self.folder / f"{name}.seed{seed}", [], 3)
        self.fails[run] = fails
        return run

    def start(self, run):
        words = [sys.executable, "-c", STAND_IN, str(run.folder), str(run.epochs), str(self.fails[run])]
        self.started.append(subprocess.Popen(words))
        self.at_once.append(sum(process.poll() is None for process in self.started))
        return self.started[-1]


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    made = StandIns(tmp_path)
    monkeypatch.setattr(train_zoo.Run, "start", lambda run: made.start(run))
    monkeypatch.setattr(train_zoo, "SECONDS_BETWEEN_LOOKS", 0.05)
    return made


@pytest.mark.parametrize("name", TRAINED)
def test_the_command_of_a_card_is_one_that_train_py_takes(name):
    args = train.parse_args([*train_zoo.recipe_of(name), "--out", "runs/x"])
    assert name.startswith(f"{args.model}.")
    assert args.epochs == budgetnets.card(name).weights.recipe["epochs"]
    assert not args.holdout


def test_a_longer_run_keeps_the_share_of_its_smaller_images():
    options = ["--epochs", "60", "--sizes", "16x10,24x20"]
    assert train_zoo.longer(options, 2) == ["--epochs", "120", "--sizes", "16x20,24x40"]
    assert train_zoo.longer(options, 0.001) == ["--epochs", "1", "--sizes", "16x1,24x1"]


def test_every_network_is_trained_with_every_seed_the_most_expensive_first(tmp_path):
    names = ["budgetnet_100k_cifar", "resnet24_sestem_cifar"]
    found = train_zoo.planned(names, [3, 4], 0.5, tmp_path, "fake", ["--limit", "512"])
    assert [run.folder.name for run in found] == [f"{name}.seed{seed}" for name in names[::-1] for seed in (3, 4)]
    for run in found:
        args = train.parse_args(run.options)
        assert (args.model, args.data, args.limit) == (run.name, "fake", 512)
        assert run.folder == Path(args.out)
        whole = train.parse_args([*train_zoo.recipe_of(run.name), "--out", "x"]).epochs
        assert args.epochs == run.epochs == round(whole / 2)


def test_so_many_are_trained_at_a_time(stand_ins):
    runs = [stand_ins.make("net", seed) for seed in range(4)]
    assert train_zoo.train_all(runs, at_once=2) == []
    assert len(stand_ins.started) == 4
    assert max(stand_ins.at_once) == 2


def test_a_run_that_fails_keeps_none_of_the_others_from_their_end(stand_ins):
    runs = [stand_ins.make("bad", fails=True), stand_ins.make("good")]
    assert train_zoo.train_all(runs, at_once=1) == runs[:1]
    assert train_zoo.summary(runs) == "good: 91.00 %, one seed, 6 s"


def test_the_same_command_again_trains_only_what_is_missing(stand_ins):
    runs = [stand_ins.make("net", 1), stand_ins.make("net", 2)]
    train_zoo.train_all(runs[:1], at_once=1)
    train_zoo.train_all(runs, at_once=2)
    assert len(stand_ins.started) == 2
    assert train_zoo.summary(runs) == "net: 91.00 %, sd 0.00, 2 seeds, 12 s"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resnet18_cifar"], "resnet18_cifar has no weights yet, and so no recipe; use resnet9_cifar"),
        (["resnet9_cifer"], "unknown variant 'resnet9_cifer'; did you mean 'resnet9_cifar'?"),
        (["--at-once", "0"], "--at-once 0 trains nothing; use 1 or more"),
        (["--times", "0"], "--times 0.0 is no number of times; use more than 0, such as 1 or 2"),
        (["--", "--lr", "-1"], "--lr -1.0 is out of range"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is(words, message, tmp_path, monkeypatch, capsys):
    given = ["--data", "fake", "--out", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", ["train_zoo.py", *given, *words])
    with pytest.raises(SystemExit) as exit_:
        train_zoo.main()
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_network_is_trained_from_the_command_line_and_a_failure_is_told(tmp_path):
    small = ["--", "--limit", "64", "--batch-size", "32", "--no-compile", "--compile-mode", "default", "--cpu"]
    command = [sys.executable, str(ROOT / "benchmarks/train_zoo.py"), "budgetnet_100k_cifar", "--data", "fake"]
    command += ["--times", "0.02", "--seeds", "1", "2", "--at-once", "2", "--out", str(tmp_path)]
    done = subprocess.run([*command, *small], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "budgetnet_100k_cifar: " in done.stdout
    assert ", 2 seeds, " in done.stdout
    log = json.loads((tmp_path / "budgetnet_100k_cifar.seed2" / "log.json").read_text())
    assert log["args"]["seed"] == 2
    changed = subprocess.run([*command, "--times", "0.03", *small], capture_output=True, text=True, timeout=300)
    assert changed.returncode == 1
    assert "differ from the run's own" in changed.stderr
