"""`python -m budgetnets`: the zoo from the command line."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from .cards import card
from .checks import integer
from .counts import count_macs, count_memory, count_params
from .export import export_onnx
from .latency import ONNX_SUFFIX, compare_latency
from .preprocessing import transforms
from .publish import release
from .registry import create, list_models
from .search_limits import LIMITS
from .search_space import PER_LAYER
from .searching import OBJECTIVES, search
from .spec import BLOCK_EXPANSION, LETTERS, SE_PLACES, ResNetSpec
from .variants import GIVE_SPEC, find_variant
from .verification import verify

SEARCHED = ("N", *LETTERS)
CLOSED_PIPE = 141  # what a shell reports of a tool whose reader has gone: 128 + SIGPIPE
INTERRUPTED = 130  # and of one that Ctrl-C has ended: 128 + SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 1 for a failed verification, 2 for what could not be done.

    141 is that of an output whose reader has gone, as in `list | head`, and 130 that of Ctrl-C.
    """
    args = _parser().parse_args(argv)
    try:
        status = args.run(args)
        if stdout := sys.stdout:  # a shell's >&- leaves none
            stdout.flush()  # so that a closed pipe is met here, and not by the interpreter at its end
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered goes nowhere
        return CLOSED_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except (TypeError, ValueError, OSError, ImportError, RuntimeError) as error:  # WeightsError is a RuntimeError
        print(f"budgetnets {args.command}: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m budgetnets", description="Residual networks under a budget.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser("list", help="the variants, with what they cost and reach")
    command.add_argument("filter", nargs="?", default="", help="a shell pattern such as 'resnet9*'")
    command.add_argument("--pretrained", action="store_true", help="only those with trained weights")
    command.add_argument("--max-params", type=_whole, help="only those with at most so many parameters: 5e6")
    command.set_defaults(run=_list)

    command = commands.add_parser("card", help="all that is known of a variant")
    command.add_argument("name")
    command.set_defaults(run=_card)

    command = commands.add_parser("count", help="parameters, multiply-adds and memory of a variant or of any network")
    command.add_argument("name", nargs="?", help="a variant; or leave it out and give the letters")
    command.add_argument("-N", type=int, help="layers")
    for letter, meaning in LETTERS.items():
        command.add_argument(f"-{letter}", type=_numbers, metavar="n[,n...]", help=meaning.replace("_", " "))
    command.add_argument("--strides", type=_numbers, metavar="n[,n...]")
    command.add_argument("--se", choices=[place for place in SE_PLACES if place])
    command.add_argument("--block", choices=list(BLOCK_EXPANSION))
    command.add_argument("--num-classes", type=int)
    command.add_argument("--in-chans", type=int)
    command.add_argument("--input-size", type=int)
    command.add_argument("--max-params", type=_whole, help="fail when there are more")
    command.set_defaults(run=_count)

    per_layer = (
        "A choice of B, C, F or K is one number for all layers (C: for the first, which --growth multiplies), or a "
        "number for each: -B 2,1/1/2 is two blocks in all layers, or one, one and two."
    )
    command = commands.add_parser("search", help="the best networks of the family under limits", epilog=per_layer)
    for limit, meaning in LIMITS.items():
        command.add_argument(f"--{limit.replace('_', '-')}", type=_whole, metavar="n", help=f"most {meaning}")
    command.add_argument("--max-latency", type=float, metavar="ms", help="most milliseconds for one image, measured")
    for letter in SEARCHED:
        meaning = {"N": "numbers of layers"}.get(letter) or LETTERS[letter].replace("_", " ")
        read, usage = (_layer_choices, "n[/n...][,...]") if letter in PER_LAYER else (_choices, "n[,n...]")
        if letter == "P":
            read, usage, meaning = _pools, "n[,n...]", f"{meaning}; none is the final map's"
        command.add_argument(f"-{letter}", type=read, metavar=usage, help=f"choices of {meaning}")
    command.add_argument("--growth", type=_choices, metavar="n[,n...]", help="factors from a width to the next")
    command.add_argument("--strides", type=_layer_choices, metavar="n[/n...][,...]", help="choices of the layers'")
    command.add_argument("--se", type=_places, metavar="place[,place...]", help="choices of none, stem and block")
    command.add_argument("--block", choices=list(BLOCK_EXPANSION))
    command.add_argument("--num-classes", type=int)
    command.add_argument("--in-chans", type=int)
    command.add_argument("--input-size", type=int)
    command.add_argument("--objective", choices=OBJECTIVES)
    command.add_argument("--limit", type=int, help="most results")
    command.set_defaults(run=_search)

    command = commands.add_parser("classify", help="the five likeliest classes of each image")
    command.add_argument("images", nargs="+", metavar="IMAGE", type=Path)
    command.add_argument("--model", default="resnet9_cifar", help="a variant with weights, or local-dir: and a folder")
    command.set_defaults(run=_classify)

    command = commands.add_parser("verify", help="check a variant's weights on CIFAR-10's test set")
    command.add_argument("name")
    command.add_argument("root", metavar="DIR", help="the folder that holds cifar-10-batches-py")
    command.set_defaults(run=_verify)

    command = commands.add_parser("export", help="a network with its trained weights as an ONNX file")
    command.add_argument("name", help="a variant with weights, or local-dir: and a folder")
    command.add_argument("path", type=Path, help="the file to write")
    command.add_argument("--int8", action="store_true", help="quantized, with the ranges on the variant's card")
    command.add_argument("--calibration", type=Path, metavar="DIR", help="take the ranges from images in a folder")
    command.add_argument("--fixed-batch", action="store_true", help="exactly one image at a time")
    command.set_defaults(run=_export)

    command = commands.add_parser("latency", help="milliseconds for one image here, of several networks side by side")
    command.add_argument("networks", nargs="+", metavar="NETWORK", help="a variant, an ONNX file or local-dir:<folder>")
    command.add_argument("--threads", type=int, default=1, help="of the processor [%(default)s]")
    command.add_argument("--rounds", type=int, default=20, help="of which the median counts [%(default)s]")
    command.set_defaults(run=_latency)

    command = commands.add_parser("release", help="for maintainers: write, check and publish all weights' Hub folders")
    command.add_argument("folder", type=Path, help="gets a subfolder for each weight file")
    command.add_argument("--push", action="store_true", help="publish; without it nothing leaves this machine")
    command.set_defaults(run=_release)
    return parser


def _numbers(text: str) -> int | list[int]:
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of integers such as 64,128,256") from None
    return values[0] if len(values) == 1 else values


def _choices(text: str) -> list[int]:
    numbers = _numbers(text)
    return numbers if isinstance(numbers, list) else [numbers]


def _layer_choices(text: str) -> list[int | list[int]]:
    """Return a search's choices: 2,1/1/2 is two in all layers, or one, one and two."""
    try:
        choices = [[int(number) for number in choice.split("/")] for choice in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of integers such as 1,2 or 1/1/2") from None
    for_all = [choice[0] for choice in choices if len(choice) == 1]
    if len(set(for_all)) < len(for_all):
        each = "/".join(map(str, for_all))
        raise argparse.ArgumentTypeError(f"{text!r} has a choice twice; with a number for each layer it is {each}")
    return [choice if len(choice) > 1 else choice[0] for choice in choices]


def _whole(text: str) -> int:
    """Return a whole number; 5e6 is as good as 5000000."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number.is_integer():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number; write one such as 5000000 or 5e6")
    return int(number)


def _places(text: str) -> list[str | None]:
    places = [None if place == "none" else place for place in text.split(",")]
    for place in places:
        if place not in SE_PLACES:
            raise argparse.ArgumentTypeError(f"{place!r} is unknown; write none, stem or block, or several: none,stem")
    return places


def _pools(text: str) -> list[int | None]:
    return [None if pool == "none" else _choices(pool)[0] for pool in text.split(",")]


def _list(args: argparse.Namespace) -> int:
    names = list_models(args.filter, pretrained=args.pretrained, max_params=args.max_params)
    print(f"{'variant':<36} {'parameters':>12} {'M mult-adds':>12} {'reported':>9} {'measured':>9}")
    for name in names:
        row = card(name)
        reported = f"{max(r.top1 for r in row.reported):.2f}" if row.reported else "-"
        measured = f"{row.top1:.2f}" if row.top1 is not None else "-"
        print(f"{name:<36} {row.params:>12,} {row.macs / 1e6:>12,.1f} {reported:>9} {measured:>9}")
    return 0


def _card(args: argparse.Namespace) -> int:
    print(card(args.name))
    return 0


def _count(args: argparse.Namespace) -> int:
    given = {key: value for key, value in vars(args).items() if value is not None}
    letters: dict[str, Any] = {key: given[key] for key in ("N", *LETTERS) if key in given}
    options = {
        key: given[key] for key in ("strides", "se", "block", "num_classes", "in_chans", "input_size") if key in given
    }
    if bool(args.name) == bool(letters):
        raise ValueError("give a variant's name, or the letters: count -N 3 -B 4,4,3 -C 64,128,256 -P 8")
    if args.name:
        spec = find_variant(args.name, GIVE_SPEC).spec.replace(**options)
    else:
        spec = ResNetSpec.from_dict(letters | options)
    print(spec)
    print(f"\nparameters     {count_params(spec, max_params=args.max_params):>14,}")
    print(f"multiply-adds  {count_macs(spec):>14,}  for one image")
    print(f"activations    {count_memory(spec):>14,}  bytes at their peak, fp32, one image")
    return 0


def _search(args: argparse.Namespace) -> int:
    given = {key: value for key, value in vars(args).items() if value is not None and key not in ("command", "run")}
    print(search(**given))
    return 0


@torch.inference_mode()
def _classify(args: argparse.Namespace) -> int:
    from PIL import Image, ImageOps

    model: Any = create(args.model, pretrained=True)
    transform = transforms(model)
    if not model.num_classes:
        raise ValueError(f"{args.model} has no classifier (num_classes=0); give a network that has one")
    names = getattr(model, "class_names", None) or [f"class {i}" for i in range(model.num_classes)]
    status = 0
    for path in args.images:
        try:
            with Image.open(path) as image:
                batch = transform(ImageOps.exif_transpose(image)).unsqueeze(0)  # (1, C, H, W)
        except Exception as error:  # a decoder may raise anything on damaged bytes
            said = f"{path} cannot be read as an image ({error}); use a JPEG, PNG or the like"
            print(f"budgetnets classify: {said}", file=sys.stderr)
            status = 2
            continue
        top = model(batch).softmax(1)[0].topk(min(5, len(names)))
        answers = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        print(f"{path}: " + ", ".join(f"{names[i]} {100 * probability:.1f} %" for i, probability in answers))
    return status


def _verify(args: argparse.Namespace) -> int:
    found = verify(args.name, args.root)
    print(found)
    return 0 if found.matches else 1


def _export(args: argparse.Namespace) -> int:
    dynamic_batch = not args.fixed_batch
    print(export_onnx(args.name, args.path, int8=args.int8, calibration=args.calibration, dynamic_batch=dynamic_batch))
    return 0


def _latency(args: argparse.Namespace) -> int:
    torch.set_num_threads(integer("--threads", args.threads, 1, 1024))
    # A variant's time is that of any weights; what lies in a folder has to be read to be known.
    networks: list[Any] = []
    for name in args.networks:
        is_file = name.lower().endswith(ONNX_SUFFIX)
        is_source = ":" in name and not is_file
        if not (is_file or is_source):
            find_variant(name)  # which says how a folder is written here
        networks.append(create(name, pretrained=True) if is_source else name)
    results = compare_latency(*networks, rounds=args.rounds)
    print(f"{'network':<36} {'ms':>9} {'times as fast':>14}")
    for name, found in zip(args.networks, results, strict=True):
        print(f"{name:<36} {found.milliseconds:>9.2f} {found.speedup:>14.2f}")
    return 0


def _release(args: argparse.Namespace) -> int:
    for folder in release(args.folder, push=args.push):
        print(f"{folder}: {'published' if args.push else 'written and checked'}")
    if not args.push:
        print("nothing was published; --push does that")
    return 0
