"""The fast path of train.py: all images stay on the device as uint8, and are augmented there in batches.

The random numbers are drawn on the CPU for the whole epoch, one set for each sample, so that they depend on seed, epoch
and sample alone: several processes and a resumed run see the same images. Nothing waits for the device.
"""

import math
import sys

import cifar
import torch
import torch.nn.functional as F
from torchvision.transforms.v2.functional import pil_to_tensor

from budgetnets import CIFAR10_MEAN, CIFAR10_STD

GREY = (0.299, 0.587, 0.114)  # weights of red, green and blue in brightness, ITU-R 601
TRIVIAL_OPS = (  # in the order of TrivialAugment's paper (arXiv 2103.10158), wide ranges
    *("identity", "autocontrast", "equalize", "rotate", "solarize", "color", "posterize", "contrast", "brightness"),
    *("sharpness", "shear_x", "shear_y", "translate_x", "translate_y"),
)
GEOMETRIC = {"rotate", "shear_x", "shear_y", "translate_x", "translate_y"}


def make_loaders(args, accelerator):
    """Return what cifar.make_loaders does; the training loader is its own sampler."""
    if args.auto_augment not in ("", "trivial"):
        sys.exit(f"--fast has no --auto-augment {args.auto_augment}; use trivial, or leave --fast out")
    train, kept, held_out, test = cifar.split_images(args)
    own = slice(accelerator.process_index, None, accelerator.num_processes)  # of each batch
    loader = FastLoader(*to_device(train, kept, accelerator.device), args, own)
    holdout, test = PlainLoader(train, held_out, accelerator), PlainLoader(test, range(len(test)), accelerator)
    return loader, loader, holdout, test


def to_device(images, indices, device):
    """Return the chosen PIL images as uint8 (n, 3, 32, 32), and their labels (n)."""
    samples = [images[i] for i in indices]
    pixels = torch.stack([pil_to_tensor(image) for image, _ in samples])
    return pixels.to(device), torch.tensor([label for _, label in samples], device=device)


def normalize(x):
    """Return images in 0..1 less the mean, over the standard deviation."""
    mean, std = (torch.tensor(v, device=x.device).view(1, 3, 1, 1) for v in (CIFAR10_MEAN, CIFAR10_STD))
    return (x - mean) / std


class PlainLoader:
    """Batches of unchanged images, to evaluate; every process sees them all."""

    def __init__(self, images, indices, accelerator):
        self.batches = []
        if len(indices):
            pixels, labels = to_device(images, indices, accelerator.device)
            self.batches = list(zip(pixels.split(cifar.EVAL_BATCH), labels.split(cifar.EVAL_BATCH), strict=True))

    def __iter__(self):
        for pixels, labels in self.batches:
            yield normalize(pixels.float() / 255), labels


class FastLoader:
    """Batches of augmented training images: this process's share of each global batch."""

    def __init__(self, images, labels, args, own):
        self.images, self.labels, self.args, self.own, self.epoch = images, labels, args, own, 0
        self.padded = F.pad(images.float(), [args.crop] * 4, mode="reflect").to(torch.uint8) if args.crop else images
        self.first_flip = torch.randint(0, 2, (len(images),), generator=torch.Generator().manual_seed(args.seed))

    def __len__(self):
        return len(self.images) // self.args.batch_size

    def __iter__(self):
        n, args = len(self.images), self.args
        g = torch.Generator().manual_seed(args.seed * 100_003 + self.epoch)
        order = torch.randperm(n, generator=g)
        corner = torch.randint(0, 2 * args.crop + 1, (n, 2), generator=g)
        flip = torch.randint(0, 2, (n,), generator=g)
        flip = {"random": flip, "none": 0 * flip, "alternating": (self.first_flip + self.epoch) % 2}[args.flip].bool()
        op = torch.randint(0, len(TRIVIAL_OPS), (n,), generator=g)
        strength, sign = torch.rand(n, generator=g), torch.randint(0, 2, (n,), generator=g) * 2 - 1
        erased, center = torch.rand(n, generator=g) < args.erase, torch.randint(0, 32, (n, 2), generator=g)
        for start in range(0, len(self) * args.batch_size, args.batch_size):
            i = order[start : start + args.batch_size][self.own]
            x = crop_and_flip(self.padded, i, corner[i], flip[i])
            if args.auto_augment:
                x = trivial_augment(x, op[i], strength[i], sign[i])
            x = normalize(x)
            if args.erase:
                x = cut_out(x, center[i], erased[i])
            yield x, self.labels[i.to(x.device)]


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


def cut_out(x, center, erased, side=8):
    """Set a square of 2 x side pixels around each centre to the mean colour, cut off at the border."""
    line = torch.arange(x.shape[-1])
    inside = (line >= center[:, :, None] - side) & (line < center[:, :, None] + side)  # (B, 2, 32): rows, columns
    box = inside[:, 0, :, None] & inside[:, 1, None, :] & erased[:, None, None]  # (B, 32, 32)
    return x.masked_fill(box[:, None].to(x.device), 0.0)


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
        matrices = torch.stack(
            [matrix(TRIVIAL_OPS[k], a) for k, a in zip(op[chosen], amount[chosen].tolist(), strict=True)]
        )
        grid = F.affine_grid(matrices.to(x.device), [len(chosen), *x.shape[1:]], align_corners=False)
        x[at] = F.grid_sample(x[at], grid, mode="nearest", align_corners=False)
    return x


def matrix(name, amount, size=32):
    """Return the (2, 3) matrix from an output position to its source, in coordinates from -1 to 1."""
    if name == "rotate":
        angle = math.radians(135 * amount)
        return torch.tensor([[math.cos(angle), -math.sin(angle), 0.0], [math.sin(angle), math.cos(angle), 0.0]])
    shear_x, shear_y = (0.99 * amount if name == f"shear_{axis}" else 0.0 for axis in "xy")
    shift_x, shift_y = (2 * 32 * amount / size if name == f"translate_{axis}" else 0.0 for axis in "xy")
    return torch.tensor([[1.0, shear_x, shift_x], [shear_y, 1.0, shift_y]])


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
