"""verify(): the listed accuracy of a variant's weights, measured again on the real test set."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from .checks import integer
from .progress import bar
from .registry import create
from .state import WeightsUnavailable
from .variants import VARIANTS_ALONE, find_variant, find_weights

MOST_IMAGES = 1_000_000  # at a time: a cap for typing mistakes
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
        calibration_error: of the probabilities, in percent.
        seconds: how long the test set took.
    """

    name: str
    sha256: str
    correct: int
    total: int
    top1: float
    listed_top1: float
    calibration_error: float
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
    batch_size: int = 50,
    flip: bool = False,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> Verification:
    """Check a variant's weights: the file's hash, and its accuracy on CIFAR-10's 10,000 test images in fp32.

    Args:
        name: a variant, with or without a weights' tag.
        root: the folder that holds `cifar-10-batches-py`, as torchvision unpacks it. Nothing is downloaded.
        batch_size: images at a time; on a CPU few are faster, on a GPU more.
        flip: measure with the mean of the logits of each image and its mirror image, the card's `top1_flip`.
        device: where the network runs.
        progress: show a bar on standard error.

    Raises:
        TypeError: a batch size that is no integer.
        ValueError: an unknown name, or a batch size below 1.
        FileNotFoundError: the test set is not under `root`, or is not the published one.
        WeightsUnavailable, WeightsIntegrity, WeightsMismatch: the weights cannot be had as they were published.
    """
    row, weights = find_variant(name, VARIANTS_ALONE), find_weights(name)
    if weights is None:
        raise WeightsUnavailable(f"{row.name} has no trained weights, so there is nothing to verify.")
    batch_size = integer("batch_size", batch_size, 1, MOST_IMAGES)
    images, labels = read_test_set(root)
    model = create(f"{row.name}.{weights.tag}", pretrained=True).to(device=device, dtype=torch.float32)
    started = time.perf_counter()
    logits = predict(model, images, weights.mean, weights.std, batch_size=batch_size, flip=flip, progress=progress)
    correct = int((logits.argmax(1) == labels).sum())
    return Verification(
        name=f"{row.name}.{weights.tag}",
        sha256=weights.sha256,
        correct=correct,
        total=len(labels),
        top1=100 * correct / len(labels),
        listed_top1=weights.top1_flip if flip else weights.top1,
        calibration_error=calibration_error(logits, labels),
        seconds=time.perf_counter() - started,
    )


def read_test_set(root: str | Path) -> tuple[torch.Tensor, torch.Tensor]:
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
def predict(
    model: nn.Module,
    images: torch.Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    batch_size: int = 50,
    flip: bool = False,
    progress: bool = True,
) -> torch.Tensor:
    """Return the network's logits (n, classes) of uint8 images (n, 3, H, W); `flip`: their and their mirrors' mean."""
    device = next(model.parameters()).device
    offset, scale = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (mean, std))
    logits = []
    for batch in bar(images.split(batch_size), desc=f"test set, {device}", disable=not progress):
        x = batch.to(device).float().div(255)  # (B, 3, H, W), 0..1
        x = (x - offset) / scale
        y = (model(x) + model(x.flip(3))) / 2 if flip else model(x)
        logits.append(y.float().cpu())
    return torch.cat(logits)


def calibration_error(logits: torch.Tensor, labels: torch.Tensor, bins: int = 15) -> float:
    """Return how far the probability of the likeliest class is from the share of right answers, in percent.

    The images are put into bins of equal width by that probability; the distances are weighted by the bins' sizes.

    Args:
        logits: (n, classes).
        labels: (n).
        bins: how many.

    Source: Guo et al., "On Calibration of Modern Neural Networks" (arXiv 1706.04599), section 2.
    """
    probability, answer = logits.double().softmax(1).max(1)
    hit = (answer == labels).double()
    index = (probability * bins).long().clamp(max=bins - 1)
    distance = torch.zeros(bins, dtype=torch.float64).index_add_(0, index, probability - hit)
    return 100 * distance.abs().sum().item() / len(labels)
