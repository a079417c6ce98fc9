"""What can go wrong in a training's numbers: a loss that is none, gradients that were never computed, broken memory.

The taps of a kernel that see nothing but padding, as the outer ones of a 3 x 3 kernel on a map of one pixel do, have a
gradient of zero. On a CPU in bf16, oneDNN (3.13, as in torch 2.15) leaves whatever the memory held instead, up to NaN,
which no loss ever shows: nothing is computed from these weights, but they are saved with the others.

In channels_last on a CPU with AVX2 alone, oneDNN (3.12, as in torch 2.14) writes beyond the memory of the weights'
gradient of a 1 x 1 convolution with stride and fewer than eight input channels, and the process dies of it sooner or
later. A narrow network's skips are such.
"""

import math
import sys

import torch
from torch import nn
from torch.func import functional_call

FEWEST_CHANNELS_LAST = 8


def memory_format(model, device):
    """Return the layout to train a network in: the faster one, unless oneDNN breaks memory in it."""
    breaks = device.type == "cpu" and any(
        conv.kernel_size == (1, 1) and max(conv.stride) > 1 and conv.in_channels < FEWEST_CHANNELS_LAST
        for conv in model.modules()
        if isinstance(conv, nn.Conv2d)
    )
    return torch.contiguous_format if breaks else torch.channels_last


def share_statistics(accelerator, networks):
    """Give all processes the mean of their BatchNorm statistics, so that what is evaluated is what is written.

    On a CPU each process normalizes by its own images; on GPUs all have the same statistics anyway. The networks have
    the same order in all processes, since these meet at each buffer.
    """
    if accelerator.num_processes > 1:
        for network in networks:
            for buffer in network.buffers():
                if buffer.is_floating_point():
                    buffer.copy_(accelerator.reduce(buffer, "mean"))


def stop_unless_finite(losses, remedy="lower --lr or add --clip 1"):
    """Exit at the first loss that is no number; each comes with its step and learning rate."""
    for step, rate, loss in losses:
        if not math.isfinite(loss):
            sys.exit(f"the loss is {loss:g} at step {step}, learning rate {rate:.4g}; {remedy}")


def unseen_taps(model, size, accelerator):
    """Return the taps of a network that see nothing but padding at images of `size` pixels, where that must be mended.

    Returns:
        (weight, mask) for each convolution that has such taps; the mask has the weight's shape. Empty but for mixed
        precision on a CPU.
    """
    if accelerator.device.type != "cpu" or accelerator.mixed_precision == "no":
        return []
    shapes, was_training = {}, model.training

    def note_shape(module, inputs, _):
        shapes[module] = inputs[0].shape

    hooks = [module.register_forward_hook(note_shape) for module in model.modules() if isinstance(module, nn.Conv2d)]
    with torch.no_grad():
        model.eval()(torch.zeros(1, model.in_chans, size, size))
    model.train(was_training)
    for hook in hooks:
        hook.remove()
    found = []
    for convolution, shape in shapes.items():
        for name, weight in convolution.named_parameters(recurse=False):
            if weight.ndim == 4:  # and no bias
                ones = torch.ones_like(weight, requires_grad=True)
                maps = functional_call(convolution, {name: ones}, torch.ones(shape))
                (seen,) = torch.autograd.grad(maps.sum(), ones)  # how many pixels; in fp32, where it is right
                if not seen.all():
                    found.append((weight, seen == 0))
    return found


def clear(found):
    """Set the gradients of these taps to zero, after a backward pass."""
    for weight, unseen in found:
        if weight.grad is not None:
            weight.grad.masked_fill_(unseen, 0)
