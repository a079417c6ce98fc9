"""Train a network of the family on CIFAR-10: the reference train function, to be read from top to bottom.

    python examples/train.py --model resnet9_cifar --data DIR --out runs/resnet9
    torchrun --nproc-per-node 8 examples/train.py --model resnet9_cifar --precision bf16 --out runs/resnet9

It runs on a CPU, on one GPU, or under torchrun on several processes and machines. The run's folder gets log.json (every
epoch), curves.png, model.safetensors and checkpoint.pt, each replaced whole, so that a kill costs one epoch at most;
`--resume` goes on to the same numbers. Needs `pip install "budgetnets[train]"`.
"""

import argparse
import contextlib
import hashlib
import json
import math
import os
import platform
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import set_seed
from safetensors.torch import save_file
from timm.data import Mixup
from timm.data.auto_augment import rand_augment_transform
from timm.data.random_erasing import RandomErasing
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, Subset
from torchvision.datasets import CIFAR10, FakeData
from torchvision.transforms import v2
from tqdm import tqdm

import budgetnets


def parse_args(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", default="resnet9_cifar", help="a variant, or budget_resnet with --model-args")
    p.add_argument(
        "--model-args", type=json.loads, default={}, metavar="JSON", help='such as \'{"N": 2, "B": 1, "C": 32}\''
    )
    p.add_argument(
        "--data", default="data", help="folder with (or for) CIFAR-10; 'fake' makes noise images to try the script"
    )
    p.add_argument("--out", type=Path, required=True, help="the run's folder")
    p.add_argument("--resume", action="store_true", help="go on with the run in --out, where there is one")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--epochs", type=int, default=32)
    p.add_argument("--sizes", default="", metavar="SIZExEPOCHS,...", help="first epochs at smaller images: 16x6,24x19")
    p.add_argument("--batch-size", type=int, default=256, help="images per update, over all processes")
    p.add_argument("--opt", default="nesterov", help="any optimizer of timm")
    p.add_argument("--lr", type=float, default=0.2, help="its peak")
    p.add_argument("--momentum", type=float, default=0.9)
    p.add_argument("--weight-decay", type=float, default=5e-4, help="on convolutions and the classifier only")
    p.add_argument(
        "--sched", default="poly", help="any scheduler of timm, stepped every update; poly is linear to zero"
    )
    p.add_argument("--warmup", type=float, default=0.2, help="share of the run in which the rate rises from 0")
    p.add_argument("--smoothing", type=float, default=0.1, help="of the labels")
    p.add_argument(
        "--ema", type=float, default=0.998, help="decay of the averaged weights, which are the result; 0: none"
    )
    p.add_argument("--clip", type=float, default=0.0, help="largest norm of the gradient; 0: any")
    p.add_argument("--crop", type=int, default=4, help="pixels that a random crop may be off, padded by reflection")
    p.add_argument("--flip", choices=["alternating", "random", "none"], default="alternating",
                   help="alternating: each image is mirrored in every second epoch")  # fmt: skip
    p.add_argument("--auto-augment", default="", help="timm's, such as rand-m6-n2-mstd0.5, or trivial (TrivialAugment)")
    p.add_argument("--erase", type=float, default=0.0, help="probability of erasing a random box")
    p.add_argument("--mixup", type=float, default=0.0, help="alpha; 0: none")
    p.add_argument("--cutmix", type=float, default=0.0, help="alpha; 0: none")
    p.add_argument(
        "--holdout", type=int, default=0, help="training images kept apart and evaluated instead of the test set"
    )
    p.add_argument(
        "--early-stop", type=int, default=0, metavar="EPOCHS", help="stop when the hold-out got no better for so long"
    )
    p.add_argument(
        "--keep-best", action="store_true", help="the result is the best epoch on the hold-out, not the last"
    )
    p.add_argument("--eval-every", type=int, default=1, metavar="EPOCHS")
    p.add_argument("--limit", type=int, default=0, help="use only so many images of each set; 0: all")
    p.add_argument("--workers", type=int, default=1)
    p.add_argument("--precision", choices=["no", "bf16", "fp16"], default="no")
    p.add_argument("--compile", action="store_true")
    p.add_argument("--cpu", action="store_true", help="even where there is a GPU")
    p.add_argument("--freeze-bn", action="store_true", help="keep BatchNorm's running statistics fixed and use them")
    args = p.parse_args(argv)
    if (args.early_stop or args.keep_best) and not args.holdout:
        p.error("--early-stop and --keep-best choose by the hold-out, never by the test set; add --holdout 5000")
    return args


def open_cifar10(root, train, limit):
    """CIFAR-10 as PIL images; downloaded where it is missing and there is a network."""
    if root == "fake":
        return FakeData(limit or 512, (3, 32, 32), 10, random_offset=0 if train else 10**6)
    present = (Path(root) / "cifar-10-batches-py").is_dir()
    try:
        data = CIFAR10(root, train=train, download=not present)
    except Exception as error:
        sys.exit(f"--data {root}: expected {Path(root) / 'cifar-10-batches-py'} with data_batch_1 to _5, test_batch and "
                 f"batches.meta as published, or a network to download them from ({type(error).__name__}: {error})")  # fmt: skip
    return Subset(data, range(min(limit or len(data), len(data))))


class Augmented(Dataset):
    """Images under a transform whose random numbers depend on seed, epoch and sample alone, not on the process."""

    def __init__(self, data, args, mean, std):
        self.data, self.args = data, args
        crop = [v2.RandomCrop(32, padding=args.crop, padding_mode="reflect")] if args.crop else []
        auto = []
        if args.auto_augment == "trivial":
            auto = [v2.TrivialAugmentWide()]
        elif args.auto_augment:
            auto = [rand_augment_transform(args.auto_augment, {"img_mean": tuple(round(255 * m) for m in mean)})]
        erase = [RandomErasing(args.erase, mode="pixel", device="cpu")] if args.erase else []
        to_tensor = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
        self.transform = v2.Compose([*crop, *auto, *to_tensor, *erase])

    def __len__(self):
        return len(self.data)

    def __getitem__(self, key):
        epoch, i = key
        image, label = self.data[i]
        digest = hashlib.blake2b(f"{self.args.seed} {i}".encode(), digest_size=8).digest()
        first_flip = digest[0] % 2
        seed = (int.from_bytes(digest[1:5], "little") + epoch) % 2**32
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        flip = {"alternating": (first_flip + epoch) % 2, "random": random.random() < 0.5, "none": False}[self.args.flip]
        return self.transform(v2.functional.horizontal_flip(image) if flip else image), label


class EpochSampler(Sampler):
    """Yields (epoch, sample) in an order that depends on seed and epoch alone."""

    def __init__(self, length, seed):
        self.length, self.seed, self.epoch = length, seed, 0

    def __len__(self):
        return self.length

    def __iter__(self):
        order = torch.randperm(self.length, generator=torch.Generator().manual_seed(self.seed * 100_003 + self.epoch))
        return iter([(self.epoch, i) for i in order.tolist()])


def size_of_epoch(sizes, epoch):
    """Side of the training images in an epoch: "16x6,24x19" is 6 epochs at 16 pixels, 19 at 24, then 32."""
    for part in filter(None, sizes.split(",")):
        size, epochs = map(int, part.split("x"))
        if epoch < epochs:
            return size
        epoch -= epochs
    return 32


@torch.inference_mode()
def evaluate(model, loader, accelerator):
    """Return top-1 accuracy in percent and mean loss."""
    model.eval()
    correct, losses = [], []
    for images, labels in loader:
        images = images.to(memory_format=torch.channels_last)
        with accelerator.autocast():
            logits = model(images).float()
        loss = F.cross_entropy(logits, labels, reduction="none")
        hits, loss = accelerator.gather_for_metrics((logits.argmax(1) == labels, loss))
        correct.append(hits.float())
        losses.append(loss)
    return 100 * torch.cat(correct).mean().item(), torch.cat(losses).mean().item()


def write(path, save):
    """Write a file beside its place and move it there, so that a kill leaves the old one or the new one."""
    save(path.with_name(path.name + ".tmp"))
    os.replace(path.with_name(path.name + ".tmp"), path)


def describe_run(args, accelerator, model):
    """What a reader of the log needs to judge its figures."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    device = (
        torch.cuda.get_device_name()
        if accelerator.device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    if device in ("x86_64", "") and Path("/proc/cpuinfo").exists():
        device = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line).split(
            ": "
        )[1]
    return {
        "model": args.model,
        "params": sum(p.numel() for p in model.parameters()),
        "args": {
            k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items() if k not in ("out", "data", "resume")
        },
        "command": " ".join(["python examples/train.py", *(a for a in sys.argv[1:] if a != "--resume")]),
        "hardware": f"{accelerator.num_processes} x {device}, {torch.get_num_threads()} threads each",
        "versions": {"torch": torch.__version__, "timm": timm.__version__, "budgetnets": budgetnets.__version__},
        "commit": commit.stdout.strip() or None,
    }


def plot(log, path):
    """Draw the log's curves."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    for axis, names in zip(axes, [("train_loss", "eval_loss"), ("train_top1", "eval_top1"), ("lr",)], strict=True):
        for name in names:
            points = [(e["epoch"], e[name]) for e in log["epochs"] if name in e]
            axis.plot(
                *zip(*points, strict=True),
                label=name.replace("eval", log["evaluated_on"]),
                marker="." if len(points) < 60 else "",
            )
        axis.set_xlabel("epoch")
        axis.legend()
    figure.suptitle(f"{log['model']}, {log['params']:,} parameters")
    figure.savefig(path, format="png", dpi=110)
    plt.close(figure)


def main(argv=None):
    args = parse_args(argv)
    accelerator = Accelerator(mixed_precision=args.precision, cpu=args.cpu,
                              dataloader_config=DataLoaderConfiguration(split_batches=True))  # fmt: skip
    say = accelerator.print
    checkpoint_path, log_path = args.out / "checkpoint.pt", args.out / "log.json"
    if checkpoint_path.exists() and not args.resume:
        sys.exit(f"--out {args.out} already holds a run; go on with it (--resume) or choose another folder")
    set_seed(args.seed)

    # Data: a hold-out is taken from the training set by the seed alone; the test set then waits for the last epoch.
    mean, std = budgetnets.CIFAR10_MEAN, budgetnets.CIFAR10_STD
    plain = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    train_images, test_images = (open_cifar10(args.data, train, args.limit) for train in (True, False))
    order = torch.randperm(len(train_images), generator=torch.Generator().manual_seed(0)).tolist()
    kept, held_out = sorted(order[args.holdout :]), sorted(order[: args.holdout])
    train_set = Augmented(Subset(train_images, kept), args, mean, std)
    sampler = EpochSampler(len(train_set), args.seed)
    batches = BatchSampler(sampler, args.batch_size, drop_last=True)
    if not len(batches):
        sys.exit(f"--batch-size {args.batch_size} is more than the {len(train_set)} training images")

    def eval_loader(images):
        return DataLoader([(plain(image), label) for image, label in images], batch_size=500)

    loader = DataLoader(train_set, batch_sampler=batches, num_workers=args.workers, persistent_workers=args.workers > 0)
    test_loader = eval_loader(test_images)
    holdout_loader = eval_loader(Subset(train_images, held_out)) if args.holdout else None

    # Model, averaged model, optimizer, schedule. The average is copied before Accelerate wraps the model.
    model = timm.create_model(args.model, **args.model_args).to(memory_format=torch.channels_last)
    if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    ema = ModelEmaV3(model.to(accelerator.device), decay=args.ema, use_warmup=True) if args.ema else None
    optimizer = create_optimizer_v2(model, args.opt, lr=args.lr, weight_decay=args.weight_decay, momentum=args.momentum)
    scheduler, _ = create_scheduler_v2(
        optimizer, args.sched, num_epochs=args.epochs, warmup_epochs=args.warmup * args.epochs, warmup_lr=0.0,
        decay_rate=1.0, step_on_epochs=False, updates_per_epoch=len(batches))  # fmt: skip
    mix = (
        Mixup(args.mixup, args.cutmix, label_smoothing=args.smoothing, num_classes=10)
        if args.mixup or args.cutmix
        else None
    )
    log = describe_run(args, accelerator, model) | {"evaluated_on": "holdout" if args.holdout else "test", "epochs": []}
    model, optimizer, loader, test_loader = accelerator.prepare(model, optimizer, loader, test_loader)
    holdout_loader = accelerator.prepare(holdout_loader) if args.holdout else None
    raw = accelerator.unwrap_model(model)
    result = ema.module if ema else raw
    forward = torch.compile(model, dynamic=False) if args.compile else model

    best = {"top1": -1.0, "epoch": -1, "state": None}
    if args.resume and checkpoint_path.exists():
        saved = torch.load(checkpoint_path, map_location="cpu", weights_only=True)
        if saved["log"]["args"] != log["args"]:
            changed = [k for k, v in log["args"].items() if saved["log"]["args"].get(k) != v]
            sys.exit(f"--resume {args.out}: {', '.join(changed)} differ from the run's own; give its options unchanged")
        raw.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        if ema:
            ema.module.load_state_dict(saved["ema"])
        log, best = saved["log"], saved["best"]
        say(f"resumed after {len(log['epochs'])} epochs")

    for epoch in range(len(log["epochs"]), args.epochs):
        started, seen, hits, loss_sum = time.perf_counter(), 0, 0.0, 0.0
        set_seed(args.seed * 100_003 + epoch)  # so that dropout and mixing resume to the same numbers
        sampler.epoch, size = epoch, size_of_epoch(args.sizes, epoch)
        model.train()
        if args.freeze_bn:
            for module in filter(lambda m: isinstance(m, torch.nn.modules.batchnorm._BatchNorm), model.modules()):
                module.eval()
        bar = tqdm(
            loader,
            desc=f"epoch {epoch + 1}/{args.epochs}",
            disable=not accelerator.is_main_process,
            leave=False,
            mininterval=5,
        )
        for step, (images, labels) in enumerate(bar, start=epoch * len(loader)):
            scheduler.step_update(step + 1)
            images, targets = mix(images, labels) if mix else (images, labels)
            if size != 32:
                images = F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)
            logits = forward(images.to(memory_format=torch.channels_last)).float()
            loss = F.cross_entropy(logits, targets, label_smoothing=0.0 if mix else args.smoothing)
            accelerator.backward(loss)
            if args.clip:
                accelerator.clip_grad_norm_(model.parameters(), args.clip)
            optimizer.step()
            optimizer.zero_grad()
            if ema:
                ema.update(raw, step=step + 1)
            seen += len(labels)
            hits, loss_sum = hits + (logits.argmax(1) == labels).sum(), loss_sum + loss.detach() * len(labels)
            if step % 20 == 0 and not math.isfinite(loss.item()):
                sys.exit(f"the loss is {loss.item()} at step {step + 1}, learning rate {optimizer.param_groups[0]['lr']:.4g}; "
                         "lower --lr, or clip the gradient with --clip 1")  # fmt: skip
        hits, loss_sum, seen = (accelerator.reduce(torch.as_tensor(float(v), device=accelerator.device)).item()
                                for v in (hits, loss_sum, seen))  # fmt: skip
        entry = {"epoch": epoch + 1, "size": size, "lr": optimizer.param_groups[0]["lr"],
                 "train_loss": loss_sum / seen, "train_top1": 100 * hits / seen}  # fmt: skip
        entry["train_seconds"] = round(time.perf_counter() - started, 1)
        last = epoch + 1 == args.epochs
        if last or (epoch + 1) % args.eval_every == 0:
            top1, entry["eval_loss"] = evaluate(result, holdout_loader or test_loader, accelerator)
            entry["eval_top1"] = top1
            if top1 > best["top1"] and args.holdout:
                best = {
                    "top1": top1,
                    "epoch": epoch + 1,
                    "state": {k: v.cpu().clone() for k, v in result.state_dict().items()} if args.keep_best else None,
                }
        stop = args.early_stop and epoch + 1 - best["epoch"] >= args.early_stop
        if args.keep_best and (last or stop):
            result.load_state_dict(best["state"])
            log["kept_epoch"] = best["epoch"]
        if args.holdout and (last or stop):
            log["test_top1"], log["test_loss"] = evaluate(result, test_loader, accelerator)
        log["epochs"].append(entry)
        say(" ".join(f"{k} {v:.4g}" for k, v in entry.items()))
        if accelerator.is_main_process:
            args.out.mkdir(parents=True, exist_ok=True)
            state = {
                "model": raw.state_dict(),
                "optimizer": optimizer.state_dict(),
                "ema": ema.module.state_dict() if ema else None,
                "log": log,
                "best": best,
            }
            weights = {k: v.contiguous() for k, v in result.state_dict().items()}
            write(args.out / "model.safetensors", lambda path, w=weights: save_file(w, path, {"format": "pt"}))
            write(log_path, lambda path: path.write_text(json.dumps(log, indent=1) + "\n"))
            with contextlib.suppress(ImportError):  # matplotlib is only for the picture
                write(args.out / "curves.png", lambda path: plot(log, path))
            write(checkpoint_path, lambda path, s=state: torch.save(s, path))
        if stop:
            say(f"stopped: no better hold-out accuracy than {best['top1']:.2f} % of epoch {best['epoch']}")
            break
    accelerator.end_training()
    return log


if __name__ == "__main__":
    main()
