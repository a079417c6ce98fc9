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


def loads_weights(args):
    """Whether the options of train.py have the network start from weights, not at random."""
    given = json.loads(args.model_args)
    return any(given.get(name) for name in STARTED_FROM)


def load(option, name):
    """Return the network and, as a dictionary, holdout, limit, mean and std of its training; exit where there is none.

    Its "fresh" says whether the training began with random weights, for all that the log knows.

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
        sys.exit(f"{option} {name} has no trained weights; use {known} or the folder of a run")
    training = {"holdout": 0, "limit": 0, "fresh": True, "mean": weights.mean, "std": weights.std}
    return budgetnets.create(name, pretrained=True), training


def load_run(option, folder):
    try:
        log = json.loads((folder / "log.json").read_text())
        args = argparse.Namespace(**log["args"])
        done, wanted = len(log["epochs"]), args.epochs
        options = {name: value for name, value in json.loads(args.model_args).items() if name not in STARTED_FROM}
        model = timm.create_model(args.model, **options)
        model.load_state_dict(load_file(folder / "model.safetensors"))
        mean, std = cifar.mean_and_std(args)
        training = {"holdout": args.holdout, "limit": args.limit, "mean": mean, "std": std}
        training["fresh"] = not loads_weights(args)
        unfinished = done < wanted and not run_folder.stopped_early(log)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        sys.exit(f"{option} {folder} is no run of train.py that can be read: {error}")
    if unfinished:
        sys.exit(f"{option} {folder} has {done} of its {wanted} epochs; go on with it first (--resume)")
    return model.eval(), training
