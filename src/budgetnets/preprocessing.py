"""From a picture to a network's input, with the numbers that its weights were trained with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .network import timm_config
from .variants import find_variant, find_weights


def transforms(name: str | nn.Module) -> Callable[[Any], torch.Tensor]:
    """Return the transform from a PIL image of any size and mode to a normalized tensor (3, H, W).

    The image is converted to RGB, its shorter side is resized to the network's input size (bilinear, antialiased), the
    middle is cropped, and the pixels are scaled to 0..1 and normalized with the weights' mean and standard deviation.

    Args:
        name: a variant, with or without a weights' tag; or a network that timm or budgetnets made.

    Raises:
        TypeError: neither a name nor a network.
        ValueError: an unknown name, answered with the nearest known one.
    """
    from timm.data.config import resolve_data_config  # torchvision's transforms: not at import
    from timm.data.transforms_factory import create_transform
    from torchvision.transforms import Compose, v2

    if isinstance(name, nn.Module):
        config = getattr(name, "pretrained_cfg", None)
        if not config:
            raise TypeError("the network has no pretrained_cfg; give a variant's name, or a network made by create()")
    else:
        config = timm_config(find_variant(name).spec)
        weights = find_weights(name)
        if weights:
            config |= {"mean": weights.mean, "std": weights.std}
    steps = create_transform(**resolve_data_config({}, pretrained_cfg=config))
    return Compose([v2.RGB(), *steps.transforms])  # type: ignore[attr-defined]  # create_transform gives a Compose
