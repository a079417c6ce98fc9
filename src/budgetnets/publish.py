"""Publishing: a network as a folder or a Hub repository, with a model card that is true and a snippet that runs."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from .cards import hub_card, user_card
from .checks import first_line
from .hub import CONFIG_FILENAME, HUB_FILENAME
from .inference import own_copy
from .network import GENERIC_NAME, BudgetResNet
from .registry import create
from .rows import Variant, Weights
from .spec import OPTIONS
from .state import WeightsError, WeightsIntegrity, WeightsMismatch
from .timm_config import drop_foreign_normalization
from .variants import VARIANTS
from .weights import bundled_path

CARD_FILENAME = "README.md"


def save_pretrained(
    model: nn.Module,
    folder: str | Path,
    *,
    repo_id: str = "",
    class_names: Sequence[str] | None = None,
    dataset: str = "",
    top1: float | None = None,
    license: str = "apache-2.0",
) -> Path:
    """Write a network in the Hub's layout: config.json, model.safetensors and a model card.

    `budgetnets.create("local-dir:<folder>", pretrained=True)` and timm bring it back, in fp32: the same values and the
    same logits bit for bit, which is tried before anything is written. Files of the same names are replaced, each
    whole.

    Args:
        model: a network of the family.
        folder: made where it does not exist.
        repo_id: where it will be published, such as "me/my-net", for the card's snippet.
        class_names: what the outputs mean; None takes the network's own `class_names`.
        dataset: what it was trained on, for the card.
        top1: its accuracy in percent, measured on images that it was not trained or chosen on, for the card.
        license: of the weights, as the Hub names licenses.

    Returns:
        The folder.

    Raises:
        TypeError: not a network of the family, class names that are no strings, or an accuracy that is no number.
        ValueError: another number of class names than classes, an accuracy outside 0 to 100, or an empty folder name.
        FileExistsError: a file stands in the folder's place.
        WeightsMismatch: what would be written is not the network, such as after its layers were changed by hand.
    """
    network = _checked_network(model)
    assert network.spec is not None
    names = _checked_class_names(network, class_names)
    if top1 is not None:
        _check_top1(top1)
    if not str(folder):
        raise ValueError("folder='' names no folder; give one to be made, such as 'net', or '.' for the current one")
    text = user_card(
        network.spec,
        network.global_pool.pool_type,
        name=repo_id or f"local-dir:{Path(folder)}",
        class_names=names,
        dataset=dataset,
        top1=top1,
        license=license,
    )
    _write_folder(network, Path(folder), names, text, license)
    return Path(folder)


def push_to_hub(
    model: nn.Module,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool = False,
    revision: str | None = None,
    commit_message: str = "Add a network made with budgetnets",
    **card_options: Any,
) -> str:
    """Publish a network as a Hub repository, made where it does not exist, and return the commit's address.

    Args:
        model: a network of the family.
        repo_id: "org/name".
        token: a Hub token that may write there; None takes the one of `hf auth login`.
        private: make the repository private if it is new.
        revision: the branch; None is main.
        commit_message: of the commit.
        **card_options: `class_names`, `dataset`, `top1` and `license`, as `save_pretrained` takes them.

    Raises:
        TypeError, ValueError: as `save_pretrained`; nothing was sent then.
        RuntimeError: the Hub refused, or could not be reached; the message says where and what to do.
    """
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, folder, repo_id=repo_id, **card_options)
        return _upload(Path(folder), repo_id, token, private, revision, commit_message)


def release(folder: str | Path, *, push: bool = False, token: str | None = None) -> list[Path]:
    """Write the Hub folder of every bundled weight file, check each by loading it again, and only then push them.

    A folder holds the bundled file byte for byte. Loaded through timm it must give the logits of
    `budgetnets.create(name, pretrained=True)` bit for bit. Each commit gets the weights' tag; the default weights of a
    variant are pushed last and so are what main holds.

    Args:
        folder: gets a subfolder for each `<variant>.<tag>`.
        push: publish; without it nothing leaves this machine.
        token: a Hub token that may write to the organization; None takes the one of `hf auth login`.

    Raises:
        WeightsIntegrity: a folder does not give the same logits; nothing was pushed then.
        RuntimeError: the Hub refused, or could not be reached.
    """
    jobs = [(row, weights) for row in VARIANTS.values() for weights in reversed(row.weights) if weights.bundled]
    folders = [_write_release(Path(folder) / f"{row.name}.{weights.tag}", row, weights) for row, weights in jobs]
    if push:
        for (row, weights), written in zip(jobs, folders, strict=True):
            _upload(written, row.hub_repo, token, False, None, f"{row.name}.{weights.tag}", tag=weights.hub_revision)
    return folders


def _write_release(folder: Path, row: Variant, weights: Weights) -> Path:
    name = f"{row.name}.{weights.tag}"
    network = create(name, pretrained=True)
    assert isinstance(network, BudgetResNet)
    _write_folder(network, folder, weights.classes, hub_card(row, weights), weights.license, weights.tag)
    _replace(folder / HUB_FILENAME, bundled_path(row, weights).read_bytes())
    images = _images_for(network)
    with torch.inference_mode():
        again = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        equal = torch.equal(again(images), network(images))
    if not equal or hashlib.sha256((folder / HUB_FILENAME).read_bytes()).hexdigest() != weights.sha256:
        raise WeightsIntegrity(f"{name}: {folder}, loaded again, does not give the logits of the bundled weights.")
    return folder


def _checked_network(model: nn.Module) -> BudgetResNet:
    network = getattr(model, "_orig_mod", model)  # of a compiled network, the network
    if not isinstance(network, BudgetResNet):
        raise TypeError(
            f"a {type(network).__name__} is no network of the family; give what build_resnet or create returned "
            "(model.module of a wrapped one, and no features_only network)"
        )
    if network.spec is None:
        raise TypeError("the network was pruned to its stem, which nothing could build again; keep at least one stage")
    return network


def _checked_class_names(network: BudgetResNet, class_names: Sequence[str] | None) -> tuple[str, ...]:
    names = (network.class_names or ()) if class_names is None else class_names
    is_sequence = isinstance(names, Sequence) and not isinstance(names, str)
    if not is_sequence or not all(isinstance(name, str) for name in names):
        raise TypeError(f"class_names={names!r} must be a list of strings, such as ['cat', 'dog']")
    if names and len(names) != network.num_classes:
        raise ValueError(f"{len(names)} class names for {network.num_classes} classes; give one for each output")
    return tuple(names)


def _check_top1(top1: float) -> None:
    if isinstance(top1, bool) or not isinstance(top1, Real):
        raise TypeError(f"top1={top1!r} must be a number, a percentage from 0 to 100")
    if not 0 <= top1 <= 100:
        raise ValueError(f"top1={top1!r} must be a percentage, 0 to 100")


def _write_folder(
    network: BudgetResNet, folder: Path, class_names: Sequence[str], text: str, license: str, tag: str | None = None
) -> None:
    from timm.models import save_for_hf

    if file := next((path for path in (folder, *folder.parents) if os.path.lexists(path) and not path.is_dir()), None):
        raise FileExistsError(f"folder={str(folder)!r}: {file} is a file; move it, or give another folder")
    contiguous = own_copy(network).to(memory_format=torch.contiguous_format)  # safetensors takes nothing else
    contiguous._model_args = {}  # timm's record knows neither pruning nor which arguments were for the weights alone
    # What its configuration says otherwise is of the weights that it was created with, or would have been.
    contiguous.pretrained_cfg |= {"label_names": tuple(class_names) or None, "license": license, "tag": tag}
    architecture, arguments = _architecture_and_arguments(network)
    config: dict[str, Any] = {"pretrained_cfg": {"architecture": architecture}}
    if class_names:
        config["label_names"] = list(class_names)
    drop_foreign_normalization(contiguous.pretrained_cfg, contiguous.in_chans)
    unknown = [key for key in ("mean", "std") if not contiguous.pretrained_cfg.get(key)]
    data = dict.fromkeys(unknown, (0.5,))  # in place of ImageNet's, which timm writes otherwise; it is taken out again
    with tempfile.TemporaryDirectory() as scratch:
        save_for_hf(
            contiguous, scratch, model_config=config, model_args=arguments, safe_serialization=True, data_config=data
        )
        _leave_out(unknown, Path(scratch) / CONFIG_FILENAME)
        _check_reload(network, scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for name in (CONFIG_FILENAME, HUB_FILENAME):
            _replace(folder / name, (Path(scratch) / name).read_bytes())
    _replace(folder / CARD_FILENAME, text.encode())


def _leave_out(keys: Sequence[str], path: Path) -> None:
    """Write null for keys of a config.json, to which timm gives its own values where they are not there at all."""
    config = json.loads(path.read_text())
    config["pretrained_cfg"] |= dict.fromkeys(keys)
    path.write_text(json.dumps(config, indent=2))


def _architecture_and_arguments(network: BudgetResNet) -> tuple[str, dict[str, Any]]:
    """Return timm's name and the arguments that build the network's spec again; a pruned variant has lost its name."""
    spec, row = network.spec, VARIANTS.get(network.pretrained_cfg["architecture"])
    assert spec is not None
    arguments = {key: value for key, value in spec.to_dict().items() if key not in ("num_classes", "in_chans")}
    if row is None or row.spec.num_layers != spec.num_layers:
        # timm adds the classes and channels of now. A pool over the whole map is to be one at any image size.
        return GENERIC_NAME, arguments | ({"P": None} if spec.grid == 1 else {})
    usual = row.spec.to_dict()
    return row.name, {key: value for key, value in arguments.items() if key in OPTIONS and value != usual[key]}


def _check_reload(network: BudgetResNet, folder: str) -> None:
    """Raise WeightsMismatch unless the folder gives the network again; its modes and the random numbers stay."""
    try:
        with torch.random.fork_rng(devices=[]):
            again = create(f"local-dir:{folder}", pretrained=True)
        loaded = again.state_dict()  # in fp32, whatever the network's precision
        state = {name: tensor.cpu().to(loaded[name].dtype) for name, tensor in network.state_dict().items()}
        equal = again.spec == network.spec and all(torch.equal(state[name], loaded[name]) for name in loaded)
        reason = "its spec or its values would differ."
        if equal:
            equal, reason = _same_logits(network, again), "with the same values, its logits would differ."
    except WeightsError as error:
        equal, reason = False, str(error)
    if not equal:
        raise WeightsMismatch(
            "the network would not come back from a folder, so nothing was written; save what build_resnet or create "
            f"returned, trained or pruned, but without layers changed by hand. Loading it said: {reason}"
        )


def _images_for(network: BudgetResNet) -> torch.Tensor:
    """Return a few images (B, in_chans, H, W) of noise, always the same, by whose logits networks are told apart."""
    assert network.spec is not None  # what has none is not saved
    shape = (4, network.in_chans, network.spec.input_size, network.spec.input_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def _same_logits(network: BudgetResNet, again: nn.Module) -> bool:
    """Whether the layers of the network, with the values that were loaded, give the logits of what was loaded."""
    images = _images_for(network)
    try:  # a copy, since other threads may be using the network
        found = torch.func.functional_call(own_copy(network).eval(), again.state_dict(), (images,))
        return torch.equal(found, again(images))
    except (RuntimeError, TypeError, ValueError):  # layers that do not even fit together any more
        return False


def _replace(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there, readable by all: a half-written one is never seen."""
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # a name for each writer
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(scratch, 0o644)
        os.replace(scratch, path)
    finally:
        Path(scratch).unlink(missing_ok=True)


def _upload(
    folder: Path, repo_id: str, token: str | None, private: bool, revision: str | None, message: str, tag: str = ""
) -> str:
    from huggingface_hub import HfApi  # heavy, and only for publishing

    api = HfApi(token=token, library_name="budgetnets")
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id, folder_path=folder, revision=revision, commit_message=message, ignore_patterns=[".*"]
        )
        if tag:
            api.create_tag(repo_id, tag=tag, revision=commit.oid, exist_ok=True)
    except Exception as error:  # the client raises its HTTP library's own errors too, which are no OSError
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise RuntimeError(
            f"{repo_id} could not be published ({reason}). Check name and network, and that the token "
            "may write there (hf auth login, or token=...). What was prepared is unharmed."
        ) from error
    return commit.commit_url
