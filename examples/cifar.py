"""CIFAR-10 as train.py takes it: opened, split, augmented and shuffled by seed, epoch and sample alone."""

import hashlib
import random
import sys
from pathlib import Path

import numpy as np
import torch
from timm.data.auto_augment import rand_augment_transform
from timm.data.random_erasing import RandomErasing
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, Subset
from torchvision.datasets import CIFAR10, FakeData
from torchvision.transforms import v2

from budgetnets import CIFAR10_MEAN, CIFAR10_STD

NORMALIZE = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(CIFAR10_MEAN, CIFAR10_STD)])
EVAL_BATCH = 500


def split_images(args):
    """Return the training images, which of them are kept and which held out, and the test images.

    The hold-out is the same for every seed, so that recipes are compared on the same images.
    """
    train, test = open_images(args, train=True), open_images(args, train=False)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0)).tolist()
    kept, held_out = sorted(order[args.holdout :]), sorted(order[: args.holdout])
    if args.batch_size > len(kept):
        sys.exit(f"--batch-size {args.batch_size} is more than the {len(kept)} training images; use a smaller one")
    return train, kept, held_out, test


def make_loaders(args, accelerator):
    """Return the training set's sampler, whose `epoch` is set before each, and training, hold-out and test loader."""
    train_images, kept, held_out, test_images = split_images(args)
    train_set = Augmented(Subset(train_images, kept), args)
    sampler = EpochSampler(len(train_set), args.seed)
    batches = BatchSampler(sampler, args.batch_size, drop_last=True)
    train = DataLoader(train_set, batch_sampler=batches, num_workers=args.workers, persistent_workers=args.workers > 0)
    holdout, test = (
        DataLoader([(NORMALIZE(image), label) for image, label in images], batch_size=EVAL_BATCH)
        for images in (Subset(train_images, held_out), test_images)
    )
    return sampler, *accelerator.prepare(train, holdout, test)


def open_images(args, train):
    """CIFAR-10 as PIL images; downloaded where it is missing and there is a network."""
    if args.data == "fake":
        return FakeData(args.limit or 512, (3, 32, 32), 10, random_offset=0 if train else 10**6)
    folder = Path(args.data) / "cifar-10-batches-py"
    try:
        data = CIFAR10(args.data, train=train, download=not folder.is_dir())
    except Exception as error:
        what = "data_batch_1 to _5, test_batch and batches.meta as published, or a network to download them from"
        sys.exit(f"--data {args.data}: expected {folder} with {what} ({type(error).__name__}: {error})")
    return Subset(data, range(min(args.limit or len(data), len(data))))


class Augmented(Dataset):
    """Training images under random transforms that depend on seed, epoch and sample alone, not on the process."""

    def __init__(self, images, args):
        self.images, self.seed, self.flip = images, args.seed, args.flip
        if args.flip not in ("alternating", "random", "none"):
            sys.exit(f"--flip {args.flip} is unknown; use alternating, random or none")
        steps = [v2.RandomCrop(32, padding=args.crop, padding_mode="reflect")] if args.crop else []
        if args.auto_augment == "trivial":
            steps.append(v2.TrivialAugmentWide())
        elif args.auto_augment:
            steps.append(rand_augment_transform(args.auto_augment, {}))
        steps.append(NORMALIZE)
        if args.erase:
            steps.append(RandomErasing(args.erase, mode="pixel", device="cpu"))
        self.transform = v2.Compose(steps)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, key):
        epoch, i = key
        image, label = self.images[i]
        digest = hashlib.blake2b(f"{self.seed} {i}".encode(), digest_size=8).digest()
        seed = (int.from_bytes(digest[1:5], "little") + epoch) % 2**32
        for seed_it in (random.seed, np.random.seed, torch.manual_seed):  # timm draws from the first two
            seed_it(seed)
        flip = {"alternating": (digest[0] + epoch) % 2, "random": random.random() < 0.5, "none": False}[self.flip]
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
    """Side of the training images in an epoch, counted from 0."""
    for part in filter(None, sizes.split(",")):
        size, epochs = map(int, part.split("x"))
        if epoch < epochs:
            return size
        epoch -= epochs
    return 32
