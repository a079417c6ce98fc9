"""The two comparisons beside the reports' runs, for docs/lessons.md: pruning (R1) and learning-rate schedulers (R2).

docs/logs/pruning/<any name>.json is the pruning.json of `examples/pruning.py`, and docs/logs/schedulers/<any name>.json
the schedulers.json of `examples/schedulers.py`, a file for each seed.
"""

import json
import shlex
import statistics
from collections import defaultdict

from benchmark_tables import table
from findings import spread
from study_logs import ROOT, defaults, recipes

LOGS = ROOT / "docs" / "logs"
NOT_RUN = ["Not run yet."]


def read(folder: str) -> list[dict]:
    """Return the logs of a folder of docs/logs."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((LOGS / folder).glob("*.json"))]


def options(log: dict, *left_out: str) -> str:
    """The options of a run that are not train.py's defaults."""
    return shlex.join(recipes.as_words(log["args"], defaults(), {"model", *left_out}))


def pruning() -> list[str]:
    """Return what pruning costs each network, before and after fine-tuning, as paragraphs."""
    parts = []
    for log in read("pruning"):
        rows = [("none", "", f"{log['top1']:.2f}", "")]
        for row in log["rows"]:
            figures = f"{row['zeros']:,}", f"{row['pruned_top1']:.2f}", f"{row['finetuned_top1']:.2f}"
            rows.append((f"{row['share']:.0%}", *figures))
        header = ("Share that is zero", "Zeros", "Top-1 %", "After fine-tuning")
        where = f"{log['hardware']}; commit {log['commit']}, with the weights shipped then."
        how = f"Fine-tuned by `{options(log)}`; one seed. {where}"
        parts += [f"`{log['model']}`, {log['params']:,} parameters:", table(header, rows, right=3), how]
    return parts or NOT_RUN


def schedulers() -> list[str]:
    """Return the schedulers of each comparison, the best on the hold-out first, as paragraphs."""
    alike = defaultdict(list)
    for log in read("schedulers"):
        schedules = json.dumps([(row["scheduler"], row["arguments"]) for row in log["rows"]])
        alike[log["model"], options(log, "seed"), schedules].append(log)
    parts = []
    for (model, how, _), logs in alike.items():
        rows = []
        for entries in zip(*(log["rows"] for log in logs), strict=True):
            arguments = ", ".join(f"{key}={value}" for key, value in entries[0]["arguments"].items())
            figures = [figure(entries, key) for key in ("holdout_top1", "test_top1")]
            rank = statistics.mean(entry.get("holdout_top1", 0) for entry in entries)
            rows.append((rank, f"`{entries[0]['scheduler']}`", f"`{arguments}`", *figures))
        rows = [row[1:] for row in sorted(rows, reverse=True)]
        shown = table(("Scheduler", "Arguments", "Hold-out top-1 %", "Test top-1 %"), rows, right=2)
        what = f"`{model}`, {logs[0]['params']:,} parameters, trained by `{how}`:"
        commits = dict.fromkeys(row["commit"] for log in logs for row in log["rows"] if "commit" in row)
        hardware = dict.fromkeys(log["hardware"] for log in logs)
        parts += [what, shown, f"{', '.join(hardware)}; commit {', '.join(commits)}."]
    return parts or NOT_RUN


def figure(entries: tuple[dict, ...], key: str) -> str:
    """Mean and spread over the seeds, or that a run diverged."""
    values = [entry[key] for entry in entries if key in entry]
    if len(values) < len(entries):
        return f"diverged with {len(entries) - len(values)} of {len(entries)} seeds"
    return spread(values)
