"""The graph of a network, as torch exports it to ONNX, with the normalization inside and names that do not change."""

from __future__ import annotations

import logging
import math
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from .checks import first_line
from .network import BudgetResNet
from .preprocessing import statistics
from .quantization import generated_images

INPUT, OUTPUT = "images", "logits"
NORMALIZATION = ("cast", "mul", "sub")  # its operators in the file, a node of each; the last gives what conv0 takes
DEFAULT_OPSET = 20
_QUIET = threading.Lock()


class ExportError(RuntimeError):
    """The network cannot be written as ONNX, or the file does not compute what the network does."""


class WithNormalization(nn.Module):
    """A network in fp32 that takes its images as `export_onnx` offers them: uint8 from 0 to 255, or normalized."""

    scale: torch.Tensor
    offset: torch.Tensor

    def __init__(self, model: BudgetResNet, normalize: bool) -> None:
        super().__init__()
        self.model = model
        self.normalize = normalize
        self.size = (model.in_chans, model.spec.input_size if model.spec else 32)
        self.mean, self.std = _mean_and_std(model)
        half = (0.5,) * model.in_chans  # where nothing is known, for the images that the file is checked with
        mean, std = self.mean or half, self.std or half
        shape = (1, model.in_chans, 1, 1)
        # One multiplication and one subtraction: (x / 255 - mean) / std.
        self.register_buffer("scale", (1 / (255 * torch.tensor(std, dtype=torch.float64))).float().view(shape))
        self.register_buffer("offset", torch.tensor([m / s for m, s in zip(mean, std, strict=True)]).view(shape))

    def prepared(self, images: torch.Tensor) -> torch.Tensor:
        """Return uint8 images as the exported file takes them."""
        return images if self.normalize else images.float() * self.scale - self.offset

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.normalize:
            images = images.float() * self.scale - self.offset
        return self.model(images)


def _mean_and_std(model: BudgetResNet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std of each channel from the network's pretrained_cfg; two empty ones where it has none that fit.

    The configuration is the user's to change, and may lack them or have those of another number of channels.
    """
    config: Any = model.pretrained_cfg
    try:
        mean, std = statistics(config, model.in_chans).values()
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return (), ()
    fit = len(mean) == len(std) == model.in_chans and all(0 < value < math.inf for value in std)
    return (mean, std) if fit else ((), ())


def export_graph(net: WithNormalization, dynamic_batch: bool = True, opset: int = DEFAULT_OPSET) -> Any:
    """Return the network as an ONNX model whose tensors are named by operator and number: conv3, add1."""
    from onnx import shape_inference

    example = net.prepared(generated_images(2 if dynamic_batch else 1, *net.size))
    options: dict[str, Any] = {"input_names": [INPUT], "output_names": [OUTPUT], "opset_version": opset}
    if dynamic_batch:
        options["dynamic_shapes"] = {INPUT: {0: torch.export.Dim("batch")}}
    with quiet():
        try:
            program: Any = torch.onnx.export(net.eval(), (example,), dynamo=True, verbose=False, **options)
        except Exception as error:
            raise ExportError(f"torch's exporter refuses the network at opset {opset}: {first_line(error)}") from error
    graph = program.model_proto
    found = {entry.domain or "ai.onnx": entry.version for entry in graph.opset_import}.get("ai.onnx")
    if found != opset:
        raise ExportError(f"torch's exporter cannot write the network at opset {opset}; use {found}")
    del graph.metadata_props[:]
    _name_by_operator(graph.graph, {} if net.normalize else dict.fromkeys(NORMALIZATION, 1))
    return shape_inference.infer_shapes(graph)


def _name_by_operator(graph: Any, counts: dict[str, int]) -> None:
    """Name every node and the tensor that it gives by its operator and its number, whatever torch called them.

    So the ranges on a card fit the graph that another version of torch exports, and, with `counts` of the operators
    left out before it, a graph without normalization.
    """
    renamed: dict[str, str] = {}
    for node in graph.node:
        kind = node.op_type.lower()
        node.name = f"{kind}{counts.get(kind, 0)}"
        counts[kind] = counts.get(kind, 0) + 1
        del node.metadata_props[:]
        for i, output in enumerate(node.output):
            if output and output != OUTPUT:
                renamed[output] = node.name if i == 0 else f"{node.name}.{i}"
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = renamed.get(name, name)
    del graph.value_info[:]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter's and the quantizer's notes about their own insides to themselves.

    One thread at a time: what is switched off and on again here is the whole process's.
    """
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)
