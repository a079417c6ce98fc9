"""The table of the recipes that were compared on a hold-out, for docs/weights.md.

docs/logs/choice/<any name>.json is the log.json of `examples/train.py --holdout 5000 --test never`.
"""

import json
import shlex
from pathlib import Path

from benchmark_tables import table
from study_logs import ROOT, defaults, recipes

LOGS = ROOT / "docs" / "logs" / "choice"
HEADER = ("Network", "Options", "Seed", "Commit", "Epochs", "Minutes", "Hold-out top-1 %")
SHOWN_BESIDE = {"model", "epochs", "seed", "holdout", "test", "eval_every"}


def read_log(path: Path) -> dict:
    """Return the log of a finished run that chose nothing and looked at its hold-out alone.

    Raises:
        ValueError: another log.
    """
    log = json.loads(path.read_text())
    done, wanted = len(log["epochs"]), log["args"]["epochs"]
    if done < wanted:
        raise ValueError(f"{path.name} has {done} of its {wanted} epochs; only whole runs are compared")
    if log.get("data", "CIFAR-10") != "CIFAR-10":  # older logs do not say
        raise ValueError(f"{path.name} was trained on {log['data']} images; only runs on CIFAR-10 are compared")
    if log["evaluated_on"] != "holdout" or log["args"]["test"] != "never" or log["chosen_on"] != "nothing":
        raise ValueError(f"{path.name} was not made with --holdout and --test never, without choosing an epoch")
    return log


def section() -> str:
    """Return the table, the best of each network first, or a line where there are no logs."""
    logs = [read_log(path) for path in sorted(LOGS.glob("*.json"))]
    if not logs:
        return "Nothing has been compared yet."
    logs.sort(key=lambda log: (log["model"], -log["epochs"][-1]["eval_top1"]))
    rows = []
    for log in logs:
        seconds = sum(epoch["train_seconds"] for epoch in log["epochs"])
        figures = log["args"]["epochs"], f"{seconds / 60:.0f}", f"{log['epochs'][-1]['eval_top1']:.2f}"
        words = recipes.as_words(log["args"], defaults(), SHOWN_BESIDE)
        how = f"`{shlex.join(words)}`" if words else "the defaults", log["args"]["seed"], log["commit"]
        rows.append((f"`{log['model']}`", *how, *figures))
    hardware = "; ".join(sorted({log["hardware"] for log in logs}))
    sizes = sorted({log["args"]["holdout"] for log in logs})
    images = " or ".join(f"{size:,}" for size in sizes)
    return f"{table(HEADER, rows, right=3)}\n\nHold-out of {images} training images; {hardware}."
