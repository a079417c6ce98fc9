"""From a picture to a network's input, with the numbers that its weights were trained with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from .timm_config import timm_config
from .variants import GIVE_NETWORK, find_variant, find_weights

ON_THE_WAY = {"La": "LA", "LAB": "RGB"}  # modes that PIL does not take to both RGB and L in one step


def transforms(name: str | nn.Module) -> Callable[[Any], torch.Tensor]:
    """Return the transform from a PIL image of any size and mode to a normalized tensor (C, H, W).

    The image is converted to RGB, its shorter side is resized to the network's input size (bilinear, antialiased), the
    middle is cropped, and the pixels are scaled to 0..1 and normalized with the weights' mean and standard deviation.
    For a network of one channel it is converted to grey, and normalized with the averages over the three channels.
    Pixels of 16 bits are rescaled to 8; those of 32 bits, modes I and F, are taken as 0..255 and refused beyond it.

    Args:
        name: a variant, with or without a weights' tag; or a network that timm or budgetnets made.

    Raises:
        TypeError: neither a name nor a network.
        ValueError: an unknown name, answered with the nearest known one; or a network of neither 1 nor 3 channels.
    """
    from timm.data.config import resolve_data_config  # torchvision's transforms: not at import
    from timm.data.transforms_factory import create_transform
    from torchvision.transforms import Compose

    if isinstance(name, nn.Module):
        config = getattr(name, "pretrained_cfg", None)
        if not config:
            raise TypeError("the network has no pretrained_cfg; give a variant's name, or a network made by create()")
    else:
        config = timm_config(find_variant(name, GIVE_NETWORK).spec)
        weights = find_weights(name)
        if weights:
            config |= {"mean": weights.mean, "std": weights.std}
    options = resolve_data_config({}, pretrained_cfg=config)
    in_chans = getattr(name, "in_chans", options["input_size"][0])  # timm changes the network's channels alone
    if in_chans not in (1, 3):
        raise ValueError(f"the network takes {in_chans} channels, a picture has 1 or 3; normalize its tensors yourself")
    options |= statistics(options, in_chans)
    to_mode = partial(as_mode, mode="L" if in_chans == 1 else "RGB")
    steps = create_transform(**options)
    return Compose([to_mode, *steps.transforms])  # type: ignore[attr-defined]  # create_transform gives a Compose


def statistics(config: dict[str, Any], in_chans: int) -> dict[str, tuple[float, ...]]:
    """Return a configuration's mean and std; for a network of one channel, their averages, as timm's loader has it."""
    both = {key: tuple(map(float, config[key])) for key in ("mean", "std")}
    return {key: (sum(values) / len(values),) for key, values in both.items()} if in_chans == 1 else both


def as_mode(image: Any, mode: str) -> Any:
    """Return a PIL image as RGB or L, where PIL alone would cut off what is over 255, or refuse the mode."""
    from PIL import Image

    if not isinstance(image, Image.Image):
        raise TypeError(f"the image is of type {type(image).__name__}; give a PIL image: Image.fromarray(array)")
    if image.mode.startswith("I;16"):
        image = image.convert("I").point(lambda value: value * (1 / 257) + 0.5)  # 65535 -> 255, rounded
    elif image.mode in ("I", "F"):
        low, high = image.getextrema()
        if not (low >= 0 and high <= 255):  # type: ignore[operator]  # numbers, as there is one band
            raise ValueError(
                f"the image of mode {image.mode!r} has values from {low:g} to {high:g}; scale them to 0..255"
            )
    elif image.mode in ON_THE_WAY:
        image = image.convert(ON_THE_WAY[image.mode])
    return image.convert(mode)
