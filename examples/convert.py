"""Convert a checkpoint of another repository into a folder that budgetnets loads; to be read from top to bottom.

    python examples/convert.py ckpt.pth --model resnet18_cifar --out converted --std 0.2023 0.1994 0.2010
    python examples/convert.py mine.pt --model budget_resnet --model-args '{"N": 2, "B": 1, "C": [32, 64]}' --out mine

It knows the names of kuangliu/pytorch-cifar's ResNets, of Efficient_ResNets (project1_model.pt), of torchvision's
ResNets and of budgetnets. Tensors alone are read: a file that would have to run code is refused. Each tensor must find
its place in the network, by name and shape, or all that does not fit is listed and nothing is written. Strides, pools
and the order of norm and activation leave no trace in a checkpoint: measure the converted network's accuracy once.
"""

import argparse
import json
import pickle
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

import budgetnets
from budgetnets.checks import did_you_mean
from budgetnets.spec import LETTERS, check_options
from budgetnets.state import FLOAT_DTYPES, check_state_dict
from budgetnets.variants import VARIANTS

RULES = (  # what a part is called elsewhere, and here; applied in this order
    (r"^((module|_orig_mod)\.)+", ""),  # of DataParallel and torch.compile
    (r"^conv1\.", "stem.conv."),
    (r"^bn1\.", "stem.norm."),
    (r"^seblock\.conv([12])\.", r"stem.se.fc\1."),
    (r"^layer(\d+)\.", lambda match: f"stages.{int(match[1]) - 1}."),  # counted from one
    (r"^residual_layers\.", "stages."),
    (r"^(stages\.\d+\.\d+)\.bn(\d)\.", r"\1.norm\2."),
    (r"^(stages\.\d+\.\d+)\.(shortcut|downsample)\.0\.", r"\1.skip.conv."),
    (r"^(stages\.\d+\.\d+)\.(shortcut|downsample)\.1\.", r"\1.skip.norm."),
    (r"^(linear|fc)\.", "head."),
)
LAYOUTS = (  # the first of which a checkpoint has a name
    (r"\bstem\.", "budgetnets"),
    (r"\bresidual_layers\.", "Efficient_ResNets"),
    (r"\b(fc|downsample)\.", "torchvision"),
    (r"\blayer\d+\.", "kuangliu/pytorch-cifar"),
)


def parse_args(argv):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("checkpoint", type=Path, help="a file of torch.save (.pt, .pth, .tar, ...), or .safetensors")
    p.add_argument("--model", required=True, help="a variant, or budget_resnet with --model-args")
    p.add_argument("--model-args", default="{}", help='JSON such as \'{"N": 2, "B": 1, "C": [32, 64]}\'')
    p.add_argument("--out", type=Path, required=True, help="the new folder")
    p.add_argument("--key", help="the entry of the checkpoint with the weights, where several could be meant")
    floats = {"nargs": 3, "type": float, "metavar": ("R", "G", "B")}
    p.add_argument("--mean", **floats, default=budgetnets.CIFAR10_MEAN, help="of the training [%(default)s]")
    std_help = (
        "of the training [%(default)s]; kuangliu/pytorch-cifar and Efficient_ResNets train with 0.2023 0.1994 0.2010. "
        "Trained without normalization: --mean 0 0 0 --std 1 1 1"
    )
    p.add_argument("--std", **floats, default=budgetnets.CIFAR10_STD, help=std_help)
    p.add_argument("--classes", nargs="+", metavar="NAME", help="of the outputs [CIFAR-10's where there are ten]")
    p.add_argument("--license", default="unknown", help="of the weights, as the Hub names licenses [%(default)s]")
    args = p.parse_args(argv)
    names = ("budget_resnet", *VARIANTS)
    if args.model not in names:
        p.error(f"--model {args.model} is unknown{did_you_mean(args.model, names)} Use one of {', '.join(names)}")
    if not all(0 <= mean <= 1 for mean in args.mean) or not all(0 < std <= 1 for std in args.std):
        p.error(f"--mean {args.mean} --std {args.std} must be of pixels scaled to 0..1; divide those of bytes by 255")
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        p.error(f"--out {args.out} already holds something; choose another folder")
    try:
        args.model_args = {**json.loads(args.model_args)}
        check_options({name: value for name, value in args.model_args.items() if name not in ("N", *LETTERS)})
    except (TypeError, ValueError) as error:
        p.error(f'--model-args {args.model_args}: {error}; give JSON such as {{"N": 2, "B": 1, "C": [32, 64]}}')
    return args


class NumPyNumber:
    """Stands for a NumPy number, such as an accuracy noted beside the weights: what the file gives it is dropped."""

    def __init__(self, *args):
        pass

    def __setstate__(self, state):
        pass


NUMPY = [(NumPyNumber, f"numpy.{name}") for name in ("dtype", "core.multiarray.scalar", "_core.multiarray.scalar")]


def read(path):
    """Return what a checkpoint holds; nothing in it is run."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(NUMPY):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        sys.exit(f"{path} cannot be read ({error}); name a checkpoint file")
    except Exception as error:  # a decoder may raise anything on damaged bytes
        remedy = "save the state dict alone, torch.save(net.state_dict(), 'weights.pth'), and convert that"
        code = re.search(r"GLOBAL (\S+) ", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if code:
            sys.exit(
                f"{path} is refused: it holds more than tensors and plain values, and to read it would call {code[1]}, "
                f"or whatever else its author chose. Nothing of it was run. Where its own code is at hand, {remedy}."
            )
        reason = (str(error).partition("Unpickler error:")[2] or str(error)).strip().partition("\n")[0].split(". ")[0]
        sys.exit(
            f"{path} cannot be read as tensors ({type(error).__name__}: {reason or 'no message'}): it is damaged, or "
            f"neither of torch.save nor safetensors. Nothing of it was run. Copy it again, or {remedy}."
        )


def weight_sets(content, path=()):
    """Return the innermost mappings from names to tensors, by the keys that lead to each, such as net or model.ema."""
    found = {}
    if isinstance(content, Mapping) and len(path) < 3:
        for key, value in content.items():
            if isinstance(key, str):  # an optimizer numbers its states
                found |= weight_sets(value, (*path, key))
        if not found and any(isinstance(value, torch.Tensor) for value in content.values()):
            found[".".join(path)] = content
    return found


def choose_weights(content, args):
    """Return the state dict in a checkpoint, the one that --key names where there are several."""
    sets = weight_sets(content)
    listed = ", ".join(name or "the file itself" for name in sets) or "none"
    if args.key is not None and args.key not in sets:
        sys.exit(
            f"--key {args.key}: no such weights in {args.checkpoint}{did_you_mean(args.key, sets)} It has {listed}"
        )
    if not sets:
        sys.exit(f"{args.checkpoint} holds no tensors under names; save the network's state_dict(), and convert that")
    if args.key is None and len(sets) > 1:
        sys.exit(f"{args.checkpoint} has several sets of weights: {listed}; choose one with --key")
    return sets[args.key or next(iter(sets))]


def rename(weights, checkpoint):
    """Return the tensors under our names, and what each was called."""
    state, theirs = {}, {}
    for name, value in weights.items():
        ours = str(name)
        for pattern, replacement in RULES:
            ours = re.sub(pattern, replacement, ours)
        if ours in state:
            sys.exit(f"{checkpoint} has {theirs[ours]} and {name}, which are the same part; save one network alone")
        # In fp32 from here on, as the network is, so that a float64 beyond its range is found to be infinite. A count
        # of batches is no part of that: with another dtype it is refused as what it is.
        is_float = isinstance(value, torch.Tensor) and value.dtype in FLOAT_DTYPES and "num_batches" not in ours
        state[ours], theirs[ours] = value.float() if is_float else value, str(name)
    return state, theirs


def shape_of(value):
    """Return a tensor's shape, or what there is in place of one with values."""
    if not isinstance(value, torch.Tensor):
        return f"a {type(value).__name__}"
    return (
        tuple(value.shape) if value.layout == torch.strided and not value.is_meta else "a tensor without dense values"
    )


def misfits(found, expected, theirs):
    """Return a line for each tensor that is missing, extra or of another shape."""
    called = {name: old if old == name else f"{old} (here {name})" for name, old in theirs.items()}
    lines = [f"missing {name}: expected {shape}" for name, shape in expected.items() if name not in found]
    lines += [f"extra {called[name]}: found {found[name]}" for name in theirs if name not in expected]
    other = [name for name in theirs if name in expected and found[name] != expected[name]]
    return lines + [f"other shape {called[name]}: found {found[name]}, expected {expected[name]}" for name in other]


def variant_with(found, num_classes):
    """Return the variant that has just these tensors, or None."""
    for name, row in VARIANTS.items():
        with torch.device("meta"):
            state = budgetnets.BudgetResNet(row.spec.replace(num_classes=num_classes)).state_dict()
        if {key: tuple(value.shape) for key, value in state.items()} == found:
            return name
    return None


def main(argv=None):
    args = parse_args(argv)
    state, theirs = rename(choose_weights(read(args.checkpoint), args), args.checkpoint)
    layout = next((layout for part, layout in LAYOUTS if re.search(part, " ".join(theirs.values()))), "no known layout")
    # PyTorch before 0.4.1 did not count batches; in eval mode nothing reads the count.
    counters = [name.replace("running_var", "num_batches_tracked") for name in state if name.endswith("running_var")]
    counters = [name for name in counters if name not in state]
    state |= {name: torch.tensor(0) for name in counters}
    found = {name: shape_of(value) for name, value in state.items()}

    outputs = found.get("head.weight")
    options = {"num_classes": outputs[0]} if isinstance(outputs, tuple) and len(outputs) == 2 else {}
    try:
        model = budgetnets.create(args.model, **options | args.model_args)
    except (TypeError, ValueError) as error:
        sys.exit(f"--model {args.model} --model-args {json.dumps(args.model_args)}: {error}")
    lines = misfits(found, {name: tuple(value.shape) for name, value in model.state_dict().items()}, theirs)
    if lines:
        name = variant_with(found, model.num_classes)
        remedy = f"these are the shapes of {name}; use --model {name}"
        if name is None:
            remedy = "no variant has these names and shapes; describe the network: --model budget_resnet --model-args"
        listed = "\n  ".join(lines)
        sys.exit(f"{args.checkpoint}, names of {layout}, does not fit {args.model}:\n  {listed}\n{remedy}")
    try:
        check_state_dict(state, model.state_dict(), str(args.checkpoint))
    except budgetnets.WeightsError as error:  # integers, NaN, infinity
        sys.exit(str(error))
    model.load_state_dict(state)

    names = tuple(args.classes or (budgetnets.CIFAR10_CLASSES if model.num_classes == 10 else ()))
    if names and len(names) != model.num_classes:
        sys.exit(f"{len(names)} --classes for {model.num_classes} outputs; give a name for each")
    mean, std = tuple(args.mean), tuple(args.std)
    model.pretrained_cfg |= {"mean": mean, "std": std}
    try:
        budgetnets.save_pretrained(model, args.out, class_names=names, license=args.license)
    except OSError as error:
        sys.exit(f"--out {args.out} cannot be written ({error}); choose another folder")
    filled = f", {len(counters)} num_batches_tracked set to 0" if counters else ""
    print(f"{len(theirs)} tensors, names of {layout}{filled}")
    print(f"{args.model}, {sum(p.numel() for p in model.parameters()):,} parameters, {model.num_classes} outputs")
    print(f"images normalized with mean {mean}, std {std}; load it with")
    print(f'budgetnets.create("local-dir:{args.out}", pretrained=True)')


if __name__ == "__main__":
    main()
