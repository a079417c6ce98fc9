"""Train the candidates of a search on a Ray cluster, where those that fall behind are stopped early (ASHA).

    python examples/search_ray.py --max-params 300000 --max-macs 20e6 --data DIR --out runs/asha
    python examples/search_ray.py ... --address auto --gpus 1      on a cluster that is running, a GPU for each trial

Each candidate trains with examples/train.py's options, those after `--` included, and reports its accuracy on a
hold-out of the training images after each epoch; nothing is evaluated on the test set. The same command again goes on
where a killed one stopped, from each trial's last epoch. DIR must be there on every machine, and budgetnets with this
extra: `pip install "budgetnets[ray]"`. The result is a table, and results.json in --out.
"""

import argparse
import json
import math
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "5")  # seconds between the states that a killed search goes on from
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")  # they are small

import cifar
import fast_data
import numerics
import ray
import recipes
import run_folder
import torch
import torch.nn.functional as F
import train
from accelerate import Accelerator
from accelerate.utils import set_seed
from ray import tune
from ray.tune.schedulers import ASHAScheduler

import budgetnets

STATE = "state.pt"
REMEDY = "make room, and give the same command again"
OWN = ("model", "model_args", "data", "out", "epochs", "holdout", "test", "ema", "fast", "cpu")  # set by this script
USED = {  # of train.py's options; the rest would change nothing
    *("data", "out", "seed", "epochs", "batch_size", "opt", "opt_args", "decay_all", "lr", "momentum", "weight_decay"),
    *("sched", "sched_args", "warmup", "smoothing", "crop", "pad", "flip", "rotate", "translate", "jitter"),
    *("auto_augment", "cutout", "mean", "std", "holdout", "test", "limit", "fast", "precision", "cpu"),
}


def trial(config):
    """Train one candidate; what ends a script must not end the worker, which Ray would take for a machine gone away."""
    try:
        train_candidate(config)
    except SystemExit as stop:
        raise RuntimeError(str(stop)) from None


def train_candidate(config):
    """Report after each epoch; go on from the trial's checkpoint where it has one."""
    args = train.parse_args(config["options"])
    torch.set_num_threads(config["threads"])
    accelerator = Accelerator(mixed_precision=args.precision, cpu=args.cpu)
    set_seed(args.seed)
    loader, _, holdout, _ = fast_data.make_loaders(args, accelerator)
    model = budgetnets.build_resnet(**config["spec"])
    layout = numerics.memory_format(model, accelerator.device)
    model = model.to(accelerator.device, memory_format=layout)
    optimizer = recipes.make_optimizer(args, model, accelerator.device)
    schedule = recipes.Schedule(args, optimizer, len(loader))
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    unseen, first = numerics.unseen_taps(model, 32, accelerator), restore(parts) + 1
    for epoch in range(first, args.epochs + 1):
        set_seed(cifar.epoch_seed(args.seed, epoch - 1))  # of dropout
        loader.epoch = epoch - 1
        model.train()
        for step, (images, labels) in enumerate(loader, start=(epoch - 1) * len(loader) + 1):
            schedule.before_update(step)
            with accelerator.autocast():
                logits = model(images.to(memory_format=layout)).float()
            F.cross_entropy(logits, labels, label_smoothing=args.smoothing).backward()
            numerics.clear(unseen)
            optimizer.step()
            optimizer.zero_grad()
        top1, loss = train.evaluate(model, holdout, accelerator)
        entry = {"epoch": epoch, "top1": top1, "loss": loss, "started_at": first}
        schedule.after_epoch(entry)
        with TemporaryDirectory() as folder:
            state = {name: part.state_dict() for name, part in parts.items()}
            torch.save(state | {"epoch": epoch}, Path(folder) / STATE)
            tune.report(entry, checkpoint=tune.Checkpoint.from_directory(folder))


def restore(parts):
    """Load the trial's checkpoint into the parts; return its epoch, 0 where there is none."""
    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        return 0
    with checkpoint.as_directory() as folder:
        saved = torch.load(Path(folder) / STATE, map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    return saved["epoch"]


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-params", type=float)
    parser.add_argument("--max-macs", type=float)
    parser.add_argument("--max-memory", type=float)
    parser.add_argument("--objective", choices=("accuracy", "params"), default="accuracy", help="of the search")
    parser.add_argument("--candidates", type=int, default=16, help="of the search, to train [16]")
    parser.add_argument("--data", required=True, help="folder with CIFAR-10; 'fake': noise, to try the script")
    parser.add_argument("--out", type=Path, required=True, help="folder of the search; resumed where it has one")
    parser.add_argument("--epochs", type=int, default=27, help="of a candidate that is never stopped [27]")
    parser.add_argument("--grace", type=int, default=3, help="epochs before a candidate may be stopped [3]")
    parser.add_argument("--reduction", type=int, default=3, help="one of so many goes on at each step [3]")
    parser.add_argument("--holdout", type=int, default=5_000, help="training images to evaluate on [5000]")
    parser.add_argument("--address", help="of a cluster that is running; left out: this machine alone")
    parser.add_argument("--workers", type=int, help="trials at once on this machine; left out: one for each core")
    parser.add_argument("--cpus", type=int, default=1, help="cores for each trial [1]")
    parser.add_argument("--gpus", type=float, default=0.0, help="GPUs for each trial [0]")
    parser.add_argument("train_options", nargs="*", metavar="-- --OPTION", help="of train.py, such as -- --lr 0.1")
    args = parser.parse_args()
    if not 1 <= args.grace <= args.epochs:
        parser.error(f"--grace {args.grace} of --epochs {args.epochs}; use 1 or more, and no more than the epochs")
    if args.reduction < 2:
        parser.error(f"--reduction {args.reduction} stops nothing; use 2 or more")
    if min(args.candidates, args.cpus, args.cpus if args.workers is None else args.workers) < 1:
        parser.error("--candidates, --cpus and --workers must be 1 or more")
    if not 0 <= args.gpus < math.inf:
        parser.error(f"--gpus {args.gpus} is out of range; use 0 or more")
    # A wrong option, or a folder without the images, is refused before Ray starts.
    own, training = (train.parse_args(options) for options in (own_options(args), train_options(args)))
    taken = [f"--{name.replace('_', '-')}" for name in OWN if getattr(own, name) != getattr(training, name)]
    if taken:
        parser.error(f"{', '.join(taken)} after --: the search sets it itself; leave it out there")
    recipes.refuse_unused(parser, training, train.defaults() | {"ema": 0.0, "model": "budget_resnet"}, USED)
    if not args.address:  # else they may lie on the cluster's machines alone
        cifar.split_images(training, processes=1)
    return args


def train_options(args):
    """Return the options of train.py that all candidates share."""
    return [*own_options(args), *args.train_options]


def own_options(args):
    """Return those of them that the search sets."""
    data = args.data if args.data == "fake" else str(Path(args.data).resolve())  # trials run in folders of their own
    own = ["--data", data, "--epochs", str(args.epochs), "--holdout", str(args.holdout), "--out", str(args.out)]
    own += ["--model", "budget_resnet", "--test", "never", "--ema", "0", "--fast"]
    return [*own, *([] if args.gpus else ["--cpu"])]


def make_tuner(args, out):
    """Return a new search, or the one in --out to go on with."""
    plan = {name: value for name, value in vars(args).items() if name not in ("out", "address", "workers")}
    resources = {"cpu": args.cpus, "gpu": args.gpus}
    trainable = tune.with_resources(trial, resources)
    if tune.Tuner.can_restore(str(out)):
        if json.loads((out / "search.json").read_text()) != plan:
            sys.exit(f"--out {args.out} holds another search; give the options of its search.json, or another folder")
        return tune.Tuner.restore(str(out), trainable=trainable, resume_unfinished=True, resume_errored=True)
    limits = {name: getattr(args, name) for name in ("max_params", "max_macs", "max_memory")}
    candidates = budgetnets.search(**limits, objective=args.objective, limit=args.candidates)
    print(candidates)
    out.mkdir(parents=True, exist_ok=True)
    run_folder.write(out / "search.json", lambda path: path.write_text(json.dumps(plan, indent=1) + "\n"), REMEDY)
    specs = tune.grid_search([candidate.spec.to_dict() for candidate in candidates])
    asha = ASHAScheduler(max_t=args.epochs, grace_period=args.grace, reduction_factor=args.reduction)
    return tune.Tuner(
        trainable,
        param_space={"spec": specs, "options": train_options(args), "threads": args.cpus},
        tune_config=tune.TuneConfig(metric="top1", mode="max", scheduler=asha, trial_dirname_creator=str),
        run_config=tune.RunConfig(
            name=out.name,
            storage_path=str(out.parent),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
            failure_config=tune.FailureConfig(max_failures=2),  # a machine that goes away costs an epoch
            verbose=1,
        ),
    )


def rows(results):
    """Return what became of each candidate, those that trained longest first, the better first among these."""
    found = []
    for result in results:
        spec = result.config["spec"]
        if result.error or "top1" not in (result.metrics or {}):
            found.append({"spec": spec, "epochs": 0, "top1": None, "error": str(result.error)})
            continue
        costs = {"params": budgetnets.count_params(**spec), "macs": budgetnets.count_macs(**spec)}
        reached = {"epochs": result.metrics["epoch"], "top1": result.metrics["top1"]}
        found.append({"spec": spec, **costs, **reached, "started_at": result.metrics["started_at"]})
    return sorted(found, key=lambda row: (-row["epochs"], -(row["top1"] or 0)))


def main():
    args = parse_args()
    out = args.out.resolve()
    local = {} if args.address else {"num_cpus": args.workers and args.workers * args.cpus, "include_dashboard": False}
    environment = {"working_dir": str(Path(__file__).parent)}  # the workers import train.py from there
    ray.init(address=args.address, runtime_env=environment, **local)
    found = rows(make_tuner(args, out).fit())
    run_folder.write(out / "results.json", lambda path: path.write_text(json.dumps(found, indent=1) + "\n"), REMEDY)
    print(f"{'parameters':>12} {'M mult-adds':>12} {'epochs':>7} {'top-1 %':>8}  letters")
    for row in found:
        letters = {name: row["spec"][name] for name in ("N", "B", "C", "F", "K", "P", "se")}
        if row["top1"] is None:
            print(f"{'failed':>42}  {letters}: {row['error']}")
            continue
        costs = f"{row['params']:>12,} {row['macs'] / 1e6:>12,.1f}"
        print(f"{costs} {row['epochs']:>7} {row['top1']:>8.2f}  {letters}")
    ray.shutdown()
    return int(any(row["top1"] is None for row in found))


if __name__ == "__main__":
    sys.exit(main())
