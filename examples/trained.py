"""Trained networks that an option names: a variant with its weights, or the folder of a finished run of train.py."""

import argparse
import json
import sys
from pathlib import Path

import cifar
import run_folder
import timm
from safetensors import SafetensorError
from safetensors.torch import load_file

import budgetnets
from budgetnets.variants import find_weights

STARTED_FROM = {"pretrained", "checkpoint_path"}  # of a model's arguments: weights that the run's own have replaced


def load(option, name):
    """Return the network, and holdout, limit, mean and std of its training as a dictionary; exit where there is none.

    The holdout of a run that began with trained weights is 0: they have seen all images, for all that is known.

    Args:
        option: as messages name it, such as "--teacher".
        name: of the variant, with or without its weights' tag, or the folder.
    """
    folder = Path(name)
    return load_run(option, folder) if (folder / "log.json").exists() else load_variant(option, name)


def load_variant(option, name):
    try:
        weights = find_weights(name)
    except ValueError as error:
        sys.exit(f"{option} {name} is no run's folder, and as a variant: {error}")
    if weights is None:
        known = ", ".join(budgetnets.list_models(pretrained=True))
        sys.exit(f"{option} {name} has no trained weights yet; use {known} or the folder of a run")
    training = {"holdout": 0, "limit": 0, "mean": weights.mean, "std": weights.std}
    return budgetnets.create(name, pretrained=True), training


def load_run(option, folder):
    try:
        log = json.loads((folder / "log.json").read_text())
        args = argparse.Namespace(**log["args"])
        done, wanted = len(log["epochs"]), args.epochs
        given = json.loads(args.model_args)
        options = {key: value for key, value in given.items() if key not in STARTED_FROM}
        holdout = args.holdout if options == given else 0
        model = timm.create_model(args.model, **options)
        model.load_state_dict(load_file(folder / "model.safetensors"))
        mean, std = cifar.mean_and_std(args)
        training = {"holdout": holdout, "limit": args.limit, "mean": mean, "std": std}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        sys.exit(f"{option} {folder} is no run of train.py that can be read: {error}")
    if done < wanted and not run_folder.stopped_early(log):
        sys.exit(f"{option} {folder} has {done} of its {wanted} epochs; go on with it first (--resume)")
    return model.eval(), training
