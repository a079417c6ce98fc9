"""Short trainings of networks drawn over the search's space, for the predictor of accuracy: one table of runs.

    python benchmarks/predictor_runs.py --data DIR --out runs/short.json
    python benchmarks/predictor_runs.py --data DIR --out runs/short.json --count 12 --macs 40e6 160e6    then larger

The networks are the default space's, from 2 to 40 million multiply-adds and of at most 5 million parameters. They are
drawn so that both are spread evenly in their logarithm, and every choice of N, F, K, P and se is as frequent as the
others; a few are trained with three seeds, so that the noise is known. Each run is examples/train.py with the options
of RECIPE: 10,000 training images, 5,000 others to evaluate the last epoch on; nothing is evaluated on the test set.

The table is written whole after each run. What is in it is not trained again, so a run that was killed is lost alone.
`--shard 1/2` and, at the same time, `--shard 2/2` share the work. Needs `pip install "budgetnets[bench]"`. Afterwards:
`python benchmarks/fit_predictor.py --runs runs/short.json`.
"""

import argparse
import contextlib
import io
import json
import math
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from arguments import at_least, file
from filelock import FileLock
from tqdm import tqdm

from budgetnets import ResNetSpec, count_macs, count_memory, count_params, vectorized
from budgetnets.search_space import Space, make_space

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import train

RECIPE = (
    *("--fast", "--test", "never", "--opt", "nesterov", "--lr", "0.1", "--weight-decay", "5e-4", "--sched", "poly"),
    *("--warmup", "0.2", "--smoothing", "0.1", "--ema", "0", "--crop", "4", "--flip", "random", "--precision", "no"),
)
MOST_PARAMS = 5_000_000
NEAR = 0.15  # how far from its place in log multiply-adds a network may be: so is there a choice of sizes
SEVERAL_SEEDS, SEEDS = 6, 3  # so many networks are trained with so many seeds, the others with one


def draw(count: int, macs: tuple[float, float], seed: int = 0) -> list[ResNetSpec]:
    """Return networks of the default space, spread evenly over log multiply-adds, log parameters and the options."""
    rng = np.random.default_rng(seed)
    networks, log_macs, log_params, levels = eligible(make_space(), macs)
    options = [np.unique(levels[:, i]) for i in range(levels.shape[1])]
    wanted = np.stack([rng.permutation(np.resize(values, count)) for values in options], 1)
    steps = np.linspace(*np.log(macs), count)
    chosen: list[int] = []
    for step, own in zip(steps, wanted, strict=True):
        alike = np.setdiff1d(matching(levels, own), chosen)
        if not len(alike):
            sys.exit(f"--count {count}: no more networks of {own.tolist()} in --macs {macs}; use fewer")
        distance = np.abs(log_macs[alike] - step)
        near = alike[distance <= max(distance.min(), NEAR)]
        size = rng.uniform(log_params[near].min(), log_params[near].max())
        chosen.append(int(near[np.abs(log_params[near] - size).argmin()]))
    # An unfinished table is spread over the space too.
    return [columns.spec(i) for columns, i in (networks[chosen[k]] for k in rng.permutation(count))]


def eligible(space: Space, macs: tuple[float, float]):
    """Return the networks to draw from (columns and place), their log MACs, log parameters and options."""
    networks, log_macs, log_params, levels = [], [], [], []
    for _, columns in space.chunks():
        costs, params = vectorized.macs(columns), vectorized.params(columns)
        fits = (costs >= macs[0]) & (costs <= macs[1]) & (params <= MOST_PARAMS)
        kept = columns.select(fits)
        networks += [(kept, i) for i in range(len(kept.se))]
        log_macs.append(np.log(costs[fits]))
        log_params.append(np.log(params[fits]))
        layers = np.full(len(kept.se), columns.num_layers)
        options = [layers, kept.kernel_sizes[0], kept.skip_kernel_sizes[0], kept.pool_size, kept.se]
        levels.append(np.stack(options, axis=1))
    return networks, *map(np.concatenate, (log_macs, log_params, levels))


def matching(levels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the networks with these options; four layers have P=4 as None alone."""
    same = levels == wanted
    same[:, 3] |= levels[:, 0] == 4
    return np.flatnonzero(same.all(axis=1))


def plan(count: int, macs: tuple[float, float]) -> list[tuple[ResNetSpec, int]]:
    """Return every run as its network and its seed; the further seeds come last."""
    specs = draw(count, macs)
    by_cost = sorted(specs, key=count_macs)
    repeated = [by_cost[i] for i in np.linspace(0, count - 1, min(SEVERAL_SEEDS, count)).round().astype(int)]
    return [(spec, 0) for spec in specs] + [(spec, seed) for spec in repeated for seed in range(1, SEEDS)]


def header(args: argparse.Namespace) -> dict:
    """What all runs of a table have in common."""
    return {
        "recipe": " ".join(options(args)),
        "data": "fake" if args.data == "fake" else "CIFAR-10",
        "train_images": args.images,
        "holdout_images": args.holdout,
        "epochs": args.epochs,
        "decay": "from the peak on",  # of the learning rate; until commit b77f6b2 it began in the warmup
    }


def options(args: argparse.Namespace) -> list[str]:
    """Return train.py's options that all runs share."""
    sizes = ["--limit", args.images + args.holdout, "--holdout", args.holdout, "--batch-size", args.batch_size]
    return [*RECIPE, *map(str, sizes), "--epochs", str(args.epochs), "--eval-every", str(args.epochs)]


def run(spec: ResNetSpec, seed: int, args: argparse.Namespace) -> dict:
    """Train one network and return its row."""
    started = time.perf_counter()
    row = {"spec": spec.to_dict(), "seed": seed, "params": count_params(spec), "macs": count_macs(spec)}
    row |= {"memory": count_memory(spec), "accuracy": None, "loss": None}
    what = {"model": "budget_resnet", "model-args": json.dumps(spec.to_dict()), "data": args.data, "seed": str(seed)}
    with TemporaryDirectory() as out:
        arguments = [*options(args), "--out", out]
        arguments += [text for name, value in what.items() for text in (f"--{name}", value)]
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # a line for each epoch would tear the progress bar
                train.main(arguments)
        except SystemExit as stopped:
            if not str(stopped).startswith("the loss is"):
                raise
            row["failed"] = str(stopped)  # a network that cannot be trained so is a result too
        else:
            log = json.loads((Path(out) / "log.json").read_text())
            row |= {"accuracy": log["epochs"][-1]["eval_top1"], "loss": log["epochs"][-1]["eval_loss"]}
            row |= {name: log[name] for name in ("hardware", "versions", "commit")}
    return row | {"seconds": round(time.perf_counter() - started, 1)}


def read(path: Path, shared: dict) -> dict:
    """Return the table, or an empty one."""
    if not path.exists():
        return shared | {"rows": []}
    table = json.loads(path.read_text())
    changed = [name for name, value in shared.items() if table.get(name) != value]
    if changed:
        sys.exit(f"--out {path}: its runs differ in {', '.join(changed)}; give the same options, or another file")
    return table


def append(path: Path, shared: dict, row: dict) -> None:
    """Add a row to the table, whoever else does so at the same time; a kill leaves the old table or the new one."""
    with FileLock(f"{path}.lock"):
        table = read(path, shared)
        lines = ",\n  ".join(json.dumps(entry) for entry in [*table["rows"], row])
        about = json.dumps(shared, indent=1)[:-2]
        beside = path.with_name(path.name + ".tmp")
        beside.write_text(f'{about},\n "rows": [\n  {lines}\n ]\n}}\n')  # a row is a line
        os.replace(beside, path)


def shard(text: str) -> tuple[int, int]:
    """Return (1, 2) for 1/2."""
    first, _, total = text.partition("/")
    if not (first.isdecimal() and total.isdecimal() and 1 <= int(first) <= int(total)):
        raise argparse.ArgumentTypeError(f"{text!r} must be such as 1/2, the first of two")
    return int(first), int(total)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with CIFAR-10; 'fake': noise, to try the script")
    parser.add_argument("--count", type=int, default=72, help="networks [72]; a few are trained three times")
    parser.add_argument("--shard", type=shard, default=(1, 1), metavar="I/M", help="only each M-th run, from the I-th")
    parser.add_argument("--out", type=file, required=True, help="the table, which grows by a row for each run")
    parser.add_argument("--macs", type=float, nargs=2, default=(2e6, 40e6), help="least and most multiply-adds")
    parser.add_argument("--images", type=at_least(1), default=10_000, help="to train on [10000]")
    parser.add_argument("--holdout", type=at_least(1), default=5_000, help="others, to evaluate on [5000]")
    parser.add_argument("--epochs", type=at_least(1), default=4)
    parser.add_argument("--batch-size", type=at_least(1), default=128)
    parser.add_argument("--threads", type=at_least(1), default=1, help="of torch")
    parser.add_argument("--list", action="store_true", help="print the runs and train nothing")
    args = parser.parse_args()
    if args.count < 1 or not 0 < args.macs[0] < args.macs[1] < math.inf:
        parser.error("--count must be 1 or more, and --macs two rising numbers")
    return args


def main() -> None:
    args = parse_args()
    runs = plan(args.count, tuple(args.macs))
    if args.list:
        for spec, seed in runs:
            letters = {name: value for name, value in spec.to_dict().items() if name in (*"NBCFKP", "se")}
            print(f"{count_params(spec):>9,} parameters  {count_macs(spec):>11,} multiply-adds  seed {seed}  {letters}")
        return
    torch.set_num_threads(args.threads)
    shared = header(args)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    done = [(row["spec"], row["seed"]) for row in read(args.out, shared)["rows"]]
    first, total = args.shard
    own = [(spec, seed) for spec, seed in runs[first - 1 :: total] if (spec.to_dict(), seed) not in done]
    for spec, seed in tqdm(own, f"runs, {len(runs) - len(done)} of {len(runs)} to go in all", position=1):
        append(args.out, shared, run(spec, seed, args))
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
