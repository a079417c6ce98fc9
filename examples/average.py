"""Average the weights of trainings that went on from one another: better than each, where they are equally good.

    python examples/average.py runs/first runs/second --data DIR --out runs/both

Stochastic weight averaging (Izmailov et al. 2018, arXiv 1803.05407), with torch's own: such trainings end in different
places of one valley of the loss, and the mean may lie deeper in it. Each counts the same; BatchNorm's statistics are
those of training images as they are, measured with the averaged weights. Any may be a variant's weights but the last,
which is a run of train.py. The folder gets what a run's has: model.safetensors with config.json, and the last run's
log.json with "averaged", what was averaged and what it reached. Needs `pip install "budgetnets[train]"`.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import cifar
import fast_data
import recipes
import run_folder
import torch
import train
import trained
from accelerate import Accelerator
from torch.optim.swa_utils import AveragedModel, update_bn
from tqdm import tqdm

REMEDY = "make room, or choose another --out"


def parse_args(argv):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("runs", nargs="+", metavar="RUN", help="folders of finished runs, or variants with weights")
    p.add_argument("--data", required=True, help="folder with CIFAR-10; 'fake': noise, to try the script")
    p.add_argument("--out", type=Path, required=True, help="the folder of the result")
    p.add_argument("--images", type=int, default=10_000, help="of the training, for BatchNorm [%(default)s]")
    p.add_argument("--cpu", action="store_true", help="even where there is a GPU")
    args = p.parse_args(argv)
    if len(args.runs) < 2:
        p.error(f"{args.runs[0]} alone has no mean; give two trainings or more")
    if len(set(args.runs)) < len(args.runs):
        p.error(f"{', '.join(args.runs)}: one is given twice; each counts the same")
    if args.images < 1:
        p.error(f"--images {args.images} is out of range; use 1 or more, some thousands")
    return args


def average(networks):
    """Return the mean of networks that are built alike; BatchNorm's statistics are the first one's.

    Raises:
        ValueError: networks that differ in more than their weights.
    """
    mean = AveragedModel(networks[0])
    for network in networks:
        if built(network) != built(networks[0]):
            raise ValueError("networks that are built differently have no mean; give trainings of one network")
        mean.update_parameters(network)
    return mean.module


def built(network):
    """Return what networks have in common that differ in their weights alone."""
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    return type(network), getattr(network, "spec", None), shapes


def load_all(names):
    """Return the networks and the last one's log; exit where they saw different images."""
    networks, trainings = zip(*(trained.load("RUN", name) for name in names), strict=True)
    seen = {name: [training[name] for training in trainings] for name in ("holdout", "limit", "mean", "std")}
    for name, values in seen.items():
        if any(value != values[0] for value in values):
            sys.exit(f"{', '.join(names)}: their {name} is {', '.join(map(str, values))}; average what has the same")
    last = Path(names[-1], "log.json")
    if not last.exists():
        sys.exit(f"{names[-1]} has no log.json; the last must be the folder of a run, whose log the result gets")
    return networks, json.loads(last.read_text())


def main(argv=None):
    own = parse_args(argv)
    networks, log = load_all(own.runs)
    args = argparse.Namespace(**train.defaults() | log["args"] | {"data": own.data, "cpu": own.cpu})
    accelerator = Accelerator(cpu=own.cpu)
    with run_folder.claimed(own.out, resume=False):
        started = time.perf_counter()
        try:
            model = average(networks).to(accelerator.device, memory_format=torch.channels_last)
        except ValueError as error:
            sys.exit(f"{', '.join(own.runs)}: {error}")
        images, kept, _, _ = cifar.split_images(args, 1)
        pixels = fast_data.to_device(images, kept[: own.images], accelerator.device)
        batches = list(fast_data.PlainLoader(*pixels, cifar.mean_and_std(args)))
        batches = [batch for batch in batches if len(batch[0]) == len(batches[0][0])]  # all weigh the same in the mean
        seen = sum(len(batch[0]) for batch in batches)
        update_bn(tqdm(batches, "BatchNorm's statistics", leave=False), model)
        _, _, holdout, test = fast_data.make_loaders(args, accelerator)
        top1, loss = train.evaluate(model, holdout if args.holdout else test, accelerator)
        now = recipes.describe_run(args, accelerator, model)
        log["averaged"] = {"of": own.runs, "images": seen, "eval_top1": top1, "eval_loss": loss}
        log["averaged"] |= {"seconds": round(time.perf_counter() - started, 1), "commit": now["commit"]}
        config = run_folder.config_of(model, args, log.get("data", "CIFAR-10"))  # older logs do not say
        run_folder.write_network(own.out, model.state_dict(), config, REMEDY)
        run_folder.write_curves(own.out, log)
        text = json.dumps(log, indent=1) + "\n"
        run_folder.write(own.out / "log.json", lambda path: path.write_text(text), REMEDY)
    print(f"{own.out}: {top1:.2f} % on the {log['evaluated_on']} set, the mean of {' and '.join(own.runs)}")


if __name__ == "__main__":
    main()
