"""verify(): the listed accuracy of a variant's weights, measured again on the real test set."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from .registry import create
from .state import WeightsUnavailable
from .variants import Weights, find_variant, find_weights

TOLERANCE = 0.02  # percentage points; two images of 10,000, for the rounding of other machines' arithmetic


@dataclass(frozen=True)
class Verification:
    """What `verify` found; `print` shows it.

    Attributes:
        name: the variant and the weights' tag.
        sha256: of the file that was loaded; it equals the card's, or `verify` would have raised.
        correct: how many images were classified correctly.
        total: how many there are.
        top1: their share in percent.
        listed_top1: what the card says.
        seconds: how long the test set took.
    """

    name: str
    sha256: str
    correct: int
    total: int
    top1: float
    listed_top1: float
    seconds: float

    @property
    def matches(self) -> bool:
        """Whether the accuracy is the card's, to 0.02 points."""
        return abs(self.top1 - self.listed_top1) <= TOLERANCE + 1e-9

    def __str__(self) -> str:
        verdict = "as listed" if self.matches else f"NOT as listed, {self.top1 - self.listed_top1:+.2f} points"
        return (
            f"{self.name}: sha256 {self.sha256[:16]}... as pinned; top-1 {self.top1:.2f} % "
            f"({self.correct:,} of {self.total:,}), listed {self.listed_top1:.2f} %: {verdict} ({self.seconds:.0f} s)"
        )


def verify(
    name: str,
    root: str | Path,
    *,
    batch_size: int = 500,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> Verification:
    """Check a variant's weights: the file's hash, and its accuracy on CIFAR-10's 10,000 test images in fp32.

    Args:
        name: a variant, with or without a weights' tag.
        root: the folder that holds `cifar-10-batches-py`, as torchvision unpacks it. Nothing is downloaded.
        batch_size: images at a time.
        device: where the network runs.
        progress: show a bar on standard error.

    Raises:
        ValueError: an unknown name.
        FileNotFoundError: the test set is not under `root`, or is not the published one.
        WeightsUnavailable, WeightsIntegrity, WeightsMismatch: the weights cannot be had as they were published.
    """
    row, weights = find_variant(name), find_weights(name)
    if weights is None:
        raise WeightsUnavailable(f"{row.name} has no trained weights yet, so there is nothing to verify.")
    images, labels = _test_set(root)
    model = create(f"{row.name}.{weights.tag}", pretrained=True).to(device=device, dtype=torch.float32)
    started = time.perf_counter()
    correct = _count_correct(model, weights, images, labels, batch_size, progress)
    return Verification(
        name=f"{row.name}.{weights.tag}",
        sha256=weights.sha256,
        correct=correct,
        total=len(labels),
        top1=100 * correct / len(labels),
        listed_top1=weights.top1,
        seconds=time.perf_counter() - started,
    )


def _test_set(root: str | Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return CIFAR-10's test images (10000, 3, 32, 32) as uint8, and their labels."""
    from torchvision.datasets import CIFAR10  # heavy: not at import

    try:
        data = CIFAR10(str(root), train=False, download=False)
    except Exception as error:
        raise FileNotFoundError(
            f"{Path(root) / 'cifar-10-batches-py'} does not hold CIFAR-10's published python version ({error}); unpack "
            "cifar-10-python.tar.gz there, or let torchvision.datasets.CIFAR10(root, download=True) do it"
        ) from error
    return torch.from_numpy(data.data).permute(0, 3, 1, 2), torch.tensor(data.targets)


@torch.inference_mode()
def _count_correct(
    model: nn.Module, weights: Weights, images: torch.Tensor, labels: torch.Tensor, batch_size: int, progress: bool
) -> int:
    from tqdm import tqdm

    device = next(model.parameters()).device
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (weights.mean, weights.std))
    correct = 0
    for start in tqdm(range(0, len(images), batch_size), desc=f"test set, {device}", disable=not progress, leave=False):
        batch = images[start : start + batch_size].to(device).float().div(255)  # (B, 3, 32, 32), 0..1
        logits = model((batch - mean) / std)
        correct += int((logits.argmax(1).cpu() == labels[start : start + batch_size]).sum())
    return correct
