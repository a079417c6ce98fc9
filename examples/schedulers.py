"""Compare torch's learning-rate schedulers under one short recipe, as R2 did.

    python examples/schedulers.py --data DIR --out runs/schedulers

Each schedule is a run of train.py in a folder of its own, under SGD with momentum at the same first rate, on the same
hold-out and with the test set at the end. schedulers.json in the folder has a row for each. The same command goes on
where it was stopped. R2 speaks of twelve schedulers, without their names and arguments. Here are the eleven of torch
that need no code of the user's, with arguments of ours. The other options are those of train.py, such as --model,
--epochs and --fast.
"""

import argparse
import json
import sys
from pathlib import Path

import recipes
import run_folder
import train
from tqdm import tqdm

RECIPE = "--epochs 15 --opt momentum --lr 0.1 --batch-size 128 --warmup 0 --ema 0 --decay-all --holdout 5000"


def schedules(epochs, rate):
    """Arguments that let each scheduler do over so many epochs what it is made for."""
    third = max(1, epochs // 3)
    return {
        "ConstantLR": {"factor": 1.0},  # no schedule, to compare with
        "StepLR": {"step_size": third},
        "MultiStepLR": {"milestones": [max(1, epochs // 2), max(2, epochs * 3 // 4)]},
        "LinearLR": {"start_factor": 1.0, "end_factor": 0.0, "total_iters": epochs},
        "ExponentialLR": {"gamma": 0.01 ** (1 / epochs)},  # to a hundredth
        "PolynomialLR": {"total_iters": epochs, "power": 2.0},
        "CosineAnnealingLR": {"T_max": epochs},
        "CosineAnnealingWarmRestarts": {"T_0": third},
        # Two cycles, so that it ends low.
        "CyclicLR": {"base_lr": rate / 100, "max_lr": rate, "step_size_up": epochs / 4, "cycle_momentum": False},
        "OneCycleLR": {"max_lr": rate, "total_steps": epochs},
        "ReduceLROnPlateau": {"patience": 1, "watch": "train_loss"},
    }


def finished(folder, args):
    """The log of a run that is done, or None; exit where it was done under other options."""
    log = json.loads((folder / "log.json").read_text()) if (folder / "log.json").exists() else {}
    if len(log.get("epochs", [])) < args.epochs or "test_top1" not in log:
        return None
    changed = [name for name, value in log["args"].items() if getattr(args, name) != value]
    changed += ["data"] if log["data"] != recipes.data_of(args) else []
    if changed:
        sys.exit(f"{folder} was run with another {', '.join(changed)}; give the options unchanged or another --out")
    return log


def compared(argv):
    """Train, or go on; return the row of the comparison and what all rows have in common."""
    args = train.parse_args(argv)
    row = {"scheduler": args.sched, "arguments": json.loads(args.sched_args)}
    log = finished(Path(args.out), args)
    if log is None:
        try:
            train.main(argv)
        except SystemExit as stop:
            if not str(stop).startswith("the loss is"):
                raise
            return row | {"stopped": str(stop)}, {"model": args.model}  # it diverged, which is a result too
        log = finished(Path(args.out), args)
    last = log["epochs"][-1]
    figures = {"holdout_top1": last["eval_top1"], "test_top1": log["test_top1"], "train_loss": last["train_loss"]}
    row |= {"commit": log["commit"]}  # which may change where the comparison goes on after a stop
    return row | figures, {key: log[key] for key in ("model", "params", "data", "hardware", "versions")}


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True, help="the folder of all runs")
    own, rest = p.parse_known_args(argv)
    recipe = [*RECIPE.split(), *rest]
    args = train.parse_args([*recipe, "--out", str(own.out)])
    if (args.sched, args.sched_args) != (train.defaults()["sched"], train.defaults()["sched_args"]):
        sys.exit("each of torch's schedulers is run with arguments of its own; leave out --sched and --sched-args")
    if not args.holdout:
        sys.exit("--holdout 0 would compare the schedulers on the test set; use --holdout 5000")
    if args.test == "never" or args.early_stop or args.keep_best or args.reload_best:
        sys.exit("the last epoch of each scheduler is compared; leave out --test, --early-stop, --keep-best and such")
    own_to_each = recipes.NOT_THE_RECIPE | {"sched", "sched_args"}
    result = {"args": {name: value for name, value in vars(args).items() if name not in own_to_each}, "rows": []}
    runs = [
        [*recipe, "--sched", name, "--sched-args", json.dumps(arguments), "--out", str(own.out / name), "--resume"]
        for name, arguments in schedules(args.epochs, args.lr).items()
    ]
    for argv in runs:
        train.parse_args(argv)  # what one of them refuses is said before the first is trained
    for argv in tqdm(runs, "schedulers"):
        row, shared = compared(argv)
        result = shared | result
        result["rows"].append(row)
    run_folder.write(own.out / "schedulers.json", lambda path: path.write_text(json.dumps(result, indent=1) + "\n"))
    for row in sorted(result["rows"], key=lambda row: -row.get("holdout_top1", 0)):
        hold, test = (f"{row[key]:.2f} %" if key in row else "diverged" for key in ("holdout_top1", "test_top1"))
        print(f"{row['scheduler']:<28} hold-out {hold}, test {test}")


if __name__ == "__main__":
    main()
