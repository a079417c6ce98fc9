"""The zoo's networks are trained again as their cards say, several at a time, and a stopped command goes on."""

import json
import signal
import subprocess
import sys
import threading
import time
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


FEW = ["budgetnet_100k_cifar", "--times", "0.02"]


def command(out, *words):
    return ["train_zoo.py", *FEW, "--data", "fake", "--out", str(out), *words]


@pytest.fixture
def finished(tmp_path):
    """The folder of a run that has all its epochs, of the command without more words."""
    (run,) = train_zoo.planned(FEW[:1], [1], 0.02, tmp_path, "fake", [])
    args = {k: v for k, v in vars(train.parse_args(run.options)).items() if k not in train_zoo.recipes.NOT_THE_RECIPE}
    epochs = [{"epoch": i + 1, "eval_top1": 50.0, "train_seconds": 1.0} for i in range(run.epochs)]
    run.folder.mkdir()
    (run.folder / "log.json").write_text(json.dumps({"args": args, "data": "fake", "epochs": epochs}))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--", "--lr", "0.01", "--weight-decay", "0.1"], "lr, weight_decay differ"),
        (["--times", "0.01"], "epochs differ"),
        (["--data", "/a folder"], "data differ"),
    ],
)
def test_a_finished_run_of_another_command_is_neither_skipped_nor_shown(words, named, finished, monkeypatch):
    monkeypatch.setattr(sys, "argv", command(finished, *words))
    with pytest.raises(SystemExit, match=rf"budgetnet_100k_cifar\.seed1: {named} from .*, or another --out"):
        train_zoo.main()


@pytest.mark.parametrize("words", [[], ["--", "--workers", "3", "--cpu", "--compile-mode", "max-autotune"]])
def test_a_finished_run_is_left_alone_on_another_machine_too(words, finished, stand_ins, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", command(finished, *words))
    with pytest.raises(SystemExit) as exit_:
        train_zoo.main()
    assert exit_.value.code == 0
    assert "budgetnet_100k_cifar: 50.00 %, one seed" in capsys.readouterr().out
    assert not stand_ins.started


def test_a_run_that_ended_itself_early_is_finished(tmp_path, stand_ins):
    run = train_zoo.Run("net", tmp_path / "net.seed1", [], 9)
    epochs = [{"epoch": i, "eval_top1": 50.0 - i, "train_seconds": 1.0} for i in (1, 2, 3)]
    run.folder.mkdir()
    (run.folder / "log.json").write_text(json.dumps({"args": {"early_stop": 2}, "epochs": epochs}))
    assert train_zoo.train_all([run], at_once=1) == []
    assert not stand_ins.started
    assert train_zoo.summary([run]) == "net: 47.00 %, one seed, 3 s"


def test_sigterm_ends_the_trainings_before_it_ends_the_command(stand_ins, monkeypatch):
    monkeypatch.setattr(f"{__name__}.STAND_IN", "import time; time.sleep(60)")
    before = signal.getsignal(signal.SIGTERM)
    runs = [stand_ins.make("net", seed) for seed in range(3)]

    def send():
        while len(stand_ins.started) < 2:
            time.sleep(0.01)
        signal.raise_signal(signal.SIGTERM)

    threading.Thread(target=send).start()
    with pytest.raises(SystemExit) as exit_:
        train_zoo.train_all(runs, at_once=2)
    assert exit_.value.code == 143
    assert [process.returncode for process in stand_ins.started] == [-signal.SIGTERM] * 2
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resnet18_cifar"], "resnet18_cifar has no weights yet, and so no recipe; use resnet9_cifar"),
        (["resnet9_cifer"], "unknown variant 'resnet9_cifer'; did you mean 'resnet9_cifar'?"),
        (["--at-once", "0"], "--at-once: '0' does not fit; use a whole number, 1 or more"),
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
    assert "Traceback" not in changed.stderr
