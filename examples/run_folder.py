"""The folder of a run: claimed by one run at a time, and written so that a kill or a full disk costs an epoch."""

import contextlib
import json
import os
import sys
import time
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import save_file

SECONDS_BETWEEN_CURVES = 30


@contextlib.contextmanager
def claimed(folder, resume, sign="checkpoint.pt"):
    """Hold the folder; exit where another process does, or where the file `sign` shows a run that is not to be resumed.

    The system frees the claim of a process that ends, however it ends, so that a killed run can be resumed.
    """
    with held(folder):
        if (Path(folder) / sign).exists() and not resume:
            sys.exit(f"--out {folder} already holds a run; go on with it (--resume) or choose another folder")
        yield


@contextlib.contextmanager
def held(folder):
    """Make the folder and hold it; exit where that cannot be, or where another process holds it."""
    folder = Path(folder)
    with contextlib.ExitStack() as lock:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.enter_context(FileLock(folder / ".lock", blocking=False))
        except Timeout:
            sys.exit(f"--out {folder}: another run is writing into it; wait for its end or choose another folder")
        except OSError as error:
            sys.exit(f"--out {folder} cannot be written: {error}; choose another folder")
        yield


def write(path, save, remedy="make room, then go on after the last whole epoch with --resume"):
    """Write a file beside its place and move it there, so that whatever happens leaves the old one or the new one."""
    beside = path.with_name(path.name + ".tmp")
    try:
        save(beside)
        beside.chmod(0o644)  # safetensors writes 0600
        os.replace(beside, path)
    except (OSError, RuntimeError, SafetensorError) as error:  # the system's, torch's and safetensors' own
        beside.unlink(missing_ok=True)  # a part of a file only fills the disk
        sys.exit(f"cannot write {path}: {error}; {remedy}")


def refuse_changed(folder, log, now):
    """Exit where a run would go on under other options than its own, or on noise images in place of real ones."""
    changed = [name for name, value in now["args"].items() if log["args"].get(name) != value]
    changed += ["data"] if log.get("data", now["data"]) != now["data"] else []
    if changed:
        sys.exit(f"--resume {folder}: {', '.join(changed)} differ from the run's own; give its options unchanged")


def continued(log, now):
    """Return a run's log, with what is no longer as it was when it started: it holds for the epochs to come."""
    changed = {key: now[key] for key in ("hardware", "versions", "commit", "compiled") if now[key] != log[key]}
    if changed:
        log.setdefault("continued", []).append({"after_epoch": len(log["epochs"]), **changed})
    return log


def stopped_early(log):
    """Whether the run's --early-stop has ended it: its last epoch was evaluated, and none since the best is better."""
    evaluated = [epoch for epoch in log["epochs"] if "eval_top1" in epoch]
    if not log["args"]["early_stop"] or not evaluated or evaluated[-1] is not log["epochs"][-1]:
        return False
    best = max(evaluated, key=lambda epoch: epoch["eval_top1"])  # the first of equals
    return evaluated[-1]["epoch"] - best["epoch"] >= log["args"]["early_stop"]


def save_run(folder, parts, log, best):
    """Write a run's files; the checkpoint last, since it says how far the others are.

    The curves are drawn twice a minute at most, since an epoch on a GPU takes less time than to draw them.
    """
    picture = folder / "curves.png"
    states = {name: part.state_dict() for name, part in parts.items()}
    weights = {name: value.contiguous() for name, value in states["result"].items()}
    write(folder / "model.safetensors", lambda path: save_file(weights, path, {"format": "pt"}))
    write(folder / "log.json", lambda path: path.write_text(json.dumps(log, indent=1) + "\n"))
    if not picture.exists() or time.time() - picture.stat().st_mtime > SECONDS_BETWEEN_CURVES:
        write_curves(folder, log)
    write(folder / "checkpoint.pt", lambda path: torch.save(states | {"log": log, "best": best}, path))


def write_curves(folder, log):
    """Write the picture of the log's curves."""
    write(folder / "curves.png", lambda path: draw_curves(log, path))


def draw_curves(log, path):
    """Draw the log's curves."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.6), layout="constrained")
    panels = (["train_loss", "eval_loss"], ["train_top1", "eval_top1"], ["lr"])
    for axis, names in zip(figure.subplots(1, 3), panels, strict=True):
        for name in names:
            epochs = [entry for entry in log["epochs"] if name in entry]
            label = name.replace("eval", log["evaluated_on"])
            axis.plot([e["epoch"] for e in epochs], [e[name] for e in epochs], ".-", label=label)
        axis.set_xlabel("epoch")
        axis.legend()
    figure.suptitle(f"{log['model']}, {log['params']:,} parameters")
    figure.savefig(path, format="png", dpi=110)
