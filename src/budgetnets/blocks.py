"""The parts: residual blocks, squeeze-and-excitation, the skip and the pool, each usable by itself.

Maps are (B, C, H, W). Sizes in the shape comments: B images, C channels in, D channels out, H x W pixels, s stride.
"""

from collections import OrderedDict
from typing import Any

import torch
from timm.layers import DropPath, SelectAdaptivePool2d, create_act_layer, get_norm_layer
from torch import nn

from .checks import MAX_INPUT_SIZE, MAX_WIDTH, choice, integer, odd, rate
from .spec import ACTIVATIONS, BLOCK_EXPANSION, NORMS, STEM_KERNEL_SIZE

POOL_TYPES = ("avg", "max", "avgmax", "catavgmax", "")
Device = torch.device | str | None
Dtype = torch.dtype | None


def conv_norm(in_width: int, width: int, kernel_size: int, stride: int, norm: str, **dd: Any) -> tuple[nn.Conv2d, Any]:
    """Return a bias-free convolution padded by half its kernel, and the norm layer that follows it.

    Raises:
        TypeError, ValueError: a width, kernel, stride or norm that is not possible.
    """
    choice("norm", norm, tuple(NORMS))
    in_width, width = integer("in_width", in_width, 1, MAX_WIDTH), integer("width", width, 1, MAX_WIDTH)
    kernel_size, stride = odd("kernel_size", kernel_size, MAX_INPUT_SIZE), integer("stride", stride, 1, MAX_INPUT_SIZE)
    conv = nn.Conv2d(in_width, width, kernel_size, stride, kernel_size // 2, bias=False, **dd)
    return conv, get_norm_layer(norm)(width, **dd)  # type: ignore[misc]  # None only for an empty name


def make_act(act: str, device: Any = None, dtype: Any = None) -> nn.Module:
    """Return timm's activation layer of that name, in place where it can be.

    Raises:
        TypeError, ValueError: no activation of the family; an unknown name is answered with the nearest known one.
    """
    choice("act", act, tuple(ACTIVATIONS))
    layer = create_act_layer(act, inplace=True)
    assert layer is not None
    return layer.to(device=device, dtype=dtype)  # timm's PReLU, the one with a parameter, takes no device or dtype


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from all channels' means.

    Args:
        width: channels of the map.
        reduction: the squeeze has max(1, width // reduction) channels, not rounded.
        bias: whether the two layers have biases (report R2: yes; R4: no).
        device, dtype: where and as what the parameters are made, here and in the other parts.

    Raises:
        TypeError, ValueError: a width or reduction that is no integer >= 1.

    Source: Hu et al., "Squeeze-and-Excitation Networks" (arXiv 1709.01507), section 3.
    """

    def __init__(
        self, width: int, reduction: int = 16, bias: bool = True, *, device: Device = None, dtype: Dtype = None
    ) -> None:
        super().__init__()
        dd: Any = {"device": device, "dtype": dtype}
        width = integer("width", width, 1, MAX_WIDTH)
        squeeze_width = max(1, width // integer("reduction", reduction, 1, MAX_WIDTH))
        self.fc1 = nn.Conv2d(width, squeeze_width, 1, bias=bias, **dd)
        self.act = nn.ReLU(inplace=True)
        self.fc2 = nn.Conv2d(squeeze_width, width, 1, bias=bias, **dd)
        self.gate = nn.Sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        s = x.mean((2, 3), keepdim=True)  # (B, C, H, W) -> (B, C, 1, 1)
        s = self.act(self.fc1(s))  # (B, C, 1, 1) -> (B, C/r, 1, 1)
        s = self.gate(self.fc2(s))  # (B, C/r, 1, 1) -> (B, C, 1, 1)
        return x * s


def make_skip(
    in_width: int,
    out_width: int,
    stride: int = 1,
    kernel_size: int = 1,
    norm: str = "batchnorm2d",
    *,
    device: Device = None,
    dtype: Dtype = None,
) -> nn.Module:
    """Return a block's skip: the identity where the map keeps its shape, else a convolution and a norm.

    Args:
        in_width, out_width: channels before and after.
        stride: the block's stride.
        kernel_size: K, odd, padded K // 2; no effect on the identity.
        norm: norm layer, by timm's name.
        device, dtype: of its parameters.

    Raises:
        TypeError, ValueError: a width, stride, kernel or norm that is not possible.

    Source: He et al., "Deep Residual Learning" (arXiv 1512.03385), section 3.3, option B; K after report R2.
    """
    # Before the identity too, so that what is given wrong does not pass in one network and fail in the next.
    choice("norm", norm, tuple(NORMS))
    in_width, out_width = integer("in_width", in_width, 1, MAX_WIDTH), integer("out_width", out_width, 1, MAX_WIDTH)
    kernel_size, stride = odd("kernel_size", kernel_size, MAX_INPUT_SIZE), integer("stride", stride, 1, MAX_INPUT_SIZE)
    if stride == 1 and in_width == out_width:
        return nn.Identity()
    conv, norm_layer = conv_norm(in_width, out_width, kernel_size, stride, norm, device=device, dtype=dtype)
    return nn.Sequential(OrderedDict(conv=conv, norm=norm_layer))


class Stem(nn.Module):
    """What comes before the first stage: a 3x3 convolution at full resolution, norm and activation.

    Args:
        in_chans: channels of the images.
        width: channels of the map that leaves.
        se_reduction: reduction of a squeeze-and-excitation after the activation (report R2); None for none.
        se_bias: whether its layers have biases.
        act, norm: by timm's names.
    """

    def __init__(
        self,
        in_chans: int,
        width: int,
        se_reduction: int | None = None,
        se_bias: bool = True,
        act: str = "relu",
        norm: str = "batchnorm2d",
        *,
        device: Device = None,
        dtype: Dtype = None,
    ) -> None:
        super().__init__()
        dd: Any = {"device": device, "dtype": dtype}
        self.conv, self.norm = conv_norm(in_chans, width, STEM_KERNEL_SIZE, 1, norm, **dd)
        self.act = make_act(act, **dd)
        self.se = SqueezeExcite(width, se_reduction, se_bias, **dd) if se_reduction is not None else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.norm(self.conv(x)))  # (B, in_chans, H, W) -> (B, C, H, W)
        return self.se(x)


class BasicBlock(nn.Module):
    """Two F x F convolutions beside a skip: act(main(x) + skip(x)).

    Args:
        in_width, width: channels before and after; the map leaves with `width`.
        stride: stride of the first convolution and of the skip.
        kernel_size: F, odd, padded F // 2.
        skip_kernel_size: K, side of a projecting skip's kernel.
        se_reduction: reduction of a squeeze-and-excitation after the second norm; None for none.
        se_bias: whether its layers have biases.
        act, norm: by timm's names.
        drop_path: probability of leaving out the main branch for an image while training.
        drop: dropout after the final activation (report R2).

    Raises:
        TypeError, ValueError: a width, stride, kernel, reduction, rate, activation or norm that is not possible.

    Source: He et al. (arXiv 1512.03385), figure 5, left.
    """

    def __init__(
        self,
        in_width: int,
        width: int,
        stride: int = 1,
        kernel_size: int = 3,
        skip_kernel_size: int = 1,
        se_reduction: int | None = None,
        se_bias: bool = True,
        act: str = "relu",
        norm: str = "batchnorm2d",
        drop_path: float = 0.0,
        drop: float = 0.0,
        *,
        device: Device = None,
        dtype: Dtype = None,
    ) -> None:
        super().__init__()
        dd: Any = {"device": device, "dtype": dtype}
        self.conv1, self.norm1 = conv_norm(in_width, width, kernel_size, stride, norm, **dd)
        self.act1 = make_act(act, **dd)
        self.conv2, self.norm2 = conv_norm(width, width, kernel_size, 1, norm, **dd)
        self.se = SqueezeExcite(width, se_reduction, se_bias, **dd) if se_reduction is not None else nn.Identity()
        self.drop_path = DropPath(rate("drop_path", drop_path)) if drop_path else nn.Identity()
        self.skip = make_skip(in_width, width, stride, skip_kernel_size, norm, **dd)
        self.act2 = make_act(act, **dd)
        self.drop = nn.Dropout(rate("drop", drop)) if drop else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act1(self.norm1(self.conv1(x)))  # (B, C, H, W) -> (B, D, H/s, W/s)
        y = self.norm2(self.conv2(y))
        y = self.drop_path(self.se(y))
        y = self.act2(y + self.skip(x))
        return self.drop(y)


class Bottleneck(nn.Module):
    """1x1, F x F and 1x1 convolutions beside a skip; the map leaves with 4 x width channels.

    Arguments and errors as `BasicBlock`; the stride is on the F x F convolution.

    Source: He et al. (arXiv 1512.03385), figure 5, right; report R3's ResNet-50, -101 and -152.
    """

    def __init__(
        self,
        in_width: int,
        width: int,
        stride: int = 1,
        kernel_size: int = 3,
        skip_kernel_size: int = 1,
        se_reduction: int | None = None,
        se_bias: bool = True,
        act: str = "relu",
        norm: str = "batchnorm2d",
        drop_path: float = 0.0,
        drop: float = 0.0,
        *,
        device: Device = None,
        dtype: Dtype = None,
    ) -> None:
        super().__init__()
        dd: Any = {"device": device, "dtype": dtype}
        out_width = width * BLOCK_EXPANSION["bottleneck"]
        self.conv1, self.norm1 = conv_norm(in_width, width, 1, 1, norm, **dd)
        self.act1 = make_act(act, **dd)
        self.conv2, self.norm2 = conv_norm(width, width, kernel_size, stride, norm, **dd)
        self.act2 = make_act(act, **dd)
        self.conv3, self.norm3 = conv_norm(width, out_width, 1, 1, norm, **dd)
        self.se = SqueezeExcite(out_width, se_reduction, se_bias, **dd) if se_reduction is not None else nn.Identity()
        self.drop_path = DropPath(rate("drop_path", drop_path)) if drop_path else nn.Identity()
        self.skip = make_skip(in_width, out_width, stride, skip_kernel_size, norm, **dd)
        self.act3 = make_act(act, **dd)
        self.drop = nn.Dropout(rate("drop", drop)) if drop else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act1(self.norm1(self.conv1(x)))  # (B, C, H, W) -> (B, D/4, H, W)
        y = self.act2(self.norm2(self.conv2(y)))  # (B, D/4, H, W) -> (B, D/4, H/s, W/s)
        y = self.norm3(self.conv3(y))  # (B, D/4, H/s, W/s) -> (B, D, H/s, W/s)
        y = self.drop_path(self.se(y))
        y = self.act3(y + self.skip(x))
        return self.drop(y)


class GridPool(SelectAdaptivePool2d):
    """Pool a map of any size to a fixed grid and flatten it: the P pool of the reports.

    A P x P average pool with stride P leaves a grid of (map side / P) cells a side. Pooling to that grid adaptively
    gives the same values at the size the network was made for, and keeps the classifier's input at every other size.

    Args:
        grid: cells a side; 1 pools globally.
        pool_type: "avg", "max", "avgmax", "catavgmax", or "" to pass the map through unpooled and unflattened.

    Raises:
        TypeError, ValueError: a grid that is no integer >= 1, or an unknown pool.
    """

    def __init__(self, grid: int = 1, pool_type: str = "avg") -> None:
        choice("pool_type", pool_type, POOL_TYPES)
        grid = integer("grid", grid, 1, MAX_INPUT_SIZE)
        super().__init__(output_size=grid, pool_type=pool_type, flatten=bool(pool_type))
        self.grid = grid

    def feat_mult(self) -> int:  # type: ignore[override]
        """Return how many values are left per channel of the map."""
        return super().feat_mult() * self.grid**2
