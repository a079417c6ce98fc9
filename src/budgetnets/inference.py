"""optimize_for_inference(): the same network with its norms folded away and its weights laid out for speed."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrize import is_parametrized

from .network import BudgetResNet
from .spec import ResNetSpec

DTYPES = (torch.float32, torch.bfloat16)


class InferenceNet(nn.Module):
    """A network that was made fast: it takes and gives what the original does, and cannot be trained.

    Attributes:
        net: the network with its BatchNorms folded into the convolutions.
        spec, class_names, pretrained_cfg, in_chans, num_classes: the original's.
    """

    def __init__(self, net: BudgetResNet, dtype: torch.dtype) -> None:
        super().__init__()
        self.net = net
        self.dtype = dtype
        # Casts in place of annotations, which torch.jit would read and not understand.
        self.spec = cast("ResNetSpec | None", net.spec)
        self.class_names = cast("tuple[str, ...] | None", net.class_names)
        self.pretrained_cfg = net.pretrained_cfg
        self.in_chans = net.in_chans
        self.num_classes = net.num_classes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return fp32 logits of normalized float images, (B, in_chans, H, W) -> (B, num_classes)."""
        # Anything else is the network's to refuse.
        if isinstance(x, torch.Tensor) and x.dim() == 4 and x.is_floating_point():
            x = x.to(dtype=self.dtype, memory_format=torch.channels_last)
        return self.net(x).float()

    def train(self, mode: bool = True) -> InferenceNet:
        """Stay in eval mode; there are no batch statistics left to train."""
        if mode:
            raise RuntimeError("a network made by optimize_for_inference cannot be trained; train the original")
        return super().train(False)


def optimize_for_inference(model: nn.Module, dtype: torch.dtype | None = None) -> InferenceNet:
    """Return a fast copy of a network for inference; the network itself is left as it is.

    BatchNorms are folded into the convolutions before them and the weights are laid out channels-last. In fp32 the
    logits differ from the original's by at most 1e-4 of the largest logit, in bf16 by a few hundredths of it.

    Args:
        model: a network of the family, in train or eval mode.
        dtype: torch.bfloat16 to compute in bf16 (fast only on processors with bf16 instructions: AVX-512 BF16, AMX,
            Arm BF16, GPUs); None or torch.float32 for fp32.

    Returns:
        The copy, in eval mode, on the same device. It takes float images of any dtype and gives fp32 logits.

    Raises:
        TypeError: not a network of the family.
        ValueError: another dtype, or a network that is pruned or parametrized, but not for good.
    """
    if isinstance(model, InferenceNet):
        model = model.net
    if not isinstance(model, BudgetResNet):
        raise TypeError(
            f"model is a {type(model).__name__}; it must be a network made by budgetnets.create or build_resnet (not "
            "its features, a compiled copy or another library's network)"
        )
    dtype = torch.float32 if dtype is None else dtype
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r} is not offered; use one of {', '.join(map(str, DTYPES))}, or None")
    for name, module in model.named_modules():
        if is_parametrized(module):
            raise ValueError(
                f"{name} is parametrized: its weights are computed from others in every pass; make them final first, "
                "with torch.nn.utils.parametrize.remove_parametrizations"
            )
    net = fold_norms(own_copy(model).eval().requires_grad_(False).float())
    return InferenceNet(net.to(dtype=dtype, memory_format=torch.channels_last), dtype).eval()  # type: ignore[call-overload]


def own_copy(model: BudgetResNet) -> BudgetResNet:
    """Return a copy of a network that shares nothing with it.

    Raises:
        ValueError: torch cannot copy it, since its weights are computed from others.
    """
    try:
        net = copy.deepcopy(model)
    except RuntimeError as error:
        raise ValueError(
            "the network cannot be copied, since it holds tensors that are computed from others, as pruning's masked "
            "weights are; make those final first: torch.nn.utils.prune.remove(module, 'weight') for each module"
        ) from error
    # Accelerate's mixed precision gives a network a forward of its own, which is bound to the network it was given to.
    if getattr(vars(net).get("_original_forward"), "__func__", None) is type(net).forward:
        del net.forward, net._original_forward
    return net


def fold_norms(model: nn.Module) -> nn.Module:
    """Fold, in place, each BatchNorm of a network in eval mode into the convolution before it.

    A block's convolutions and norms are named alike (conv1, norm1), which says which belong together; other norms
    stay, since they depend on the image.
    """
    for module in model.modules():
        children: dict[str, Any] = dict(module.named_children())
        for name, norm in children.items():
            conv = children.get(name.replace("norm", "conv"))
            if name.startswith("norm") and isinstance(norm, _BatchNorm) and isinstance(conv, nn.Conv2d):
                setattr(module, name.replace("norm", "conv"), fuse_conv_bn_eval(conv, norm))
                setattr(module, name, nn.Identity())
    return model
