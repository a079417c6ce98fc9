"""Fine-tune a pretrained variant on your own folder of images, with its own classes; to be read from top to bottom.

    python examples/finetune.py photos --out runs/photos --model resnet9_cifar --epochs 10

The folder has a subfolder of images for each class, or `train/` and `val/` with such subfolders. After every epoch the
run's folder gets model.safetensors and config.json in the Hugging Face Hub's layout, and log.json, each replaced whole,
so that a kill costs one epoch at most; what was reached comes back with
`budgetnets.create("local-dir:runs/photos", pretrained=True)`. Needs `pip install "budgetnets[train]"`.
"""

import argparse
import json
import math
import sys
from functools import partial
from pathlib import Path

import numerics
import run_folder
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from PIL import Image, ImageOps
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2
from tqdm import tqdm

import budgetnets
from budgetnets.preprocessing import as_mode

LOWER = "use a lower --lr"
ROOM = "make room, or choose another --out"


def parse_args():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", type=Path, help="one subfolder per class; or train/ and val/, each with such subfolders")
    p.add_argument("--out", type=Path, required=True, help="the run's folder")
    p.add_argument("--model", default="resnet9_cifar", help="a variant with weights, or local-dir: and a folder")
    p.add_argument("--no-pretrained", action="store_true", help="start from random weights")
    p.add_argument("--freeze", action="store_true", help="train the classifier alone")
    p.add_argument("--epochs", type=int, default=10)
    p.add_argument("--batch-size", type=int, default=64)
    p.add_argument("--lr", type=float, default=2e-3, help="of AdamW for the classifier, at its peak")
    p.add_argument("--layer-decay", type=float, default=0.7, help="factor on the rate from block to block, head first")
    p.add_argument("--holdout", type=float, default=0.2, help="share of each class kept apart, where there is no val/")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--workers", type=int, default=0)
    p.add_argument("--precision", choices=["no", "bf16", "fp16"], default="no")
    p.add_argument("--cpu", action="store_true", help="even where there is a GPU")
    args = p.parse_args()
    if not 0 < args.holdout < 1 or args.epochs < 1 or args.batch_size < 2:
        p.error("--holdout must be a share such as 0.2, --epochs at least 1 and --batch-size at least 2")
    if not 0 < args.lr < math.inf or args.workers < 0:
        p.error("--lr must be more than 0, such as 2e-3, and --workers 0 or more")
    if not 0 < args.layer_decay <= 1 or not 0 <= args.seed < 2**32:
        p.error("--layer-decay must be more than 0, at most 1, and --seed 0 or more, less than 2^32")
    if args.freeze and args.layer_decay != p.get_default("layer_decay"):
        p.error(f"--layer-decay {args.layer_decay} has no effect with --freeze, which trains the classifier alone")
    if has_val(args.folder) and args.holdout != p.get_default("holdout"):
        p.error(f"--holdout {args.holdout} has no effect, since {args.folder} has val/; leave it out")
    return args


def load_image(path):
    """Return an image file as an RGB image, upright: a camera's rotation is only a note in the file."""
    try:
        with Image.open(path) as image:
            return as_mode(ImageOps.exif_transpose(image), "RGB")  # as budgetnets.transforms has it, 16 bits too
    except Exception as error:  # a decoder may raise anything on damaged bytes
        sys.exit(f"{path} cannot be read as an image ({error}); repair it or take it out of the folder")


def open_folder(root):
    """Return a folder's images and class numbers, after reading each file once: better now than in the last epoch."""
    left_out = []

    def is_image(path):
        format = Image.registered_extensions().get(Path(path).suffix.lower())
        if format not in Image.OPEN:
            left_out.append(path)
        return format in Image.OPEN

    try:
        data = ImageFolder(str(root), loader=load_image, is_valid_file=is_image)
    except (FileNotFoundError, NotADirectoryError) as error:
        sys.exit(f"{root}: {error}; expected a folder with a subfolder of images for each class")
    if left_out:
        print(f"note: {len(left_out)} files are left out, as PIL reads none such: {left_out[0]}", file=sys.stderr)
    if "train" in data.classes and len(data.classes) < 4 and any(root.glob("*/*/")):
        found = ", ".join(data.classes)
        sys.exit(f"{root} has {found}, with folders in them; two sets of the same classes are named train and val")
    if len(data.classes) < 2:
        sys.exit(f"{root} has one class, {data.classes[0]!r}; a classifier needs a subfolder for each of two or more")
    for path, _ in tqdm(data.samples, desc=f"checking {root}", leave=False):
        load_image(path)
    return data


def has_val(root):
    """Whether a folder says itself which images are held out."""
    return (root / "train").is_dir() and (root / "val").is_dir()


def split_folder(root, share, seed):
    """Return classes, training and hold-out images: train/ and val/ where there are, else a share of each class."""
    if has_val(root):
        train, val = open_folder(root / "train"), open_folder(root / "val")
        if train.classes != val.classes:
            sys.exit(f"{root}: train/ has the classes {train.classes}, val/ {val.classes}; give both the same")
        return train.classes, train, val
    data, kept, held_out = open_folder(root), [], []
    generator = torch.Generator().manual_seed(seed)
    for name, number in data.class_to_idx.items():
        own = [i for i, target in enumerate(data.targets) if target == number]
        if len(own) < 2:
            sys.exit(f"{root / name} has one image; give two at least, one to train with and one to hold out")
        order = [own[i] for i in torch.randperm(len(own), generator=generator).tolist()]
        count = min(max(1, round(share * len(own))), len(own) - 1)
        held_out, kept = held_out + order[:count], kept + order[count:]
    return data.classes, Subset(data, kept), Subset(data, held_out)


def collate(transform, samples):
    """Return (image, class number) pairs as a batch: the same images need one transform to train, one to evaluate."""
    return torch.stack([transform(image) for image, _ in samples]), torch.tensor([label for _, label in samples])


@torch.inference_mode()
def evaluate(model, loader, num_classes):
    """Return the accuracy of each class and that of all images, in percent."""
    model.eval()
    correct, total = torch.zeros(num_classes), torch.zeros(num_classes)
    for images, labels in loader:
        hits = model(images).argmax(1) == labels
        correct += torch.bincount(labels[hits].cpu(), minlength=num_classes)
        total += torch.bincount(labels.cpu(), minlength=num_classes)
    return (100 * correct / total).tolist(), (100 * correct.sum() / total.sum()).item()


def save(args, network, log, step, rate):
    """Write what an epoch has reached, each file whole; exit where its last update has broken the network."""
    top1 = log["epochs"][-1]["holdout_top1"]
    with run_folder.writing(args.out, ROOM):
        try:
            told = {"repo_id": f"local-dir:{args.out}", "dataset": args.folder.resolve().name, "top1": top1}
            budgetnets.save_pretrained(network, args.out, **told)
        except budgetnets.WeightsMismatch:  # NaN, which equals nothing
            what = "the network has or gives values that are not finite"
            sys.exit(f"{what} after step {step}, learning rate {rate:.4g}; {LOWER}")
    text = json.dumps(log, indent=1) + "\n"
    run_folder.write(args.out / "log.json", lambda path: path.write_text(text), ROOM)


def train(args, accelerator, model, train_images, holdout_images):
    """Train as the options say; after every epoch, leave the network in the run's folder."""
    # Training sees a random part of an image, mirrored half the time, under the normalization of the evaluation.
    plain = budgetnets.transforms(model)
    crop = v2.RandomResizedCrop(model.pretrained_cfg["input_size"][1:], scale=(0.5, 1.0), antialias=True)
    to_mode, *_, to_tensor, normalize = plain.transforms
    augmented = v2.Compose([to_mode, crop, v2.RandomHorizontalFlip(), to_tensor, normalize])
    load = partial(DataLoader, batch_size=args.batch_size, num_workers=args.workers)
    full = len(train_images) >= args.batch_size  # a last batch of one image would upset batch normalization
    loader = load(train_images, shuffle=True, drop_last=full, collate_fn=partial(collate, augmented))
    holdout_loader = load(holdout_images, collate_fn=partial(collate, plain))

    if args.freeze:
        model.requires_grad_(False)
        model.get_classifier().requires_grad_(True)
    optimizer = create_optimizer_v2(model, "adamw", lr=args.lr, weight_decay=0.05, layer_decay=args.layer_decay)
    scheduler = CosineLRScheduler(optimizer, args.epochs * len(loader), t_in_epochs=False)
    own = model
    unseen = numerics.unseen_taps(own, own.pretrained_cfg["input_size"][-1], accelerator)
    model, optimizer, loader, holdout_loader = accelerator.prepare(own, optimizer, loader, holdout_loader)
    options = {name: value for name, value in vars(args).items() if not isinstance(value, Path)}
    log = {"options": options, "images": [len(train_images), len(holdout_images)], "epochs": []}
    for epoch in range(args.epochs):
        model.train(not args.freeze)  # frozen: batch normalization uses its statistics and leaves them as they are
        losses = []
        bar = tqdm(loader, desc=f"epoch {epoch + 1}/{args.epochs}", leave=False)
        for step, (images, labels) in enumerate(bar, start=epoch * len(loader) + 1):
            scheduler.step_update(step - 1)
            rate = max(group["lr"] for group in optimizer.param_groups)  # the classifier's; layer decay lowers the rest
            loss = F.cross_entropy(model(images), labels, label_smoothing=0.1)
            losses.append(loss.item())
            numerics.stop_unless_finite([(step, rate, losses[-1])], LOWER)
            accelerator.backward(loss)
            numerics.clear(unseen)
            optimizer.step()
            optimizer.zero_grad()
        by_class, top1 = evaluate(model, holdout_loader, len(own.class_names))
        log["epochs"].append({"epoch": epoch + 1, "train_loss": sum(losses) / len(losses), "holdout_top1": top1})
        print(f"epoch {epoch + 1}: training loss {log['epochs'][-1]['train_loss']:.3f}, hold-out {top1:.2f} %")

        # The last epoch is the result; the best one would have been chosen by the very images that measure it.
        log["holdout_top1_by_class"] = dict(zip(own.class_names, by_class, strict=True))
        save(args, own, log, step, rate)
    for name, accuracy in log["holdout_top1_by_class"].items():
        print(f"{name:<24} {accuracy:6.2f} %")
    print(f"{len(holdout_images)} images held out: {top1:.2f} %; the network is in {args.out}")


def main():
    args = parse_args()
    cpu = args.cpu or not torch.accelerator.is_available()  # else torchrun's processes would not find each other
    accelerator = Accelerator(mixed_precision=args.precision, cpu=cpu)
    if accelerator.num_processes > 1:
        sys.exit("finetune.py trains in one process; start it without torchrun or accelerate launch")
    run_folder.refuse_used(args.out)
    set_seed(args.seed)
    classes, *images = split_folder(args.folder, args.holdout, args.seed)
    try:
        model = budgetnets.create(args.model, pretrained=not args.no_pretrained, num_classes=len(classes))
    except (ValueError, RuntimeError, OSError) as error:  # an unknown name, no weights, no such folder
        sys.exit(f"--model {args.model}: {error}")
    model.class_names = tuple(classes)
    with run_folder.held(args.out):  # by one run at a time, which finds now and not at its end what it cannot write
        run_folder.refuse_used(args.out)
        train(args, accelerator, model, *images)
        (args.out / ".lock").unlink()  # from now on the files themselves keep others out


if __name__ == "__main__":
    main()
