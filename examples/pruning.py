"""Prune a trained variant, and fine-tune what is left: what R1 tried, with torch.nn.utils.prune.

    python examples/pruning.py --model resnet9_cifar --data DIR --out runs/pruning

For each share it starts from the trained weights, sets that share of all convolution and classifier weights to zero,
the smallest first, and measures the accuracy on the test set before and after fine-tuning, in which the zeros stay.
The figures go to pruning.json in the folder; `--resume` goes on after the last share. R1 prints neither its share nor
its fine-tuning, so these are ours. Needs `pip install "budgetnets[train]"`.
"""

import argparse
import json
import sys
from pathlib import Path

import cifar
import fast_data
import numerics
import option_checks
import recipes
import run_folder
import torch
import torch.nn.functional as F
import train
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.nn.utils import prune
from tqdm import tqdm

USED = {  # of train.py's options; the rest would change nothing
    *("model", "model_args", "data", "out", "resume", "seed", "epochs", "batch_size", "opt", "opt_args", "decay_all"),
    *("lr", "momentum", "weight_decay", "sched", "sched_args", "warmup", "smoothing", "crop", "pad", "flip"),
    *("rotate", "translate", "jitter", "auto_augment", "cutout", "mean", "std", "limit", "fast", "workers"),
    *("precision", "cpu"),
}


def parse_args(argv):
    """Return the shares, whether the weights are random, and train.py's options for the fine-tuning."""
    p = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="The options of train.py that say how the network is fine-tuned are taken too, such as --fast.",
    )
    p.add_argument("--shares", type=float, nargs="+", default=[0.2, 0.5, 0.8, 0.9, 0.95], help="of the weights")
    p.add_argument("--no-pretrained", action="store_true", help="random weights, to try the script")
    own, rest = p.parse_known_args(argv)
    if not all(0 < share < 1 for share in own.shares):
        p.error(f"--shares {own.shares} must lie between 0 and 1, such as 0.5")
    args = train.parse_args(["--epochs", "10", "--lr", "0.01", "--batch-size", "128", "--ema", "0", *rest])
    recipes.refuse_unused(p, args, train.defaults() | {"ema": 0.0}, USED)
    if args.data != "fake" and own.no_pretrained:
        p.error("--no-pretrained is for trying the script with --data fake; random weights have nothing to lose")
    if args.sched not in option_checks.OF_TIMM:
        p.error(f"--sched {args.sched} steps by epochs of a log, which there is none of here; use one of timm's")
    return own.shares, own.no_pretrained, args


def prunable(model):
    """The weights that are pruned: those of convolutions and of the classifier, as (module, name)."""
    return [(module, "weight") for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def finetune(model, args, sampler, loader, accelerator, layout, title):
    """Train what is left; the masks stand between the optimizer and the weights, so that the zeros stay."""
    optimizer = recipes.make_optimizer(args, model, accelerator.device)
    schedule = recipes.Schedule(args, optimizer, len(loader))
    unseen = numerics.unseen_taps(model, 32, accelerator)
    model.train()
    for epoch in range(args.epochs):
        set_seed(cifar.epoch_seed(args.seed, epoch))
        sampler.epoch = epoch
        bar = tqdm(loader, f"{title}, epoch {epoch + 1}/{args.epochs}", leave=False)
        for step, (images, labels) in enumerate(bar, start=epoch * len(loader) + 1):
            schedule.before_update(step)
            with accelerator.autocast():
                logits = model(images.to(memory_format=layout)).float()
            loss = F.cross_entropy(logits, labels, label_smoothing=args.smoothing)
            accelerator.backward(loss)
            numerics.clear(unseen)
            optimizer.step()
            optimizer.zero_grad()
        numerics.stop_unless_finite([(step, optimizer.param_groups[0]["lr"], loss.item())])


def main(argv=None):
    shares, random, args = parse_args(argv)
    cpu = args.cpu or not torch.accelerator.is_available()  # else torchrun's processes would not find each other
    accelerator = Accelerator(mixed_precision=args.precision, cpu=cpu)
    if accelerator.num_processes > 1:
        sys.exit("pruning.py works in one process; start it without torchrun or accelerate launch")
    with run_folder.claimed(args.out, args.resume, "pruning.json"):
        study(shares, random, args, accelerator)


def study(shares, random, args, accelerator):
    sampler, loader, _, test = (fast_data if args.fast else cifar).make_loaders(args, accelerator)

    def fresh():
        set_seed(args.seed)  # so that each share starts from the same weights, random ones too
        return recipes.make_model(args, accelerator.device, pretrained=not random)

    file, model = Path(args.out) / "pruning.json", fresh()
    log = recipes.describe_run(args, accelerator, model) | {"rows": []}
    del log["epochs"], log["start_sha256"]  # the start is the variant's weights, which no --model-args named
    if file.exists():
        saved = json.loads(file.read_text())
        run_folder.refuse_changed(args.out, saved, log)
        log = run_folder.continued(saved, log)
    else:
        log["top1"], _ = train.evaluate(model, test, accelerator)
        print(f"{args.model} as it comes: {log['top1']:.2f} %")
    for share in shares:
        if any(row["share"] == share for row in log["rows"]):
            continue
        model = fresh()
        weights = prunable(model)
        prune.global_unstructured(weights, pruning_method=prune.L1Unstructured, amount=share)
        zeros = sum(int((module.weight == 0).sum()) for module, _ in weights)
        layout = numerics.memory_format(model, accelerator.device)
        model = model.to(memory_format=layout)  # not before: prune takes views of the weights
        before, _ = train.evaluate(model, test, accelerator)
        finetune(model, args, sampler, loader, accelerator, layout, f"share {share}")
        after, _ = train.evaluate(model, test, accelerator)
        for module, name in weights:
            prune.remove(module, name)
        left = sum(int((module.weight == 0).sum()) for module, _ in weights)
        if left < zeros:
            raise RuntimeError(f"{zeros - left} of {zeros} pruned weights came back in the fine-tuning")
        log["rows"].append({"share": share, "zeros": zeros, "pruned_top1": before, "finetuned_top1": after})
        print(f"{share:.0%} of the weights zero: {before:.2f} %, after {args.epochs} epochs {after:.2f} %")
        run_folder.write(file, lambda path: path.write_text(json.dumps(log, indent=1) + "\n"))


if __name__ == "__main__":
    main()
