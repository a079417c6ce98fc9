"""budgetnets: a zoo of residual networks for small images under a parameter budget.

`import budgetnets` registers every variant with timm. See README.md and the documentation.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .blocks import BasicBlock, Bottleneck, GridPool, SqueezeExcite, make_skip
from .cards import Card, card
from .counts import count_macs, count_memory, count_params
from .network import BudgetResNet, build_resnet
from .registry import create, list_models, register_all
from .registry import default_cfgs as default_cfgs  # timm looks for it here when a model is registered
from .rows import CIFAR10_CLASSES, CIFAR10_MEAN, CIFAR10_STD
from .spec import ResNetSpec
from .state import WeightsError, WeightsIntegrity, WeightsMismatch, WeightsUnavailable

if TYPE_CHECKING:
    from .export import ExportError, ExportReport, export_onnx
    from .inference import InferenceNet, optimize_for_inference
    from .latency import Latency, compare_latency, measure_latency
    from .preprocessing import transforms
    from .publish import push_to_hub, release, save_pretrained
    from .search_results import SearchResult, SearchResults
    from .searching import search
    from .verification import Verification, verify

__version__ = "0.1.0"

register_all()  # timm appends to __all__ as it registers, so the public names are listed after it

# What is done with a network, by module. It takes half of the package's import, and a program needs little of it.
_LATER = {
    "export": ("ExportError", "ExportReport", "export_onnx"),
    "inference": ("InferenceNet", "optimize_for_inference"),
    "latency": ("Latency", "compare_latency", "measure_latency"),
    "preprocessing": ("transforms",),
    "publish": ("push_to_hub", "release", "save_pretrained"),
    "search_results": ("SearchResult", "SearchResults"),
    "searching": ("search",),
    "verification": ("Verification", "verify"),
}
_MODULE_OF = {name: module for module, names in _LATER.items() for name in names}


if not TYPE_CHECKING:  # to which every name would be there

    def __getattr__(name: str) -> Any:
        """Import the module of a name when it is first asked for."""
        if name in _LATER:
            return importlib.import_module(f".{name}", __name__)
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})


__all__ = [
    "CIFAR10_CLASSES",
    "CIFAR10_MEAN",
    "CIFAR10_STD",
    "BasicBlock",
    "Bottleneck",
    "BudgetResNet",
    "Card",
    "ExportError",
    "ExportReport",
    "GridPool",
    "InferenceNet",
    "Latency",
    "ResNetSpec",
    "SearchResult",
    "SearchResults",
    "SqueezeExcite",
    "Verification",
    "WeightsError",
    "WeightsIntegrity",
    "WeightsMismatch",
    "WeightsUnavailable",
    "build_resnet",
    "card",
    "compare_latency",
    "count_macs",
    "count_memory",
    "count_params",
    "create",
    "export_onnx",
    "list_models",
    "make_skip",
    "measure_latency",
    "optimize_for_inference",
    "push_to_hub",
    "release",
    "save_pretrained",
    "search",
    "transforms",
    "verify",
]
