"""What a row of the zoo's table holds: `Variant`, with what its reports say (`Reported`) and its trained `Weights`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .spec import ResNetSpec

BUDGET = 5_000_000  # parameters that all five reports allow
HUB_ORGANIZATION = "budgetnets"  # a variant's weights are published as <HUB_ORGANIZATION>/<name>

#: CIFAR-10's classes, in the order of its labels.
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
#: Mean of the training images' pixels per channel, scaled to 0..1.
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
#: Standard deviation of the same; the widespread 0.2023, 0.1994, 0.2010 is not the pixels'.
CIFAR10_STD = (0.2470, 0.2435, 0.2616)


@dataclass(frozen=True)
class Reported:
    """What a report says that one of its runs reached: top-1 accuracy on CIFAR-10's test set, in percent."""

    run: str
    top1: float


@dataclass(frozen=True)
class Weights:
    """The card of one trained weight file.

    Args:
        tag: `<recipe>_<data set>`; timm's name of the weights is `<variant>.<tag>`.
        sha256: of the file, in hex. The bundled file and the Hub's are the same bytes.
        top1: accuracy of that file run in fp32, percent, single crop, no test-time augmentation.
        top1_flip: the same with the mean of the image's and its mirror image's logits.
        ece: expected calibration error of its probabilities in percent, 15 bins.
        seeds: top1 of every seed's run of the recipe; the file is the median's.
        recipe: the training run, which started at random: command, epochs, hardware, seconds, seed, commit.
        log: the run's log of every epoch, relative to the repository.
        classes, mean, std: what the network was trained with.
    """

    tag: str
    sha256: str
    top1: float
    top1_flip: float
    ece: float
    seeds: tuple[float, ...]
    recipe: Mapping[str, Any] = field(hash=False)  # a dict, which has none
    log: str
    dataset: str = "CIFAR-10"
    classes: tuple[str, ...] = CIFAR10_CLASSES
    mean: tuple[float, float, float] = CIFAR10_MEAN
    std: tuple[float, float, float] = CIFAR10_STD
    license: str = "apache-2.0"
    bundled: bool = True

    @property
    def mean_and_spread(self) -> str:
        """Mean and standard deviation over the seeds, for a reader."""
        if len(self.seeds) == 1:
            return "one seed"
        return f"{statistics.mean(self.seeds):.2f} +- {statistics.stdev(self.seeds):.2f} over {len(self.seeds)} seeds"

    @property
    def hub_revision(self) -> str:
        """The Hub's git tag that holds exactly this file."""
        return self.tag


@dataclass(frozen=True)
class Variant:
    """One row of the zoo.

    Args:
        name: as in `budgetnets.create(name)` and `timm.create_model(name)`.
        spec: the architecture.
        params: its exact number of parameters.
        reports: keys of the reports that describe it, such as ("R1", "R3"); empty for a network of our own.
        reported_params: the count as the report prints it.
        reported: what the reports' runs reached.
        note: what does not agree in the report, in a sentence; or where a network of our own comes from.
        weights: trained weights, the default first.
        budget: the parameters that it may have.
    """

    name: str
    spec: ResNetSpec
    params: int
    reports: tuple[str, ...] = ()
    reported_params: str = ""
    reported: tuple[Reported, ...] = ()
    note: str = ""
    weights: tuple[Weights, ...] = ()
    budget: int = BUDGET

    @property
    def in_budget(self) -> bool:
        """Whether the network has at most `budget` parameters."""
        return self.params <= self.budget

    @property
    def hub_repo(self) -> str:
        """The Hub repository that holds the variant's weights."""
        return f"{HUB_ORGANIZATION}/{self.name}"
