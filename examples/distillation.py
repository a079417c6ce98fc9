"""Distillation: a network learns from a larger one's answers beside the labels.

Hinton et al. 2015 (arXiv 1503.02531). Both see the same augmented images (Beyer et al. 2022, arXiv 2106.05237).
"""

import argparse
import json
import sys
from pathlib import Path

import cifar
import timm
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file

import budgetnets
from budgetnets.variants import find_weights


def make_loss(args, accelerator):
    """Return a function of a batch's loss, logits (B, 10) and images that returns the loss to descend by.

    With a teacher it is (1 - d) loss + d T^2 KL(teacher, network), both softened by the temperature T, else the loss.
    """
    if not args.teacher:
        return lambda loss, logits, images: loss
    teacher = budgetnets.optimize_for_inference(load_teacher(args)).to(accelerator.device)
    if args.compile:
        teacher = torch.compile(teacher, dynamic=False)
    share, warmth = args.distill, args.temperature

    def distilled(loss, logits, images):
        with torch.no_grad(), accelerator.autocast():
            answers = teacher(images).float()
        softened = [F.log_softmax(x / warmth, 1) for x in (logits, answers)]
        return (1 - share) * loss + share * warmth**2 * F.kl_div(*softened, reduction="batchmean", log_target=True)

    return distilled


def load_teacher(args):
    """Return the network that --teacher names; exit unless it was trained on images that this run trains on too."""
    folder = Path(args.teacher)
    if (folder / "log.json").exists():
        model, taught = load_run(folder)
    else:
        model, taught = load_variant(args.teacher)
    if taught["holdout"] != args.holdout:
        sys.exit(
            f"--teacher {args.teacher} was trained with --holdout {taught['holdout']}, this run has --holdout "
            f"{args.holdout}. A teacher that saw the held-out images tells of them; give a run's folder with the same"
        )
    for name, own in zip(("mean", "std"), cifar.mean_and_std(args), strict=True):
        if tuple(own) != tuple(taught[name]):
            figures = ",".join(map(str, taught[name]))
            sys.exit(f"--teacher {args.teacher} takes images of another {name}; add --{name} {figures}")
    return model


def load_variant(name):
    """Return a variant with its weights, and the options that its teaching depends on."""
    try:
        weights = find_weights(name)
    except ValueError as error:
        sys.exit(f"--teacher {name} is no run's folder, and as a variant: {error}")
    if weights is None:
        known = ", ".join(budgetnets.list_models(pretrained=True))
        sys.exit(f"--teacher {name} has no trained weights yet; use {known} or the folder of a run")
    return budgetnets.create(name, pretrained=True), {"holdout": 0, "mean": weights.mean, "std": weights.std}


def load_run(folder):
    """Return a finished run's network, and the options that its teaching depends on."""
    try:
        log = json.loads((folder / "log.json").read_text())
        args = argparse.Namespace(**log["args"])
        done, wanted = len(log["epochs"]), args.epochs
        model = timm.create_model(args.model, **json.loads(args.model_args) | {"pretrained": False})
        model.load_state_dict(load_file(folder / "model.safetensors"))
        mean, std = cifar.mean_and_std(args)
    except (OSError, ValueError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        sys.exit(f"--teacher {folder} is no run of this script that can be read: {error}")
    if done < wanted:
        sys.exit(f"--teacher {folder} has {done} of its {wanted} epochs; go on with it first (--resume)")
    return model, {"holdout": args.holdout, "mean": mean, "std": std}
