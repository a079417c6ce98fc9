"""What timm keeps beside a network, its pretrained_cfg: the size and normalization of its images, its first layer."""

from __future__ import annotations

from typing import Any

from .rows import CIFAR10_MEAN, CIFAR10_STD
from .spec import ResNetSpec


def timm_config(spec: ResNetSpec) -> dict[str, Any]:
    """Return timm's pretrained_cfg for a network of the family, without weights.

    `crop_pct` is 1.0: timm's default of 0.875 would enlarge a 32-pixel image to 36 and crop it. Mean and std are those
    of CIFAR-10, averaged for grey images; what images of other channels are normalized by, only their owner knows.
    """
    normalization: dict[str, Any] = {}
    if spec.in_chans in (1, 3):
        normalization = {"mean": CIFAR10_MEAN, "std": CIFAR10_STD}
    if spec.in_chans == 1:
        normalization = {key: (sum(values) / len(values),) for key, values in normalization.items()}
    return {
        "input_size": (spec.in_chans, spec.input_size, spec.input_size),
        "pool_size": (spec.final_size, spec.final_size),
        "num_classes": spec.num_classes,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "first_conv": "stem.conv",
        "classifier": "head",
        "license": "apache-2.0",
        **normalization,
    }


def drop_foreign_normalization(config: dict[str, Any], in_chans: int) -> None:
    """Take mean and std out of a pretrained_cfg whose images have neither 1 nor 3 channels, unless they have as many.

    What stands there then is CIFAR-10's, or ImageNet's, which timm gives whoever has none.
    """
    counts = {len(value) if isinstance(value := config.get(key), list | tuple) else 0 for key in ("mean", "std")}
    if in_chans not in (1, 3) and counts != {in_chans}:
        config.pop("mean", None)
        config.pop("std", None)
