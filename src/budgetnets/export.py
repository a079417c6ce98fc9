"""export_onnx(): a network as one ONNX file, in fp32 or int8, checked against the network before it is left there."""

from __future__ import annotations

import json
import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .checks import integer
from .inference import own_copy
from .network import BudgetResNet
from .onnx_graph import DEFAULT_OPSET, INPUT, NORMALIZATION, ExportError, WithNormalization, export_graph, quiet
from .quantization import generated_images, measure_ranges, quantize, read_images, read_int8_card
from .registry import create
from .rows import CIFAR10_CLASSES, Variant, Weights
from .variants import find_variant, find_weights

FP32_TOLERANCE = 1e-4  # of the largest logit
INT8_TOLERANCE = 0.2  # the same, for a variant with its card; those bundled have 0.04 to 0.12
CHECKED_IMAGES = 64
OPSETS = range(18, 24)
HELD_OUT = 5  # every fifth calibration image is kept apart to measure the agreement
EXTRA = 'pip install "budgetnets[onnx]"'


@dataclass(frozen=True)
class ExportReport:
    """What `export_onnx` wrote and how it compares with the network in torch's fp32; `print` shows it.

    Attributes:
        path: the file.
        bytes: its size.
        int8: whether it is quantized.
        largest_difference: between the file's and the network's logits, as a share of the largest logit.
        compared_on: the images on which both were run for that.
        agreement: share of images, in percent, on which both give the same class; of a variant in int8, its card's.
        agreement_on: which images these were.
        top1: accuracy on CIFAR-10's test set in percent, as the variant's card has it; None for a custom network or
            with the user's own calibration.
    """

    path: Path
    bytes: int
    int8: bool
    largest_difference: float
    compared_on: str
    agreement: float
    agreement_on: str
    top1: float | None

    def __str__(self) -> str:
        listed = "" if self.top1 is None else f"; top-1 on CIFAR-10's test set {self.top1:.2f} %"
        return (
            f"{self.path}: {'int8' if self.int8 else 'fp32'}, {self.bytes:,} bytes; logits within "
            f"{100 * self.largest_difference:.2g} % of the largest on {self.compared_on}, the same class on "
            f"{self.agreement:.1f} % of {self.agreement_on}{listed}"
        )


def export_onnx(
    model_or_name: str | nn.Module,
    path: str | Path,
    *,
    int8: bool = False,
    calibration: Any = None,
    dynamic_batch: bool = True,
    normalize: bool = True,
    opset: int = DEFAULT_OPSET,
) -> ExportReport:
    """Write a network as an ONNX file, check the file against the network, and say how they compare.

    Args:
        model_or_name: a network of the family, or the name of a variant, a "local-dir:<folder>" or an
            "hf-hub:<org>/<name>", which means its pretrained weights.
        path: the file to write; it is replaced whole or not at all.
        int8: quantize, with ONNX Runtime's quantizer: uint8 activations, int8 weights with a scale per channel.
        calibration: images that show the range of each activation, for int8 alone: uint8 (n, in_chans, H, W) as an
            array or tensor, a folder of image files, or a loader. 16 to 1,024 are used, a fifth of them to measure the
            agreement. A variant that is named needs none: its card carries the ranges.
        dynamic_batch: take any number of images at a time; else exactly one.
        normalize: take uint8 images (B, in_chans, H, W), with the normalization inside the file; else normalized
            float images.
        opset: ONNX operator set, 18 to 23.

    Returns:
        The report. The file's metadata holds class names, spec, source, accuracy, mean and std.

    Raises:
        ImportError: the extra `budgetnets[onnx]` is not installed.
        TypeError, ValueError: arguments, calibration images or a network of a wrong kind.
        OSError: the file cannot be written.
        ExportError: the exporter refuses the network, its logits are not finite, or the file's logits differ by more
            than 1e-4 of the largest in fp32, 0.2 in int8 with a variant's card.
        WeightsError: a variant's weights cannot be had, or its card of ranges is damaged.
    """
    _require_extra()
    opset = integer("opset", opset, OPSETS[0], OPSETS[-1])
    if calibration is not None and not int8:
        raise ValueError("calibration is for int8; give int8=True (--int8) too, or leave the images out")
    path = Path(path)
    _check_writable(path)
    model, row, weights = _resolve(model_or_name)
    net = WithNormalization(model, normalize)
    if not net.mean and (normalize or int8):
        what = "int8" if int8 else "normalize=True"
        raise ValueError(
            f"{what} needs mean and std of the network's {model.in_chans} channels, and its pretrained_cfg has none "
            "that fit. Set model.pretrained_cfg['mean'] and ['std'], one number per channel and no std of 0, or write "
            "fp32 with normalize=False."
        )
    card = None
    if int8 and calibration is None:
        card = read_int8_card(row, weights) if row and weights else None
        if card is None:
            what = f"{row.name} has no activation ranges on its card" if row else "a custom network has no card"
            raise ValueError(f"int8 without calibration: {what}; give calibration=, some hundred images as uint8")
    images = None if calibration is None else read_images(calibration, *net.size)
    compared, compared_on = generated_images(CHECKED_IMAGES, *net.size), f"{CHECKED_IMAGES} generated images"
    if images is not None:
        compared = images[::HELD_OUT]
        compared_on = f"{len(compared)} held-out calibration images"
    taken = net.prepared(compared)
    with torch.inference_mode():
        expected = net.eval()(taken)
    if not expected.isfinite().all():
        raise ExportError(
            "the network's logits are not finite; nothing was written. Look for NaN or infinite values in its weights."
        )
    graph = export_graph(net, dynamic_batch, opset)
    if int8:
        if card:
            # Without normalization the file's input is what the normalization would give.
            ranges = {**card.ranges, INPUT: card.ranges[f"{NORMALIZATION[-1]}0"]}
            float_nodes = card.float_nodes
        else:
            assert images is not None  # int8 needs one or the other
            ranges = measure_ranges(graph, net.prepared(images[torch.arange(len(images)) % HELD_OUT != 0]))
            float_nodes = ()
        with quiet():
            graph = quantize(graph, ranges, float_nodes)
    top1 = None
    if weights and (card or not int8):
        top1 = card.top1 if card else weights.top1
    _add_metadata(graph, net, row, weights, int8, top1)
    content = graph.SerializeToString()
    difference, agreement = _compare(content, taken, expected, dynamic_batch)
    agreement_on = "these"
    if card:
        agreement, agreement_on = card.agreement, "the test images, as its card has it"
    if not math.isfinite(difference):
        raise ExportError("the file's logits are not finite; nothing was written. Please report this with the spec.")
    # With the user's own images the difference is reported and not judged: what is too much depends on the network.
    tolerance = INT8_TOLERANCE if card else math.inf if int8 else FP32_TOLERANCE
    if difference > tolerance:
        what = "this installation's card of ranges, or its ONNX Runtime" if card else "the network's spec"
        raise ExportError(
            f"the file's logits differ from the network's by {difference:.2g} of the largest logit, more than "
            f"{tolerance:g}; nothing was written. Please report this with {what}."
        )
    _write(path, content)
    return ExportReport(path, len(content), int8, difference, compared_on, agreement, agreement_on, top1)


def _require_extra() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"export_onnx needs {error.name}, which is not installed: {EXTRA}") from error


def _check_writable(path: Path) -> None:
    """Raise OSError now rather than after the export has been computed."""
    try:
        path.lstat()
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:  # a name too long, or with a NUL
        raise OSError(f"path={str(path)!r} cannot be written ({error}); choose another name") from error
    if path.is_dir():
        raise IsADirectoryError(f"path={str(path)!r} is a folder; give the file's name, such as {path / 'net.onnx'}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path={str(path)!r}: there is no folder {path.parent}; make it first")
    if path.exists() and not path.is_file():
        raise OSError(f"path={str(path)!r} is no file but a device or the like; give a file's name")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise OSError(f"path={str(path)!r} cannot be written ({error}); choose another folder") from error


def _resolve(model_or_name: str | nn.Module) -> tuple[BudgetResNet, Variant | None, Weights | None]:
    """Return a copy of the network in fp32 on the CPU, and what is known of it."""
    row = weights = None
    if isinstance(model_or_name, str):
        if ":" not in model_or_name:
            row, weights = find_variant(model_or_name), find_weights(model_or_name)
        model_or_name = create(model_or_name, pretrained=True)
    if not isinstance(model_or_name, BudgetResNet):
        raise TypeError(
            f"model_or_name is a {type(model_or_name).__name__}; give a variant's name, or a network made by "
            "budgetnets.create or build_resnet (not its features, an optimized or a compiled copy)"
        )
    return own_copy(model_or_name).eval().cpu().float(), row, weights


def _add_metadata(
    graph: Any, net: WithNormalization, row: Variant | None, weights: Weights | None, int8: bool, top1: float | None
) -> None:
    from . import __version__

    model = net.model
    classes = model.class_names or (CIFAR10_CLASSES if row and model.num_classes == len(CIFAR10_CLASSES) else None)
    source = f"{row.name}.{weights.tag}, sha256 {weights.sha256}" if row and weights else "a custom network"
    channels = {1: "grey", 3: "RGB"}.get(model.in_chans, f"{model.in_chans} channels")
    values = {
        "class_names": json.dumps(classes),
        "spec": json.dumps(model.spec.to_dict() if model.spec else None),
        "source": source,
        "top1": "unknown" if top1 is None else f"{top1:.2f} % on {weights.dataset if weights else ''}'s test set",
        "precision": "int8" if int8 else "fp32",
        "input": f"uint8 {channels}, 0 to 255" if net.normalize else f"float {channels}, (x / 255 - mean) / std",
        "mean": json.dumps(net.mean or None),
        "std": json.dumps(net.std or None),
    }
    graph.producer_name, graph.producer_version = "budgetnets", __version__
    for key, value in values.items():
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, value


def _compare(content: bytes, taken: torch.Tensor, expected: torch.Tensor, dynamic_batch: bool) -> tuple[float, float]:
    """Return the largest difference from the expected logits, relative to the largest, and the agreement in percent."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    batches = taken.split([1, len(taken) - 1] if dynamic_batch else 1)
    found = torch.cat([torch.from_numpy(session.run(None, {INPUT: batch.numpy()})[0]) for batch in batches])
    difference = (found - expected).abs().max() / expected.abs().max().clamp(min=1e-12)
    agreement = 100 * (found.argmax(1) == expected.argmax(1)).double().mean()
    return difference.item(), agreement.item()


def _write(path: Path, content: bytes) -> None:
    try:
        target = path.resolve()  # a link stays, and what it leads to is replaced
        # A folder, since a file that tempfile makes could be read by its owner alone.
        with tempfile.TemporaryDirectory(prefix=".export.", dir=target.parent) as folder:
            temporary = Path(folder) / "net.onnx"
            temporary.write_bytes(content)
            os.replace(temporary, target)
    except OSError as error:
        raise OSError(f"path={str(path)!r} cannot be written ({error}); nothing was left there") from error
