"""The folder of a run: claimed by one run at a time, and written so that a kill or a full disk costs an epoch."""

import contextlib
import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import cifar
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import save

import budgetnets
from budgetnets.checks import first_line

SECONDS_BETWEEN_CURVES = 30
RESULTS = ("config.json", "log.json", "model.safetensors", "checkpoint.pt")  # what shows that a folder holds a run
GO_ON = "make room, then go on after the last whole epoch with --resume"


@contextlib.contextmanager
def claimed(folder, resume, state="checkpoint.pt"):
    """Hold the folder; exit where another process does, or where it holds a run that is not to be resumed, or cannot.

    The system frees the claim of a process that ends, however it ends, so that a killed run can be resumed.

    Args:
        folder: of the run.
        resume: whether a run in it is gone on with.
        state: the file that it would be gone on from.
    """
    with held(folder):
        if not resume:
            refuse_used(folder, (*RESULTS, state), "go on with it (--resume) or choose another folder")
        log = Path(folder) / "log.json"
        if not (Path(folder) / state).exists() and log.exists() and len(json.loads(log.read_text())["epochs"]) > 1:
            sys.exit(f"--out {folder} holds a run without the {state} to go on from; choose another folder")
        yield


def refuse_used(folder, names=RESULTS, remedy="choose another folder"):
    """Exit where the folder has one of the files that show a run."""
    found = [name for name in dict.fromkeys(names) if (Path(folder) / name).exists()]
    if found:
        sys.exit(f"--out {folder} already holds a run ({', '.join(found)}); {remedy}")


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


@contextlib.contextmanager
def writing(path, remedy=GO_ON):
    """Exit where what is written inside cannot be."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # the system's, torch's and safetensors' own
        sys.exit(f"cannot write {path}: {error}; {remedy}")


def write(path, write_to, remedy=GO_ON):
    """Write a file beside its place and move it there, so that whatever happens leaves the old one or the new one."""
    beside = path.with_name(path.name + ".tmp")
    try:
        with writing(path, remedy):
            write_to(beside)
            os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)  # a part of a file only fills the disk


def as_file(state):
    """Return a state dict as the bytes of a safetensors file, always the same for the same values."""
    return save({name: value.contiguous() for name, value in state.items()}, {"format": "pt"})


def sha256_of(state):
    """Return the sha256 of a state dict as the model.safetensors of a run has it."""
    return hashlib.sha256(as_file(state)).hexdigest()


def config_of(model, args, data):
    """Return the config.json by which `budgetnets.create` loads the run's folder, or None for a network of timm's own.

    It has what the network is and what it was trained on, which no epoch changes. save_pretrained makes it, and tries
    first that the network would come back by it.

    Args:
        model: the network, with weights of any kind.
        args: the options of train.py; their mean and std are the network's from now on.
        data: "CIFAR-10", whose classes it then names, or "fake".
    """
    if not isinstance(model, budgetnets.BudgetResNet):
        return None
    mean, std = cifar.mean_and_std(args)
    model.pretrained_cfg |= {"mean": mean, "std": std}
    names = budgetnets.CIFAR10_CLASSES if data == "CIFAR-10" else ()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            return (budgetnets.save_pretrained(model, scratch, class_names=names) / "config.json").read_bytes()
    except (OSError, SafetensorError) as error:
        sys.exit(f"cannot write {tempfile.gettempdir()}: {error}; make room there, or set TMPDIR")
    except budgetnets.WeightsMismatch as error:  # a checkpoint with NaN, say
        sys.exit(f"--model {args.model} --model-args {args.model_args}: {error}")


def write_network(folder, state, config, remedy=GO_ON):
    """Write the weights, after the config.json that says what they are of, where there is one."""
    if config:
        write(folder / "config.json", lambda path: path.write_bytes(config), remedy)
    write(folder / "model.safetensors", lambda path: path.write_bytes(as_file(state)), remedy)


def read_checkpoint(path):
    """Return what save_run wrote; exit where that is damaged."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and pickle raise anything on damaged bytes, mostly without naming the file
        sys.exit(f"{path} cannot be read ({first_line(error)}); put back a copy of it, or start anew in another folder")


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
        done = {"after_epoch": len(log["epochs"])} if "epochs" in log else {"after_rows": len(log["rows"])}
        log.setdefault("continued", []).append(done | changed)
    return log


def stopped_early(log):
    """Whether the run's --early-stop has ended it: its last epoch was evaluated, and none since the best is better."""
    evaluated = [epoch for epoch in log["epochs"] if "eval_top1" in epoch]
    if not log["args"]["early_stop"] or not evaluated or evaluated[-1] is not log["epochs"][-1]:
        return False
    best = max(evaluated, key=lambda epoch: epoch["eval_top1"])  # the first of equals
    return evaluated[-1]["epoch"] - best["epoch"] >= log["args"]["early_stop"]


def save_run(folder, parts, config, log, best):
    """Write a run's files; the checkpoint last, since it says how far the others are.

    The curves are drawn twice a minute at most, since an epoch on a GPU takes less time than to draw them.
    """
    picture = folder / "curves.png"
    states = {name: part.state_dict() for name, part in parts.items()}
    write_network(folder, states["result"], config)
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
