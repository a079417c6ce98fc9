"""Sharpness-aware minimization: descend by the gradient of the worst weights nearby.

SAM: Foret et al. 2021 (arXiv 2010.01412). ASAM: Kwon et al. 2021 (arXiv 2102.11600). What follows on the gradient is
not touched, so that every optimizer, schedule, clipping and checkpoint works as it does without.
"""

import torch

ETA = 0.01  # ASAM's, so that a weight of zero can move too; the value is the paper's


def sharpness_aware(backward, model, rho, adaptive=False):
    """Return a function like `backward` that leaves the gradients of the worst weights nearby.

    Args:
        backward: takes a batch and adds its gradients to those of the model; what it returns at the weights themselves
            is returned. Under several processes its gradients are their mean, and so all move to the same weights.
        model: whose parameters have no gradients left over.
        rho: radius of the neighbourhood; under `adaptive` each weight is measured in units of its own size.
    """

    def backward_twice(*batch):
        devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
        with torch.random.fork_rng(list(devices)):  # both passes draw the same dropout
            result = backward(*batch)
        weights = [p for p in model.parameters() if p.grad is not None]
        before = [p.detach().clone() for p in weights]
        statistics = [b.clone() for b in model.buffers()]  # of the first pass, at weights that the network will have
        move_to_the_worst(model, rho, adaptive)
        model.zero_grad()
        backward(*batch)
        with torch.no_grad():
            torch._foreach_copy_([*weights, *model.buffers()], [*before, *statistics])
        return result

    return backward_twice


@torch.no_grad()
def move_to_the_worst(model, rho, adaptive):
    """Move the weights by T T g rho / |T g|: g is their gradient, T one, or under `adaptive` their size.

    As in the code of ASAM's authors, T stays one for biases.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.grad is not None]
    weights, gradients = [p for _, p in named], [p.grad for _, p in named]
    sizes = [p.abs() + ETA if adaptive and name.endswith("weight") else torch.ones_like(p) for name, p in named]
    scaled = torch._foreach_mul(sizes, gradients)
    length = torch.stack(torch._foreach_norm(scaled)).norm() + 1e-12  # a gradient of zero moves nothing
    torch._foreach_add_(weights, torch._foreach_mul(torch._foreach_mul(sizes, scaled), rho / length))
