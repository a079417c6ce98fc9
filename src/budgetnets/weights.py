"""Trained weights: where they lie, proof that they are the published bytes, and nothing loaded without it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from timm.models import PretrainedCfg, is_model, load_state_dict
from timm.models._hub import load_model_config_from_path, load_state_dict_from_path
from torch import nn

from . import hub
from .checks import MAX_WIDTH, integer
from .hub import CONFIG_FILENAME, HUB_FILENAME
from .network import GENERIC_NAME, BudgetResNet
from .rows import Variant, Weights
from .state import WeightsIntegrity, WeightsMismatch, WeightsUnavailable, check_state_dict
from .variants import VARIANTS, find_variant, find_weights

SOURCE_VARIABLE = "BUDGETNETS_WEIGHTS"
SOURCES = ("auto", "bundled", "hub")
OWN_SOURCES = ("source", "state_dict", "file", "url", "hf_hub_filename")  # keys of timm's configurations
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".tar", ".bin")  # of the files that timm takes from a folder
HALF_DTYPES = (torch.float16, torch.bfloat16)
MOST_BYTES = 64 * 2**20  # of a file that is read into memory; the zoo's are at most 10 MiB


def registered_state_dict(
    name: str, cache_dir: str | Path | None = None, local_files_only: bool = False
) -> tuple[Weights, dict[str, torch.Tensor]]:
    """Return the card and the tensors of a registered variant's weights, of a verified file, in its precision.

    Args:
        name: a variant, with or without a tag.
        cache_dir: the Hub client's cache; None for its usual place.
        local_files_only: never ask the Hub, take what lies on this machine.

    The file is looked for where BUDGETNETS_WEIGHTS says: "auto" (bundled with the package, then the Hub's cache, then
    the Hub), "bundled" (never the network) or "hub" (never the bundled file). Its sha256 is checked wherever it lies.

    Raises:
        WeightsUnavailable: none were trained yet, or none could be had.
        WeightsIntegrity: a file has another hash than the published one.
    """
    source = os.environ.get(SOURCE_VARIABLE, "auto")
    if source not in SOURCES:
        raise ValueError(f"{SOURCE_VARIABLE}={source!r} is unknown; use one of {', '.join(SOURCES)}, or unset it")
    if name.partition(".")[0] == GENERIC_NAME:
        raise WeightsUnavailable(
            f"{GENERIC_NAME} is any network of the family and has no weights of its own; use pretrained=False, or name "
            "a source: 'hf-hub:org/name', 'local-dir:folder', checkpoint_path=..."
        )
    row, weights = find_variant(name), find_weights(name)
    if weights is None:
        trained = ", ".join(row.name for row in VARIANTS.values() if row.weights) or "none"
        raise WeightsUnavailable(
            f"{row.name} has no trained weights. With weights: {trained}. In Python, pretrained=False builds it "
            "with random ones."
        )
    content = None
    if source != "hub":
        content = _bundled_bytes(row, weights, required=source == "bundled")
    if content is None:
        content = _hub_bytes(row, weights, cache_dir, local_files_only)
    return weights, safetensors.torch.load(content)


def bundled_path(row: Variant, weights: Weights) -> Path:
    """Return where the package keeps a variant's weights, whether or not the file is there."""
    return Path(__file__).parent / "bundled" / f"{row.name}.{weights.tag}.safetensors"


def hub_id(row: Variant, weights: Weights) -> str:
    """Return timm's name for a variant's weights on the Hub."""
    return f"{row.hub_repo}@{weights.hub_revision}"


def published_name(name: str, config: Mapping[str, Any]) -> str | None:
    """Return the variant and tag whose published weights a configuration of timm's means, None where it means others.

    A source that the caller names (hf-hub:, local-dir:, file, state dict) wins over ours. A `hf_hub_id` of ours is no
    such source: timm's copy of a registered configuration has it, and its weights are verified like any of ours.
    """
    if any(config.get(key) for key in OWN_SOURCES):
        return None
    place = config.get("hf_hub_id")
    if place:
        published = {hub_id(row, card): f"{row.name}.{card.tag}" for row in VARIANTS.values() for card in row.weights}
        return published.get(place)
    return f"{name}.{config['tag']}" if config.get("tag") else name


def read_file(name: str, place: str | Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a weight file that the caller names, or of the one in a folder; nothing pickled is run.

    Args:
        name: of the network, for the messages.
        place: a safetensors file, one of torch.save, or a folder with one of them.

    Raises:
        WeightsUnavailable: there is none.
        WeightsIntegrity: it cannot be read.
        WeightsMismatch: it holds something else than a state dict.
    """
    path = Path(place)
    files = [file for file in path.iterdir() if file.suffix in WEIGHT_SUFFIXES] if path.is_dir() else [path]
    if not any(file.is_file() for file in files):
        raise WeightsUnavailable(f"{name}: there is no weight file at {path}; check the path, or use pretrained=False.")
    try:
        state = load_state_dict_from_path(path) if path.is_dir() else load_state_dict(str(path))
    except Exception as error:  # torch's reader raises whatever a damaged file leads it to
        # What torch says of a damaged file is the advice to unpickle it, so that only the error's kind is given.
        reason = error if isinstance(error, SafetensorError) else type(error.__cause__ or error).__name__
        raise WeightsIntegrity(
            f"{name}: {path} is no intact safetensors file, nor a PyTorch checkpoint of tensors alone ({reason}). Save "
            "or download it again; a file of another format needs its own extension."
        ) from error
    others = [f"{key!r} is a {type(value).__name__}" for key, value in state.items() if not torch.is_tensor(value)]
    if others or not state:
        raise WeightsMismatch(
            f"{name}: {path} is no state dict: {others[0] if others else 'it is empty'}. Save model.state_dict() alone."
        )
    return state


def check_config(folder: str | Path) -> None:
    """Check a folder's config.json, for which timm's own errors name neither the file nor the remedy.

    Raises:
        WeightsUnavailable: there is none.
        WeightsIntegrity: it does not describe a network that timm knows.
    """
    path = Path(folder) / CONFIG_FILENAME
    if not path.is_file():
        raise WeightsUnavailable(f"there is no {path}; give a folder that budgetnets.save_pretrained wrote.")
    try:
        config, architecture, _ = load_model_config_from_path(folder)
        size = PretrainedCfg(**config).input_size
        if not (isinstance(architecture, str) and is_model(architecture)):
            raise ValueError(f"architecture={architecture!r} is none of timm's or budgetnets'")
        if not isinstance(size, list | tuple) or len(size) != 3:
            raise ValueError(f"input_size={size!r} must be channels, height and width")
        for number in size:
            integer("input_size", number, 1, MAX_WIDTH)
    except Exception as error:  # timm takes the file apart unseen, and any of Python's errors may come of it
        raise WeightsIntegrity(
            f"{path} describes no network ({type(error).__name__}: {error}). Save it again with "
            "budgetnets.save_pretrained, or download it again."
        ) from error


def check_device(model: nn.Module) -> None:
    """Raise ValueError for a network on the device "meta", into which torch loads nothing, with a warning alone."""
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ValueError(
            "the device 'meta' holds no values, so no weights can be loaded there; load them on one that does "
            "(device='cpu') and move the network, or leave pretrained and checkpoint_path out"
        )


def check_foreign(state: Mapping[str, torch.Tensor], model: BudgetResNet) -> dict[str, torch.Tensor]:
    """Check a state dict from any source against the network that it is for; timm calls this before it loads.

    Only the classifier may differ, and the first convolution's input channels: timm adapts those two. All else must
    agree, so that a file for another network never leaves a random one behind.

    Raises:
        ValueError: the network is on the device "meta".
        WeightsMismatch: other names, shapes or dtypes, or values that are not finite.
    """
    check_device(model)
    expected = dict(model.state_dict())
    config: Mapping[str, Any] = getattr(model, "pretrained_cfg", {})
    classes = config.get("num_classes", 0)  # the source's; timm leaves its classifier out where the network has others
    for name in ("head.weight", "head.bias") if classes != model.num_classes else ():
        wanted = expected.pop(name, None) is not None or name in state
        if classes and wanted:
            shape = getattr(state.get(name), "shape", ())  # its width follows the source's pool, which may be another
            expected[name] = torch.empty(classes, *shape[1:], device="meta")
    source_chans = (config.get("input_size") or (3,))[0]
    if "stem.conv.weight" in state and source_chans != model.in_chans:
        width, _, *kernel = expected["stem.conv.weight"].shape
        expected["stem.conv.weight"] = torch.empty(width, source_chans, *kernel, device="meta")
    check_state_dict(state, expected, f"the weights given for {config.get('architecture', 'the network')}")
    checked = dict(state)
    stem = checked["stem.conv.weight"]
    if stem.dtype in HALF_DTYPES:  # so that adapting it to other channels rounds nothing
        checked["stem.conv.weight"] = stem.float()
    return checked


def _bundled_bytes(row: Variant, weights: Weights, required: bool) -> bytes | None:
    path = bundled_path(row, weights)
    if not weights.bundled or not path.exists():
        if required:
            raise WeightsUnavailable(
                f"{row.name}.{weights.tag} is not among the files bundled with this installation ({path}); unset "
                f"{SOURCE_VARIABLE}, or reinstall budgetnets."
            )
        return None
    content = _read(path)
    if _sha256(content) != weights.sha256:
        raise WeightsIntegrity(
            f"{row.name}.{weights.tag}: the bundled file {path} is damaged ({_found(content, weights)}). Reinstall it: "
            f"pip install --force-reinstall --no-deps budgetnets; or load it from the Hub: {SOURCE_VARIABLE}=hub."
        )
    return content


def _hub_bytes(row: Variant, weights: Weights, cache_dir: str | Path | None, local_files_only: bool) -> bytes:
    """Return the verified file from the Hub's cache, else from the Hub, asked for anew once if its bytes are wrong."""
    place = f"{hub_id(row, weights)}/{HUB_FILENAME}"
    file = (row.hub_repo, HUB_FILENAME, weights.hub_revision)
    known = hub.cached(*file, cache_dir=cache_dir)
    if known:
        content = _read(known)
        if _sha256(content) == weights.sha256:
            return content
        if local_files_only or hub.offline():
            raise WeightsIntegrity(
                f"{row.name}.{weights.tag}: the cached file {known} is damaged ({_found(content, weights)}). "
                "Delete it, and load the weights once with the network (without local_files_only and HF_HUB_OFFLINE)."
            )
    found = ""
    for force in (False, True):
        try:
            path = hub.fetch(*file, cache_dir=cache_dir, local_files_only=local_files_only, force=force)
        except Exception as error:  # the client raises its HTTP library's own errors too, which are no OSError
            raise WeightsUnavailable(
                f"{row.name}.{weights.tag}: {place} {hub.explain(error)}, reinstall budgetnets if it should bundle "
                f"this file, or use pretrained=False.{_damaged(found)}"
            ) from error
        content = _read(path)
        if _sha256(content) == weights.sha256:
            return content
        found = _found(content, weights)
    raise WeightsIntegrity(
        f"{row.name}.{weights.tag}: {place} is not the published file ({found}), downloaded twice. "
        "Something between this machine and the Hub alters it, or budgetnets is older than the repository; upgrade "
        "budgetnets, or use pretrained=False."
    )


def _read(path: Path) -> bytes:
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise WeightsIntegrity(f"{path} has {size:,} bytes; no weight file of the zoo has more than {MOST_BYTES:,}")
    return path.read_bytes()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _found(content: bytes, weights: Weights) -> str:
    return f"{len(content):,} bytes with sha256 {_sha256(content)[:16]}..., expected {weights.sha256[:16]}..."


def _damaged(found: str) -> str:
    return f" What was downloaded before was not the published file ({found})." if found else ""
