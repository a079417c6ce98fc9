"""The fast path of train.py: all images stay on the device as uint8, and are augmented there in batches.

The random numbers are drawn on the CPU for the whole epoch, one set for each sample, so that they depend on seed, epoch
and sample alone: several processes and a resumed run see the same images. A GPU augments many batches at once: what
the CPU has to tell it, for which it must wait, is told once for all of these.
"""

import sys
from typing import NamedTuple

import cifar
import torch
import torch.nn.functional as F
from torch.utils.data import Subset
from torchvision.datasets import CIFAR10
from torchvision.transforms.v2.functional import pil_to_tensor

from budgetnets import CIFAR10_MEAN, CIFAR10_STD

GREY = (0.299, 0.587, 0.114)  # weights of red, green and blue in brightness, ITU-R 601
TRIVIAL_OPS = (  # in the order of TrivialAugment's paper (arXiv 2103.10158), wide ranges
    *("identity", "autocontrast", "equalize", "rotate", "solarize", "color", "posterize", "contrast", "brightness"),
    *("sharpness", "shear_x", "shear_y", "translate_x", "translate_y"),
)
GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
AT_ONCE = 16  # batches augmented together on a GPU; a processor takes one, which stays in its cache


def make_loaders(args, accelerator):
    """Return what cifar.make_loaders does; the training loader is its own sampler."""
    if args.auto_augment not in ("", "trivial"):
        sys.exit(f"--fast has no --auto-augment {args.auto_augment}; use trivial, or leave --fast out")
    train, kept, held_out, test = cifar.split_images(args, accelerator.num_processes)
    own = slice(accelerator.process_index, None, accelerator.num_processes)  # of each batch
    look = Look(args.pad, Distortion(args.rotate, args.translate, args.jitter), cifar.mean_and_std(args))
    loader = FastLoader(*to_device(train, kept, accelerator.device), args, own, look)
    evaluated = []
    for images, indices in ((train, held_out), (test, range(len(test)))):
        pixels, labels = to_device(images, indices, accelerator.device)
        if args.augment_eval:
            evaluated.append(FastLoader(pixels, labels, args, slice(None), look, clock=loader))
        else:
            evaluated.append(PlainLoader(pixels, labels, look.statistics))
    return loader, loader, *evaluated


def to_device(images, indices, device):
    """Return the chosen PIL images as uint8 (n, 3, 32, 32), and their labels (n)."""
    if not len(indices):
        return torch.empty(0, 3, 32, 32, dtype=torch.uint8, device=device), torch.empty(0, dtype=int, device=device)
    if isinstance(images, Subset) and isinstance(images.dataset, CIFAR10):  # its array, not an image after the other
        chosen = torch.tensor(images.indices)[torch.tensor(indices)]
        pixels = torch.from_numpy(images.dataset.data)[chosen].permute(0, 3, 1, 2).contiguous()
        return pixels.to(device), torch.tensor(images.dataset.targets)[chosen].to(device)
    samples = [images[i] for i in indices]
    pixels = torch.stack([pil_to_tensor(image) for image, _ in samples])
    return pixels.to(device), torch.tensor([label for _, label in samples], device=device)


def normalize(x, statistics=(CIFAR10_MEAN, CIFAR10_STD)):
    """Return images in 0..1 less the mean, over the standard deviation."""
    mean, std = (torch.tensor(v, device=x.device).view(1, 3, 1, 1) for v in statistics)
    return (x - mean) / std


class PlainLoader:
    """Batches of unchanged images, to evaluate; every process sees them all."""

    def __init__(self, images, labels, statistics):
        self.images, self.labels, self.statistics = images, labels, statistics

    def __iter__(self):
        for pixels, labels in zip(*(x.split(cifar.EVAL_BATCH) for x in (self.images, self.labels)), strict=True):
            yield normalize(pixels.float() / 255, self.statistics), labels


class Distortion(NamedTuple):
    """torchvision's RandomRotation, RandomAffine for a shift, and ColorJitter, in this order, drawn for each image."""

    rotate: float = 0.0
    translate: float = 0.0
    jitter: float = 0.0

    def draw(self, n, g):
        """Return n angles (degrees), shifts (x and y, pixels), three colour factors, and the order of these."""
        angle = self.rotate * (2 * torch.rand(n, generator=g) - 1)
        shift = (32 * self.translate * (2 * torch.rand(n, 2, generator=g) - 1)).round()
        factors = 1 + self.jitter * (2 * torch.rand(n, 3, generator=g) - 1)
        return angle, shift, factors.clamp(min=0), torch.rand(n, 3, generator=g).argsort(1)

    def apply(self, x, angle, shift, factors, order):
        """Return images (B, 3, 32, 32) in 0..1, each distorted by its numbers, which are on the CPU."""
        if self.rotate:
            cos, sin = torch.cos(torch.deg2rad(angle)), torch.sin(torch.deg2rad(angle))
            x = warp(x, torch.stack([torch.stack([cos, -sin, 0 * cos], 1), torch.stack([sin, cos, 0 * cos], 1)], 1))
        if self.translate:
            source = torch.eye(2, 3).repeat(len(x), 1, 1)
            source[:, :, 2] = -2 * shift / x.shape[-1]
            x = warp(x, source)
        for place in range(3) if self.jitter else ():
            for k, name in enumerate(("brightness", "contrast", "color")):
                chosen = (order[:, place] == k).nonzero()[:, 0]
                amount = (factors[chosen, k] - 1).to(x.device).view(-1, 1, 1, 1) / 0.99  # as blend takes it
                at = chosen.to(x.device)
                x = x.index_copy(0, at, COLOUR[name](x[at], amount))
        return x


class Look(NamedTuple):
    """What becomes of the images beside crop, flip and --auto-augment."""

    pad: str = "reflect"
    distortion: Distortion = Distortion()
    statistics: tuple = (CIFAR10_MEAN, CIFAR10_STD)


class FastLoader:
    """Batches of augmented images: this process's share of each global batch.

    With a `clock`, another loader whose epoch it follows, it evaluates: all images, in their order.
    """

    def __init__(self, images, labels, args, own, look=None, clock=None):
        self.images, self.labels, self.args, self.own, self.epoch = images, labels, args, own, 0
        self.look, self.clock = look or Look(), clock or self
        self.batch_size = cifar.EVAL_BATCH if clock else args.batch_size
        self.at_once = 1 if images.device.type == "cpu" else AT_ONCE
        self.padded = images
        if args.crop:
            self.padded = F.pad(images.float(), [args.crop] * 4, mode=self.look.pad).to(torch.uint8)
        self.first_flip = torch.randint(0, 2, (len(images),), generator=torch.Generator().manual_seed(args.seed))

    def __len__(self):
        whole, rest = divmod(len(self.images), self.batch_size)
        return whole + bool(rest and self.clock is not self)

    def __iter__(self):
        n, args, epoch = len(self.images), self.args, self.clock.epoch
        g = torch.Generator().manual_seed(cifar.epoch_seed(args.seed, epoch))
        order = torch.randperm(n, generator=g)
        corner = torch.randint(0, 2 * args.crop + 1, (n, 2), generator=g)
        flip = torch.randint(0, 2, (n,), generator=g)
        flip = {"random": flip, "none": 0 * flip, "alternating": (self.first_flip + epoch) % 2}[args.flip].bool()
        op = torch.randint(0, len(TRIVIAL_OPS), (n,), generator=g)
        strength, sign = torch.rand(n, generator=g), torch.randint(0, 2, (n,), generator=g) * 2 - 1
        cut, center = torch.rand(n, generator=g) < args.cutout, torch.randint(0, 32, (n, 2), generator=g)
        drawn = self.look.distortion.draw(n, g)
        order = order if self.clock is self else torch.arange(n)
        batches = [batch[self.own] for batch in order.split(self.batch_size)][: len(self)]
        for start in range(0, len(batches), self.at_once):
            together = batches[start : start + self.at_once]
            i = torch.cat(together)
            x = crop_and_flip(self.padded, i, corner[i], flip[i])
            x = self.look.distortion.apply(x, *(numbers[i] for numbers in drawn))
            if args.auto_augment:
                x = trivial_augment(x, op[i], strength[i], sign[i])
            x = normalize(x, self.look.statistics)
            if args.cutout:
                x = cifar.cut_out(x, center[i], cut[i])
            sizes = [len(batch) for batch in together]
            yield from zip(x.split(sizes), self.labels[i.to(x.device)].split(sizes), strict=True)


def crop_and_flip(padded, i, corner, flip, size=32):
    """Return images i of the padded set as floats in 0..1, each cropped at its corner (y, x), mirrored where asked."""
    device = padded.device
    across = torch.arange(size).expand(len(i), size)
    across = torch.where(flip[:, None], across.flip(1), across)
    rows = (corner[:, :1] + torch.arange(size)).to(device)  # (B, 32)
    columns = (corner[:, 1:] + across).to(device)  # (B, 32)
    picked = padded[i.to(device)]  # (B, 3, 40, 40)
    picked = picked.gather(2, rows[:, None, :, None].expand(-1, 3, -1, padded.shape[3]))  # (B, 3, 32, 40)
    return picked.gather(3, columns[:, None, None, :].expand(-1, 3, size, -1)).float() / 255  # (B, 3, 32, 32)


def trivial_augment(x, op, strength, sign):
    """Apply one operation to each image: TrivialAugment Wide, with images (B, 3, H, W) in 0..1.

    Args:
        op: index into TRIVIAL_OPS of each image, on the CPU.
        strength: 0 to 1 for each image; sign: -1 or 1.
    """
    x = x.clone()
    amount, turn = strength * sign, []
    for k, name in enumerate(TRIVIAL_OPS):
        chosen = (op == k).nonzero()[:, 0]
        if name in GEOMETRIC:
            turn.append(chosen)
        elif len(chosen) and name != "identity":
            at = chosen.to(x.device)
            values = (strength if name in ("solarize", "posterize") else amount)[chosen].to(x.device).view(-1, 1, 1, 1)
            x[at] = COLOUR[name](x[at], values)
    chosen = torch.cat(turn)
    if len(chosen):
        at = chosen.to(x.device)
        x[at] = warp(x[at], sources(op[chosen], amount[chosen]))
    return x


def warp(x, matrices):
    """Return the images, each pixel taken from where its matrix (2, 3) leads to, black beyond the border."""
    grid = F.affine_grid(matrices.to(x.device), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="nearest", align_corners=False)


def sources(op, amount, size=32):
    """Return for geometric operations (n) and their amounts (n), from -1 to 1, what `warp` takes, (n, 2, 3).

    A matrix leads from an output position to its source, in coordinates from -1 to 1.
    """
    at = {name: amount * (op == TRIVIAL_OPS.index(name)) for name in GEOMETRIC}  # zero for the other operations
    cos, sin = torch.cos(torch.deg2rad(135 * at["rotate"])), torch.sin(torch.deg2rad(135 * at["rotate"]))
    shear_x, shear_y = 0.99 * at["shear_x"], 0.99 * at["shear_y"]  # about the upper left corner, at -1
    shift_x, shift_y = (2 * 32 / size * at[f"translate_{axis}"] for axis in "xy")
    rows = (cos, shear_x - sin, shear_x + shift_x), (shear_y + sin, cos, shear_y + shift_y)
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def blend(x, other, amount):
    return (other + (1 + 0.99 * amount) * (x - other)).clamp(0, 1)


def grey(x):
    return (x * torch.tensor(GREY, device=x.device).view(1, 3, 1, 1)).sum(1, keepdim=True)


def blurred(x):
    """Return the images smoothed by a 3x3 kernel inside, unchanged at the border."""
    kernel = torch.ones(3, 1, 3, 3, device=x.device)
    kernel[:, :, 1, 1] = 5.0
    smooth = x.clone()
    smooth[:, :, 1:-1, 1:-1] = F.conv2d(x, kernel / 13, groups=3)
    return smooth


def autocontrast(x, _):
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).clamp(min=1e-6), x)


def equalize(x, _):
    """Return the images with each channel's histogram made flat, as PIL does it."""
    levels = (x * 255).round().long().flatten(2)  # (B, 3, H*W)
    counts = torch.zeros(*levels.shape[:2], 256, device=x.device, dtype=torch.long)
    counts.scatter_add_(2, levels, torch.ones_like(levels))
    last = counts.gather(2, levels.amax(2, keepdim=True))  # PIL leaves the brightest level out of the step
    step = (levels.shape[2] - last) // 255  # (B, 3, 1)
    before = counts.cumsum(2) - counts
    table = ((before + step // 2) // step.clamp(min=1)).clamp(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=x.device))
    return (table.gather(2, levels).view(x.shape)).float() / 255


def posterize(x, strength):
    bits = 8 - (6 * strength).round()
    step = 2 ** (8 - bits)
    return ((x * 255).round() / step).floor() * step / 255


COLOUR = {
    "autocontrast": autocontrast,
    "equalize": equalize,
    "solarize": lambda x, strength: torch.where(x >= 1 - strength, 1 - x, x),
    "color": lambda x, amount: blend(x, grey(x), amount),
    "posterize": posterize,
    "contrast": lambda x, amount: blend(x, grey(x).mean((2, 3), keepdim=True), amount),
    "brightness": lambda x, amount: blend(x, torch.zeros_like(x), amount),
    "sharpness": lambda x, amount: blend(x, blurred(x), amount),
}
