"""CIFAR-10 as train.py takes it: opened, split, augmented and shuffled by seed, epoch and sample alone."""

import contextlib
import hashlib
import math
import random
import re
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, Subset
from torchvision.datasets import CIFAR10, FakeData
from torchvision.transforms import v2

EVAL_BATCH = 500


def mean_and_std(args):
    """Return what the images are normalized by, each for red, green and blue."""
    both = []
    for name, least in (("mean", -math.inf), ("std", 0.0)):
        text = getattr(args, name)
        try:
            figures = tuple(map(float, text.split(",")))
        except ValueError:
            figures = ()
        if len(figures) != 3 or not all(least < figure < math.inf for figure in figures):
            sys.exit(f"--{name} {text} must be three numbers, and std's more than 0; for example 0.25,0.24,0.26")
        both.append(figures)
    return both


def to_normalized(args):
    """Return the transform from a PIL image to what the network takes."""
    return v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(*mean_and_std(args))])


def split_images(args, processes):
    """Return the training images, which of them are kept and which held out, and the test images.

    The hold-out is the same for every seed, so that recipes are compared on the same images.
    """
    for name, known in (("flip", ("alternating", "random", "none")), ("pad", ("reflect", "constant"))):
        if getattr(args, name) not in known:
            sys.exit(f"--{name} {getattr(args, name)} is unknown; use {' or '.join(known)}")
    if args.batch_size % processes:
        sys.exit(f"--batch-size {args.batch_size} is not shared evenly by {processes} processes; use a multiple")
    train, test = open_images(args, train=True), open_images(args, train=False)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0)).tolist()
    kept, held_out = sorted(order[args.holdout :]), sorted(order[: args.holdout])
    if not kept:
        sys.exit(f"--holdout {args.holdout} leaves none of the {len(train)} training images; use a smaller one")
    if (args.mixup or args.cutmix) and args.batch_size // processes % 2:
        share = args.batch_size // processes
        sys.exit(f"--batch-size {args.batch_size} is {share} for each process, which is odd; images are mixed in pairs")
    if args.batch_size > len(kept):
        sys.exit(f"--batch-size {args.batch_size} is more than the {len(kept)} training images; use a smaller one")
    return train, kept, held_out, test


def make_loaders(args, accelerator):
    """Return the training set's sampler, whose `epoch` is set before each, and training, hold-out and test loader."""
    train_images, kept, held_out, test_images = split_images(args, accelerator.num_processes)
    train_set = Augmented(Subset(train_images, kept), args)
    sampler = EpochSampler(len(train_set), args.seed)
    batches = BatchSampler(sampler, args.batch_size, drop_last=True)
    workers = {"num_workers": args.workers, "persistent_workers": args.workers > 0}
    # It draws from a generator of its own, how often depending on the workers; dropout's numbers must not.
    train = DataLoader(train_set, batch_sampler=batches, generator=torch.Generator(), **workers)
    plain = to_normalized(args)
    processes = accelerator.num_processes
    batch_size = -(-EVAL_BATCH // processes) * processes  # Accelerate splits a batch evenly
    holdout, test = (
        augmented_again(images, args, batch_size, clock=sampler)
        if args.augment_eval
        else DataLoader([(plain(image), label) for image, label in images], batch_size=batch_size)
        for images in (Subset(train_images, held_out), test_images)
    )
    return sampler, *accelerator.prepare(train, holdout, test)


def augmented_again(images, args, batch_size, clock):
    """Return a loader of all images in their order, augmented like training images and anew in every epoch."""
    batches = BatchSampler(InOrder(len(images), clock), batch_size, drop_last=False)
    return DataLoader(Augmented(images, args), batch_sampler=batches, num_workers=args.workers)


def open_images(args, train):
    """CIFAR-10 as PIL images; downloaded where it is missing and there is a network."""
    if args.data == "fake":
        return FakeData(args.limit or 512, (3, 32, 32), 10, random_offset=0 if train else 10**6)
    folder = Path(args.data) / "cifar-10-batches-py"
    if not Path(args.data).is_dir():
        wanted = f"expected a folder with {folder.name}, or one into which to download it"
        sys.exit(f"--data {args.data}: there is no such folder; {wanted} (mkdir {args.data})")
    try:
        data = CIFAR10(args.data, train=train, download=not folder.is_dir())
    except Exception as error:
        what = "data_batch_1 to _5, test_batch and batches.meta as published, or a network to download them from"
        sys.exit(f"--data {args.data}: expected {folder} with {what} ({type(error).__name__}: {error})")
    return Subset(data, range(min(args.limit or len(data), len(data))))


def rand_augment(policy):
    """Return timm's RandAugment by its text; exit where timm would drop a part of it, or fail in the midst of a run."""
    blank = Image.new("RGB", (32, 32))
    try:
        _, *sections = policy.split("-")
        for section in sections:
            if not re.fullmatch(r"t[a-z]+|[a-su-z][a-z]*[0-9.]+", section):
                raise ValueError(f"{section!r} is no letters and a number")
        transform = rand_augment_transform(policy, {})
        with seeded(0):
            for operation in transform.ops:
                for _ in range(20):  # each leaves some images as they are
                    operation(blank)
    except Exception as error:  # timm's and PIL's, mostly without a word
        sys.exit(
            f"--auto-augment {policy} is nothing that timm can do; use trivial, or such as rand-m6-n2-mstd0.5. {error}"
        )
    return transform


class Augmented(Dataset):
    """Training images under random transforms that depend on seed, epoch and sample alone, not on the process."""

    def __init__(self, images, args):
        self.images, self.seed, self.flip = images, args.seed, args.flip
        steps = [v2.RandomCrop(32, padding=args.crop, padding_mode=args.pad)] if args.crop else []
        if args.rotate:
            steps.append(v2.RandomRotation(args.rotate))
        if args.translate:
            steps.append(v2.RandomAffine(0, translate=(args.translate, args.translate)))
        if args.jitter:
            steps.append(v2.ColorJitter(args.jitter, args.jitter, args.jitter))
        if args.auto_augment == "trivial":
            steps.append(v2.TrivialAugmentWide())
        elif args.auto_augment:
            steps.append(rand_augment(args.auto_augment))
        steps.append(to_normalized(args))
        if args.cutout:
            steps.append(partial(cut_out_one, share=args.cutout))
        self.transform = v2.Compose(steps)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, key):
        epoch, i = key
        image, label = self.images[i]
        digest = hashlib.blake2b(f"{self.seed} {i}".encode(), digest_size=8).digest()
        seed = (int.from_bytes(digest[1:5], "little") + epoch) % 2**32
        with seeded(seed):
            flip = {"alternating": (digest[0] + epoch) % 2, "random": random.random() < 0.5, "none": False}[self.flip]
            return self.transform(v2.functional.horizontal_flip(image) if flip else image), label


@contextlib.contextmanager
def seeded(seed):
    """Seed all that transforms draw from; afterwards all go on as if nothing had been drawn.

    Without worker processes the images are augmented in the process that trains, which draws dropout and mixing.
    """
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    for seed_it in (random.seed, np.random.seed, torch.manual_seed):  # timm draws from the first two
        seed_it(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def cut_out(x, center, chosen, side=8):
    """Return normalized images (B, 3, H, W), the chosen ones with a square of 2 x side pixels in the mean colour.

    The square lies around the centre (row, column), and is cut off at the border (arXiv 1708.04552).
    """
    line = torch.arange(x.shape[-1])
    inside = (line >= center[:, :, None] - side) & (line < center[:, :, None] + side)  # (B, 2, 32): rows, columns
    box = inside[:, 0, :, None] & inside[:, 1, None, :] & chosen[:, None, None]  # (B, 32, 32)
    return x.masked_fill(box[:, None].to(x.device), 0.0)


def cut_out_one(image, share):
    """Return a normalized image (3, 32, 32), cut out with this probability."""
    return cut_out(image[None], torch.randint(0, 32, (1, 2)), torch.rand(1) < share)[0]


def epoch_seed(seed, epoch):
    """Return the seed of what is random in an epoch, counted from 0: a run resumes to the same numbers."""
    return seed * 100_003 + epoch


class EpochSampler(Sampler):
    """Yields (epoch, sample) in an order that depends on seed and epoch alone."""

    def __init__(self, length, seed):
        self.length, self.seed, self.epoch = length, seed, 0

    def __len__(self):
        return self.length

    def __iter__(self):
        generator = torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch))
        order = torch.randperm(self.length, generator=generator)
        return iter([(self.epoch, i) for i in order.tolist()])


class InOrder(Sampler):
    """Yields (epoch, sample) for every sample in its order, in the epoch of another sampler."""

    def __init__(self, length, clock):
        self.length, self.clock = length, clock

    def __len__(self):
        return self.length

    def __iter__(self):
        return iter([(self.clock.epoch, i) for i in range(self.length)])


def size_of_epoch(sizes, epoch):
    """Side of the training images in an epoch, counted from 0."""
    for part in filter(None, sizes.split(",")):
        size, epochs = map(int, part.split("x"))
        if epoch < epochs:
            return size
        epoch -= epochs
    return 32


def resized(images, size):
    """Return images (B, 3, 32, 32) at another size, antialiased."""
    return images if size == 32 else F.interpolate(images, size=size, mode="bilinear", antialias=True)
