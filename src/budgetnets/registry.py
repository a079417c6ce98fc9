"""The registry: every variant registered with timm, and create() and list_models() in front of it."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, overload

import timm
from safetensors import SafetensorError
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._registry import _model_entrypoints, _model_to_module
from torch import nn
from torch.overrides import TorchFunctionMode

from .budget import check_budget
from .checks import cost_limit
from .hub import fetch_folder
from .network import GENERIC_NAME, BudgetResNet
from .rows import Variant, Weights
from .spec import LETTERS, OPTIONS, ResNetSpec
from .state import WeightsIntegrity, check_state_dict
from .timm_config import drop_foreign_normalization, timm_config
from .variants import VARIANTS, find_weights
from .weights import check_config, check_device, check_foreign, hub_id, published_name, read_file, registered_state_dict

TIMM_MODULE = "budgetnets"  # what timm.list_models(module=...) calls the zoo
SMALL_DEFAULT = {"N": 3, "B": 1, "C": [16, 32, 64]}  # what budget_resnet builds when it is told nothing


@overload
def create(
    name: str,
    pretrained: bool = False,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    features_only: Literal[False] = False,
    **kwargs: Any,
) -> BudgetResNet: ...
@overload
def create(
    name: str,
    pretrained: bool = False,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    features_only: bool,
    **kwargs: Any,
) -> nn.Module: ...
def create(
    name: str,
    pretrained: bool = False,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    **kwargs: Any,
) -> nn.Module:
    """Return a network of the zoo: what `timm.create_model` gives, with errors that name the remedy.

    Args:
        name: a variant, with or without a weights' tag ("resnet9_cifar", "resnet9_cifar.<tag>"), "budget_resnet", or
            timm's "hf-hub:" and "local-dir:" names of networks of this family.
        pretrained: load the trained weights. The network then comes back in eval mode.
        revision: of an "hf-hub:" name: branch, tag or commit; None is main. The zoo's own weights are pinned.
        local_files_only: never ask the Hub, take what lies on this machine.
        **kwargs: `num_classes`, `in_chans`, `features_only`, `global_pool`, `drop_rate`, ... as timm takes them.

    Raises:
        ValueError: an unknown name, answered with the nearest known one; or weights asked for on the device "meta".
        WeightsUnavailable, WeightsIntegrity, WeightsMismatch: the weights cannot be had as they were published.
    """
    if not isinstance(name, str):
        raise TypeError(f"name={name!r} must be a string such as 'resnet9_cifar'")
    place, _, repo = name.partition(":")
    place = "hf-hub" if place == "hf_hub" else place  # timm takes both
    if revision is not None and (place != "hf-hub" or "@" in repo):
        raise TypeError(
            f"revision={revision!r} is for 'hf-hub:org/name' without an @ of its own; {name!r} says which weights it "
            "means: a variant's are pinned by their tag"
        )
    if place == "hf-hub":
        repo, _, named = repo.partition("@")
        options = {"cache_dir": kwargs.pop("cache_dir", None), "local_files_only": local_files_only}
        place, repo = "local-dir", fetch_folder(repo, revision or named or None, weights=pretrained, **options)
        name = f"local-dir:{repo}"
    elif not repo and name.startswith(f"{GENERIC_NAME}."):
        raise ValueError(f"{name!r}: {GENERIC_NAME} has no weights of its own, and so no tags; write {GENERIC_NAME!r}")
    elif not repo and name != GENERIC_NAME:
        find_weights(name, others=(GENERIC_NAME,))
        kwargs |= {"local_files_only": True} if local_files_only else {}
    if place == "local-dir":
        check_config(repo)
    # A checkpoint that the caller names takes the place of the registered weights, which need not exist then. It is
    # read here: timm reads it after our entry point, and its errors may be empty.
    checkpoint = kwargs.pop("checkpoint_path", None)
    if checkpoint is not None and not checkpoint:
        raise ValueError(f"checkpoint_path={checkpoint!r} names no file; give a weight file's path, or leave it out")
    model = timm.create_model(name, pretrained=pretrained and not checkpoint, **kwargs)
    if checkpoint:
        check_device(model)
        state = read_file(name, checkpoint)
        check_state_dict(state, model.state_dict(), f"{name}: {checkpoint}")
        model.load_state_dict(state)
    return model.eval() if pretrained else model


def list_models(filter: str = "", pretrained: bool = False, max_params: float | None = None) -> list[str]:
    """Return the names of the zoo's variants, in the table's order.

    Args:
        filter: a shell pattern such as "resnet9*", of the name with or without its tag; empty for all.
        pretrained: only those with trained weights, as `<variant>.<tag>`.
        max_params: only those with at most so many parameters.

    Raises:
        TypeError: a filter that is no string, or a budget that is no whole number.
        ValueError: a budget below 1.
    """
    if not isinstance(filter, str):
        raise TypeError(f"filter={filter!r} must be a shell pattern, a string such as 'resnet9*'")
    most = None if max_params is None else cost_limit("max_params", max_params)
    rows = [row for row in VARIANTS.values() if most is None or row.params <= most]
    names = []
    for row in rows:
        tagged = [f"{row.name}.{weights.tag}" for weights in row.weights]
        # A pattern of the variant's name finds all its weights, and one of a tag the variant that has it.
        matching = [name for name in tagged if _matches(filter, row.name, name)]
        if pretrained:
            names += matching
        elif matching or _matches(filter, row.name):
            names.append(row.name)
    return names


def _matches(pattern: str, *names: str) -> bool:
    return not pattern or any(fnmatch.fnmatch(name, pattern) for name in names)


def register_all() -> None:
    """Register every variant and the generic network with timm; a second call changes nothing.

    Raises:
        RuntimeError: timm or another package already has a model of one of our names.
    """
    _register(GENERIC_NAME, _create_generic)
    for row in VARIANTS.values():
        _register(row.name, partial(_create_variant, row))


def _register(name: str, create_fn: Callable[..., nn.Module]) -> None:
    if name in _model_entrypoints:
        owner = _model_to_module.get(name, "")
        if owner == TIMM_MODULE:
            return
        raise RuntimeError(
            f"timm already has a model {name!r}, registered by {_model_entrypoints[name].__module__}; budgetnets does "
            "not overwrite it. Import only one of the two packages in a process."
        )

    def entry_point(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return create_fn(pretrained, **kwargs)

    # timm reads the model's name and module off the function.
    entry_point.__name__ = entry_point.__qualname__ = name
    entry_point.__module__ = TIMM_MODULE
    entry_point.__doc__ = f"Create {name}; see budgetnets.card({name!r})."
    register_model(entry_point)


def _create_variant(row: Variant, pretrained: bool, **kwargs: Any) -> nn.Module:
    for letter in ("N", *LETTERS):
        if letter in kwargs:
            raise TypeError(
                f"{row.name} has a fixed {letter}; build your own with budgetnets.build_resnet(N, B, C, ...)"
            )
    return _create(row.name, row.spec, pretrained, kwargs)


def _create_generic(pretrained: bool, **kwargs: Any) -> nn.Module:
    letters = {name: kwargs.pop(name) for name in ("N", *LETTERS) if name in kwargs}
    if not letters:
        letters = SMALL_DEFAULT
    max_params = kwargs.pop("max_params", None)
    options = {name: kwargs[name] for name in OPTIONS if name in kwargs}
    spec = ResNetSpec.from_dict(letters | options)
    if max_params is not None:
        check_budget(spec, max_params, kwargs.get("global_pool", "avg"))
    return _create(GENERIC_NAME, spec, pretrained, kwargs)


def _create(name: str, spec: ResNetSpec, pretrained: bool, kwargs: dict[str, Any]) -> nn.Module:
    """Build with timm's builder. Registered weights and files are read here and handed to it."""
    overlay = dict(kwargs.pop("pretrained_cfg_overlay", None) or {})
    pretrained_cfg = kwargs.pop("pretrained_cfg", None)
    local_files_only = kwargs.pop("local_files_only", False)
    given = _as_dict(pretrained_cfg) | overlay
    if kwargs.get("features_only"):
        _check_out_indices(kwargs.get("out_indices"), spec.num_layers + 1)
    weights = state = None
    if pretrained and (published := published_name(name, given)):
        weights, state = registered_state_dict(published, kwargs.get("cache_dir"), local_files_only)
    elif pretrained and given.get("file") and not given.get("state_dict") and given.get("source") != "hf-hub":
        state = read_file(name, given["file"])
    if state is not None:
        # timm copies a configuration, tensor by tensor. So this says only that there is a state dict, which the filter
        # hands over; a source would win over it.
        overlay |= {"state_dict": {"handed over": True}, "source": None}
    spec = spec.replace(
        **{key: kwargs[key] for key in OPTIONS if key in kwargs and key not in ("num_classes", "in_chans")}
    )
    if name == GENERIC_NAME and not isinstance(pretrained_cfg, dict):
        overlay = timm_config(spec) | overlay
    try:
        model = build_model_with_cfg(
            partial(_build_to_be_filled if weights else _build, spec),
            name,
            pretrained,
            pretrained_cfg=pretrained_cfg,  # type: ignore[arg-type]  # timm takes a tag or a PretrainedCfg too
            pretrained_cfg_overlay=overlay,
            pretrained_filter_fn=lambda found, model: check_foreign(found if state is None else state, model),
            feature_cfg={"out_indices": tuple(range(spec.num_layers + 1)), "flatten_sequential": True},
            **kwargs,
        )
    except SafetensorError as error:  # of a file that timm has from the Hub; its message names none
        raise WeightsIntegrity(
            f"{name}: {given.get('hf_hub_id')} has no intact safetensors file ({error}). Download it again."
        ) from error
    if name != GENERIC_NAME and isinstance(model, BudgetResNet):
        model._model_args = {}  # the name says it all
    config: Any = model.pretrained_cfg
    config.pop("state_dict", None)  # it was only handed over; a copy would go into every pickle
    drop_foreign_normalization(config, getattr(model, "in_chans", spec.in_chans))
    if given.get("source"):
        config["source"] = given["source"]
    if "input_size" in kwargs and "input_size" not in overlay:  # images come in the size that the network is built for
        channels = (config.get("input_size") or (3,))[0]  # the weights' own, from which timm adapted them
        config |= {"input_size": (channels, spec.input_size, spec.input_size), "pool_size": (spec.final_size,) * 2}
    names: Any = weights.classes if weights else None
    if pretrained and not weights and isinstance(pretrained_cfg, dict):  # hf-hub: and local-dir: bring their own
        names = pretrained_cfg.get("label_names")
    if isinstance(names, list | tuple) and isinstance(model, BudgetResNet) and len(names) == model.num_classes:
        model.class_names = tuple(names)
    return model


def _check_out_indices(indices: Any, num_maps: int) -> None:
    """Refuse maps that the network has not, for which timm has an IndexError without a message."""
    if indices is None:
        return
    try:
        wanted = list(indices)
    except TypeError:  # one integer: the last n
        wanted = list(range(-indices, 0))
    if not wanted or not all(-num_maps <= index < num_maps for index in wanted):
        raise ValueError(
            f"out_indices={indices!r}: the network's maps are 0 (after the stem) to {num_maps - 1}; give some of "
            f"these, or 1 to {num_maps} as one number for the last so many"
        )


def _as_dict(pretrained_cfg: Any) -> dict[str, Any]:
    """Return a configuration as a dictionary; timm takes a tag and a PretrainedCfg too."""
    if isinstance(pretrained_cfg, dict):
        return pretrained_cfg
    if pretrained_cfg is None or isinstance(pretrained_cfg, str):
        return {"tag": pretrained_cfg}
    return vars(pretrained_cfg)


def _build(spec: ResNetSpec, **kwargs: Any) -> BudgetResNet:
    placement = {key: kwargs.pop(key) for key in ("global_pool", "device", "dtype") if key in kwargs}
    return BudgetResNet(spec.replace(**kwargs), **placement)


class _Undrawn(TorchFunctionMode):
    """Lets modules allocate their weights without drawing them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "").endswith(("uniform_", "normal_")):  # of torch.nn.init and of tensors
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def _build_to_be_filled(spec: ResNetSpec, **kwargs: Any) -> BudgetResNet:
    """Build with storage that nothing is drawn for, which takes most of the time: registered weights fill all of it.

    The classifier alone is drawn, since it stays as it is where the caller wants other classes. `check_foreign` lets no
    state dict pass that leaves anything else out.
    """
    with _Undrawn():
        model = _build(spec, **kwargs)
    if isinstance(model.head, nn.Linear):
        model.head.reset_parameters()
    return model


def _config(row: Variant, weights: Weights | None) -> dict[str, Any]:
    config = timm_config(row.spec)
    if weights is None:
        return config
    return config | {
        "num_classes": len(weights.classes),
        "mean": weights.mean,
        "std": weights.std,
        "license": weights.license,
        "label_names": weights.classes,
        "hf_hub_id": hub_id(row, weights),
    }


def _configs() -> dict[str, Any]:
    configs: dict[str, Any] = {GENERIC_NAME: timm_config(ResNetSpec.from_dict(SMALL_DEFAULT))}
    for row in VARIANTS.values():
        for weights in row.weights or (None,):
            configs[f"{row.name}.{weights.tag}" if weights else row.name] = _config(row, weights)
    return configs


default_cfgs = generate_default_cfgs(_configs())
