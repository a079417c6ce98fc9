"""The runs of the study of the reports: their logs, checked against the recipes, and what they reached.

docs/logs/reports/<recipe>.json is the log.json of `examples/train.py --recipe <recipe>`, and <recipe>.seed<n>.json that
of another seed than 0.
"""

import ast
import json
import re
import statistics
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

from budgetnets.variants import VARIANTS

ROOT = Path(__file__).parent.parent
LOGS = ROOT / "docs" / "logs" / "reports"
STUDY = ROOT / "docs" / "study.toml"

sys.path.insert(0, str(ROOT / "examples"))
import recipes  # noqa: E402  pyright does not know the folder

HOW = ("fast", "precision")  # no report says; but runs that are compared must share them
NOT_THE_RECIPE = {"recipe", "seed", "test", *HOW}  # what a run may choose by itself


class Run(NamedTuple):
    """One finished run.

    Args:
        file: its log's name.
        log: as train.py wrote it.
        curve: top-1 on the test set by epoch, percent; empty where a hold-out kept the test set to the end.
        last: top-1 on the test set after the last epoch, or None where the log has it for the kept epoch alone.
        kept: where the run kept its best epoch, that one's top-1 on the test set, measured once more; else None.
    """

    file: str
    log: dict
    curve: dict[int, float]
    last: float | None
    kept: float | None

    @property
    def best(self) -> float | None:
        return max(self.curve.values(), default=None) if self.kept is None else self.kept

    @property
    def best_epoch(self) -> int | None:
        return max(self.curve, key=lambda epoch: self.curve[epoch], default=None)


class Study(NamedTuple):
    """All that the pages are made of: the recipes, the reports' figures, the finished runs by recipe, study.toml."""

    recipes: dict[str, dict]
    reported: dict[str, float]
    runs: dict[str, list[Run]]
    text: dict

    def mean(self, which: str, name: str) -> float | None:
        """The mean over a recipe's seeds of `best` or `last`, or None where that is not known of each."""
        values = [getattr(run, which) for run in self.runs.get(name, [])]
        return statistics.mean(values) if values and None not in values else None

    def told(self, text: str, where: str) -> str:
        """Return a text of study.toml with its runs' figures.

        Raises:
            ValueError: it quotes a run that has no log, or types a figure in by hand.
        """
        typed = re.search(r"\d+\.\d+|\d+ ?%", re.sub(r"\{.*?\}", "", text))
        if typed:
            raise ValueError(f"{where} has the figure {typed[0]!r} typed in; quote a run, such as {{last[R2]}}")
        figures = {
            which: {name: f"{value:.2f}" for name in self.recipes if (value := self.mean(which, name)) is not None}
            for which in ("best", "last")
        }
        figures["reported"] = {name: f"{value:.2f}" for name, value in self.reported.items()}
        try:
            return text.format_map(figures)
        except KeyError as error:
            raise ValueError(f"{where} quotes {error}, of which {LOGS.name} has no log; add the log first") from None


def defaults() -> dict:
    """The defaults of train.py's options; read and not imported, since it needs Accelerate."""
    tree = ast.parse((ROOT / "examples" / "train.py").read_text(encoding="utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "OPTIONS"]
    return {name.replace("-", "_"): value for name, value, _ in ast.literal_eval(found[0].value)}


def read_run(path: Path, known: dict[str, dict]) -> tuple[str, Run]:
    """Return the recipe of a log and its run.

    Raises:
        ValueError: the log is not that of a whole run of the recipe that the file is named after.
    """
    log = json.loads(path.read_text(encoding="utf-8"))
    args, epochs = log["args"], log["epochs"]
    name = args["recipe"]
    if name not in known:
        raise ValueError(f"{path.name} is the log of recipe {name!r}, which there is not; see --recipe list")
    right = f"{name}.seed{args['seed']}.json" if args["seed"] else f"{name}.json"
    if path.name != right:
        raise ValueError(f"{path.name} is the log of {name} with seed {args['seed']}; name it {right}")
    wanted = defaults()
    wanted |= recipes.values(name, known[name], wanted)
    changed = [key for key, value in args.items() if key not in NOT_THE_RECIPE and wanted.get(key) != value]
    if changed:
        raise ValueError(f"{path.name} departs from the recipe {name} in {', '.join(changed)}; train it unchanged")
    if [entry["epoch"] for entry in epochs] != list(range(1, args["epochs"] + 1)):
        raise ValueError(f"{path.name} has {len(epochs)} of {args['epochs']} epochs; go on with the run (--resume)")
    if log.get("data", "CIFAR-10") != "CIFAR-10":  # older logs do not say
        raise ValueError(f"{path.name} was trained on {log['data']} images; train it with --data DIR")
    key = "test_top1" if args["holdout"] else "eval_top1"
    curve = {entry["epoch"]: entry[key] for entry in epochs if key in entry}
    kept_last = log.get("kept_epoch") == args["epochs"]
    last = curve.get(args["epochs"], log.get("test_top1") if kept_last else None)
    return name, Run(path.name, log, curve, last, log.get("test_top1") if args["keep_best"] else None)


def refuse_unlike(runs: list[Run]) -> None:
    """Raise ValueError where a run was made in another way than the first, so that differences say nothing."""
    for run in runs:
        for option in HOW:
            own, first = run.log["args"].get(option), runs[0].log["args"].get(option)
            if own != first:
                raise ValueError(f"{run.file} has {option} {own}, {runs[0].file} {first}; train all in one way")


def read_study(logs: Path | None = None, study: Path | None = None) -> Study:
    """Return the study as it stands.

    Raises:
        ValueError: a log or an entry of study.toml names something that is not there.
    """
    known, runs = recipes.load(), {}
    for path in sorted((logs or LOGS).glob("*.json")):
        name, run = read_run(path, known)
        runs.setdefault(name, []).append(run)
    refuse_unlike([run for several in runs.values() for run in several])
    text = tomllib.loads((study or STUDY).read_text(encoding="utf-8"))
    named = [*text["findings"], *(name for question in text["questions"] for name in question["runs"])]
    named += [lesson[side] for lesson in text["lessons"] for side in ("with", "without")]
    unknown = sorted({name for name in named if name not in known})
    if unknown:
        raise ValueError(f"study.toml names {', '.join(unknown)}, and there is no such recipe; see --recipe list")
    reported = {figure.run: figure.top1 for row in VARIANTS.values() for figure in row.reported}
    return Study(known, reported, runs, text)
