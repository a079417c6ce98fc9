"""Start a network from the weights of a smaller one, so that its training has less to learn.

    python examples/grow.py resnet24_sestem_cifar --start resnet9_cifar --out grown.safetensors
    python examples/train.py --model resnet24_sestem_cifar --model-args '{"checkpoint_path": "grown.safetensors"}' ...

After Net2Net (Chen et al. 2016, arXiv 1511.05641): with batch norm, ReLU and the same strides, a wider or deeper
network with larger kernels gives the very answers of the one that it starts from, unless a skip that was the identity
becomes a convolution. Each tensor is copied as far as both reach:
channels from the first on, kernels around their centre. New channels feed none of the old ones, and added blocks add
nothing, until the training changes it. What the other network has not at all (a further layer, a squeeze-and-
excitation) starts at random. The other network may also be larger, in which case the rest of it is left out. Needs `pip
install "budgetnets[train]"`.
"""

import argparse
import json
import sys
from pathlib import Path

import run_folder
import torch
import trained

import budgetnets


def parse_args(argv):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", help="the network to start: a variant, or budget_resnet with --model-args")
    p.add_argument("--model-args", default="{}", help='JSON such as \'{"N": 2, "B": 1, "C": [32, 64]}\'')
    p.add_argument("--start", required=True, help="a variant with weights, or the folder of a run of train.py")
    p.add_argument("--out", type=Path, required=True, help="the file of the weights, safetensors")
    p.add_argument("--seed", type=int, default=0, help="of what starts at random [%(default)s]")
    args = p.parse_args(argv)
    if args.out.suffix != ".safetensors":
        p.error(f"--out {args.out} must end in .safetensors, by which timm knows how to read it")
    if not args.out.parent.is_dir():
        p.error(f"--out {args.out}: there is no folder {args.out.parent}; make it first")
    try:
        args.model_args = {**json.loads(args.model_args)}
    except (TypeError, ValueError) as error:
        p.error(f'--model-args {args.model_args}: {error}; give JSON such as {{"N": 2, "B": 1, "C": [32, 64]}}')
    return args


def grow(model, other):
    """Give a network the weights of another, as far as both reach.

    Args:
        model, other: networks of the family, with the same kind of block, norm, activation and channels of the images.

    Returns:
        The names of the tensors that were copied from the other network, as a whole or in part.

    Raises:
        ValueError: networks of different kinds.
    """
    for network in (model, other):
        if not isinstance(network, budgetnets.BudgetResNet):
            raise ValueError(f"a {type(network).__name__} is no network of the family; give a variant or budget_resnet")
    for what in ("block", "norm", "act", "in_chans"):
        own, theirs = getattr(model.spec, what), getattr(other.spec, what)
        if own != theirs:
            raise ValueError(f"the network has {what}={own!r}, the one to start from {theirs!r}; they must be the same")
    state, source = model.state_dict(), other.state_dict()
    if model.spec.num_layers != other.spec.num_layers or model.num_classes != other.num_classes:
        source = {name: tensor for name, tensor in source.items() if not name.startswith("head.")}
    elif "head.weight" in source and model.grid != other.grid:
        # An average over the map is the sum of its places, each by a part of the weight.
        places = model.grid**2
        mean = source["head.weight"].unflatten(1, (-1, other.grid**2)).sum(2, keepdim=True) / places
        source["head.weight"] = mean.expand(-1, -1, places).flatten(1)
    copied = [name for name in state if name in source]
    for name in copied:
        state[name] = overlaid(state[name], source[name])
    last_norm = {"basic": "norm2", "bottleneck": "norm3"}[model.spec.block]
    for layer, (blocks, old_blocks) in enumerate(zip(model.spec.blocks, other.spec.blocks, strict=False)):
        for block in range(old_blocks, blocks):
            state[f"stages.{layer}.{block}.{last_norm}.weight"].zero_()  # an identity: its map is positive already
    model.load_state_dict(state)
    return copied


def overlaid(own, other):
    """Return a tensor with the other's values where both reach; what was computed there takes in nothing else."""
    if not own.ndim:
        return other  # BatchNorm's number of batches
    to, of = [], []
    for axis, (size, other_size) in enumerate(zip(own.shape, other.shape, strict=True)):
        n = min(size, other_size)
        first, other_first = ((size - n) // 2, (other_size - n) // 2) if axis >= 2 else (0, 0)
        to.append(slice(first, first + n))
        of.append(slice(other_first, other_first + n))
    result = own.clone()
    if own.ndim > 1:
        result[to[0]] = 0  # new channels, and the rim of a larger kernel
    result[tuple(to)] = other[tuple(of)]
    return result


def parts_without(copied, names):
    """Return the parts of a network of which nothing was copied: whole blocks, and modules of the others."""

    def block(name):
        return ".".join(name.split(".")[:3]) if name.startswith("stages.") else name.rpartition(".")[0]

    started = {block(name) for name in copied}
    rest = (name for name in names if name not in copied)
    return list(dict.fromkeys(name.rpartition(".")[0] if block(name) in started else block(name) for name in rest))


def main(argv=None):
    args = parse_args(argv)
    torch.manual_seed(args.seed)
    try:
        model = budgetnets.create(args.model, **args.model_args)
    except (TypeError, ValueError, RuntimeError, OSError) as error:  # weights that --model-args ask for, too
        sys.exit(f"{args.model} --model-args {json.dumps(args.model_args)}: {error}")
    other, _ = trained.load("--start", args.start)
    try:
        copied = grow(model, other)
    except ValueError as error:
        sys.exit(f"--start {args.start}: {error}")
    remedy = "make room, or choose another --out"
    run_folder.write(args.out, lambda path: path.write_bytes(run_folder.as_file(model.state_dict())), remedy)
    fresh = ", ".join(parts_without(copied, model.state_dict())) or "nothing"
    print(f"{args.out}: {len(copied)} tensors start from {args.start}; anew start {fresh}")


if __name__ == "__main__":
    main()
