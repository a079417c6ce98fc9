"""Train the zoo's networks again, each as its card says, several at a time on one device.

    python benchmarks/train_zoo.py --data DIR --out runs/zoo --at-once 8
    python benchmarks/train_zoo.py resnet9_cifar resnet14_cifar --seeds 1 2 3 --times 2 --data DIR --out runs/zoo

One of these small networks does not keep a GPU busy; several do. Each run has a folder of its own, such as
`runs/zoo/resnet9_cifar.seed1`, and beside it what it printed. The same command again goes on with what was stopped.
What follows `--` goes to examples/train.py. Needs `pip install "budgetnets[train]"`.
"""

import argparse
import json
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from arguments import at_least, folder
from tqdm import tqdm

import budgetnets
from budgetnets.variants import find_variant, find_weights

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import recipes
import run_folder
import train

SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True, eq=False)
class Run:
    """One training: the options that train.py gets, and where it writes."""

    name: str
    folder: Path
    options: list[str]
    epochs: int

    @property
    def printed(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.txt")

    def log(self) -> dict:
        path = self.folder / "log.json"
        return json.loads(path.read_text()) if path.exists() else {"epochs": []}

    def done(self) -> int:
        """Epochs so far."""
        return len(self.log()["epochs"])

    def finished(self) -> bool:
        """Whether it has all its epochs, or its own --early-stop has ended it."""
        log = self.log()
        return len(log["epochs"]) == self.epochs or (bool(log["epochs"]) and run_folder.stopped_early(log))

    def refuse_changed(self) -> None:
        """Exit where the folder holds a run under other options or data, as train.py does where it goes on with one."""
        args = train.parse_args(self.options)
        recipe = {name: value for name, value in vars(args).items() if name not in recipes.NOT_THE_RECIPE}
        log = self.log()
        if log["epochs"]:
            now = {"args": recipe, "data": recipes.data_of(args)}
            try:
                run_folder.refuse_changed(self.folder, log, now)
            except SystemExit as refused:
                sys.exit(f"{refused}, or another --out")

    def start(self) -> subprocess.Popen:
        with self.printed.open("a") as printed:
            command = [sys.executable, train.__file__, *self.options, "--resume"]
            return subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT)


def recipe_of(name: str) -> list[str]:
    """The options of train.py on the card of a variant's weights.

    Raises:
        ValueError: an unknown variant, or one without weights, which has no recipe.
    """
    row, weights = find_variant(name), find_weights(name)
    if weights is None:
        known = ", ".join(budgetnets.list_models(pretrained=True))
        raise ValueError(f"{row.name} has no weights yet, and so no recipe; use {known}, or examples/train.py itself")
    return shlex.split(weights.recipe["command"])[1:]


def longer(options: list[str], times: float) -> list[str]:
    """Options by which a run has so many times the epochs, those on smaller images too."""
    args = train.parse_args([*options, "--out", "none"])
    sizes = [part.split("x") for part in filter(None, args.sizes.split(","))]
    scaled = [f"{size}x{max(1, round(int(epochs) * times))}" for size, epochs in sizes]
    return ["--epochs", str(max(1, round(args.epochs * times))), "--sizes", ",".join(scaled)]


def planned(names: list[str], seeds: list[int], times: float, out: Path, data: str, more: list[str]) -> list[Run]:
    """Every network with every seed, the most expensive networks first, so that the end is not a long one's alone."""
    runs = []
    for name in sorted(names, key=budgetnets.count_macs, reverse=True):
        recipe = recipe_of(name)
        options = [*recipe, *longer(recipe, times), "--data", data]
        for seed in seeds:
            folder = out / f"{name}.seed{seed}"
            words = [*options, "--seed", str(seed), *more, "--out", str(folder)]
            runs.append(Run(name, folder, words, train.parse_args(words).epochs))
    return runs


@contextmanager
def sigterm_noted() -> Iterator[list[int]]:
    """Give a list that SIGTERM gets into, in place of ending this at once: a training may just be starting."""
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)


def train_all(runs: list[Run], at_once: int) -> list[Run]:
    """Train, and return the runs that failed; those that are finished already are left alone.

    Exits with 143, as by SIGTERM, once that has come and the trainings have ended.
    """
    seen = {run: run.done() for run in runs}
    waiting, going, failed = [run for run in runs if not run.finished()], {}, []
    bar = tqdm(total=sum(run.epochs for run in runs), initial=sum(seen.values()), unit="epoch")
    with bar, sigterm_noted() as stopped:
        try:
            while (waiting or going) and not stopped:
                while waiting and len(going) < at_once and not stopped:
                    run = waiting.pop(0)
                    going[run] = run.start()
                time.sleep(SECONDS_BETWEEN_LOOKS)
                for run, process in list(going.items()):
                    now = run.done()
                    bar.update(now - seen[run])
                    seen[run] = now
                    if process.poll() is not None:
                        del going[run]
                        failed += [run] if process.returncode else []
        finally:  # whatever ends this, but SIGKILL, ends the trainings, which go on from their last epoch
            for process in going.values():
                process.terminate()
            for process in going.values():
                process.wait()
    if stopped:
        print("stopped by SIGTERM; the same command goes on", file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)
    return failed


def summary(runs: list[Run]) -> str:
    """A line for each network: its last epochs' accuracy, with mean and spread over the seeds."""
    lines = []
    for name in dict.fromkeys(run.name for run in runs):
        logs = [run.log() for run in runs if run.name == name and run.finished()]
        reached = [log["epochs"][-1]["eval_top1"] for log in logs]
        seconds = sum(epoch["train_seconds"] for log in logs for epoch in log["epochs"])
        spread = "one seed"
        if len(reached) > 1:
            spread = f"sd {statistics.stdev(reached):.2f}, {len(reached)} seeds"
        if reached:
            lines.append(f"{name}: {statistics.mean(reached):.2f} %, {spread}, {seconds:,.0f} s")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    trained = budgetnets.list_models(pretrained=True)
    parser.add_argument("names", nargs="*", default=trained, help="variants that have weights; all of them")
    parser.add_argument("--data", required=True, help="the folder that holds cifar-10-batches-py")
    parser.add_argument("--out", type=folder, required=True, help="the folder for all runs' folders")
    parser.add_argument("--at-once", type=at_least(1), default=1, help="trainings at a time [1]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--times", type=float, default=1.0, help="the epochs of a card by this number [1]")
    words = sys.argv[1:]
    ours, more = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    args = parser.parse_args(ours)
    if not 0 < args.times < float("inf"):
        parser.error(f"--times {args.times} is no number of times; use more than 0, such as 1 or 2")
    try:
        runs = planned(args.names, args.seeds, args.times, args.out, args.data, more)
    except ValueError as error:
        parser.error(str(error))
    for run in runs:
        run.refuse_changed()  # all, before one is trained; train.py would refuse only those that are to go on
    args.out.mkdir(parents=True, exist_ok=True)
    failed = train_all(runs, args.at_once)
    print(summary(runs))
    for run in failed:
        said = run.printed.read_text().strip().splitlines()[-1:]
        print(f"failed: {run.folder} ({''.join(said)}); {run.printed} has all that it printed", file=sys.stderr)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
