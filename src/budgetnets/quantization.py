"""int8: the activations' ranges, from the user's images or from a variant's card, and ONNX Runtime's quantizer."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .preprocessing import as_mode
from .rows import Variant, Weights
from .state import WeightsIntegrity
from .weights import bundled_path

FEWEST_IMAGES = 16
MOST_IMAGES = 1024  # more change the ranges no further
IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
QUANTIZED = ("Conv", "Add", "Mul", "Gemm", "Relu", "GlobalAveragePool")  # where a network spends its time
MEASURED = (*QUANTIZED, "ReduceMean")  # which may become a GlobalAveragePool
REMEDY = "give uint8 images (n, {c}, {s}, {s}), 0 to 255 and not normalized, a folder of image files, or a loader"


@dataclass(frozen=True)
class Int8Card:
    """What was found when a variant's weights were quantized, from `<variant>.<tag>.int8.json` beside its weights.

    Attributes:
        ranges: least and largest value of each quantized tensor of the exported graph, by the tensor's name there.
        float_nodes: nodes that stay in fp32, because quantizing them costs accuracy.
        top1: accuracy of the int8 file on CIFAR-10's test set in percent.
        agreement: share of the test images, in percent, on which it gives the fp32 network's answer.
        provenance: with which images and where this was measured.
    """

    ranges: Mapping[str, tuple[float, float]]
    float_nodes: tuple[str, ...]
    top1: float
    agreement: float
    provenance: str


def int8_card_path(row: Variant, weights: Weights) -> Path:
    """Return where a variant's int8 card lies, whether or not it is there."""
    return bundled_path(row, weights).with_suffix(".int8.json")


def read_int8_card(row: Variant, weights: Weights) -> Int8Card | None:
    """Return the int8 card of a variant's weights, or None where there is none.

    Raises:
        WeightsIntegrity: the card's file is damaged.
    """
    path = int8_card_path(row, weights)
    if not path.exists():
        return None
    try:
        card = json.loads(path.read_text())
        ranges = {name: (float(low), float(high)) for name, (low, high) in card["ranges"].items()}
        return Int8Card(ranges, tuple(card["float_nodes"]), card["top1"], card["agreement"], card["provenance"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise WeightsIntegrity(
            f"{path} is damaged ({type(error).__name__}: {error}). Reinstall it: "
            "pip install --force-reinstall --no-deps budgetnets"
        ) from error


def read_images(source: Any, in_chans: int, size: int) -> torch.Tensor:
    """Return calibration images as uint8 (n, in_chans, size, size), at most 1,024 of them.

    Args:
        source: an array or tensor of that kind, a folder of image files, or an iterable of batches, of images alone or
            of (images, labels).

    Raises:
        TypeError, ValueError, FileNotFoundError: anything else, or fewer than 16 images.
    """
    remedy = REMEDY.format(c=in_chans, s=size)
    if isinstance(source, str | Path) and str(source):
        images = _read_folder(Path(source), in_chans, size)
    elif isinstance(source, torch.Tensor) or hasattr(source, "__array_interface__"):
        images = _checked(source, in_chans, size, remedy)
    elif isinstance(source, Iterable) and not isinstance(source, Mapping | str):
        batches, n = [], 0
        for batch in source:
            images = batch[0] if isinstance(batch, tuple | list) and batch else batch
            batches.append(_checked(images, in_chans, size, remedy))
            n += len(batches[-1])
            if n >= MOST_IMAGES:
                break
        images = torch.cat(batches) if batches else torch.empty(0, in_chans, size, size, dtype=torch.uint8)
    else:
        found = "an empty string" if source == "" else f"a {type(source).__name__}"
        raise TypeError(f"calibration is {found}; {remedy}")
    if len(images) < FEWEST_IMAGES:
        raise ValueError(f"calibration has {len(images)} images; give at least {FEWEST_IMAGES}, better some hundreds")
    return images[:MOST_IMAGES]


def _checked(images: Any, in_chans: int, size: int, remedy: str) -> torch.Tensor:
    dtype = getattr(images, "dtype", None)
    if dtype is None:  # a list or a picture
        raise TypeError(f"calibration holds a {type(images).__name__}; {remedy}")
    if str(dtype).removeprefix("torch.") != "uint8":
        raise TypeError(f"calibration has dtype {dtype}; {remedy}")
    if tuple(images.shape[1:]) != (in_chans, size, size):
        layout = "; the channels are last, permute(0, 3, 1, 2) them" if tuple(images.shape[-1:]) == (in_chans,) else ""
        raise ValueError(f"calibration has shape {list(images.shape)}; {remedy}{layout}")
    if not isinstance(images, torch.Tensor):  # torch takes no array that is flipped or read-only, so it gets a copy
        images = torch.from_numpy(np.array(images[:MOST_IMAGES]))
    return images.detach().cpu()


def _read_folder(folder: Path, in_chans: int, size: int) -> torch.Tensor:
    from PIL import Image  # heavy: not at import
    from torchvision.transforms import v2

    if not folder.is_dir():
        raise FileNotFoundError(f"calibration={str(folder)!r} is not a folder; give one that holds image files")
    if in_chans not in (1, 3):
        raise ValueError(f"image files have 1 or 3 channels, the network takes {in_chans}; give the images as an array")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise ValueError(f"calibration={str(folder)!r} holds no image ({', '.join(IMAGE_SUFFIXES)})")
    # Evenly from all of them, so that a folder sorted by class gives every class.
    files = files[:: -(-len(files) // MOST_IMAGES)]
    to_size = v2.Compose([v2.Resize(size, antialias=True), v2.CenterCrop(size), v2.PILToTensor()])
    images = []
    for path in files:
        try:
            with Image.open(path) as image:
                images.append(to_size(as_mode(image, "L" if in_chans == 1 else "RGB")))
        except Exception as error:  # a decoder may raise anything on damaged bytes
            raise ValueError(
                f"calibration: {path} cannot be read as an image ({error}); repair it or take it out of the folder"
            ) from error
    return torch.stack(images)


def generated_images(n: int, in_chans: int, size: int) -> torch.Tensor:
    """Return smooth random colour fields with some noise, uint8 (n, in_chans, size, size): always the same."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, in_chans, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=True)
    noise = 0.1 * torch.randn(n, in_chans, size, size, generator=generator)
    return ((smooth + noise).clamp(0, 1) * 255).round().to(torch.uint8)


def measure_ranges(graph: Any, images: torch.Tensor) -> dict[str, tuple[float, float]]:
    """Return the least and largest value of each activation over images as an ONNX graph takes them, input first."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod, create_calibrator

    with tempfile.TemporaryDirectory(prefix="budgetnets") as folder:
        model, augmented = Path(folder) / "fp32.onnx", Path(folder) / "augmented.onnx"
        onnx.save(graph, str(model))
        calibrator = create_calibrator(
            model, list(MEASURED), augmented_model_path=str(augmented), calibrate_method=CalibrationMethod.MinMax
        )
        reader: Any = _Reader(graph.graph.input[0].name, images)  # the quantizer asks for get_next alone
        calibrator.collect_data(reader)
        data = calibrator.compute_data().data
    in_order = [graph.graph.input[0].name, *(output for node in graph.graph.node for output in node.output)]
    assert data.keys() <= set(in_order)  # every one is a tensor of the graph
    return {name: tuple(end.item() for end in data[name].range_value) for name in in_order if name in data}


def quantize(graph: Any, ranges: Mapping[str, tuple[float, float]], float_nodes: Sequence[str] = ()) -> Any:
    """Return an ONNX graph with int8 weights, a scale for each channel, and uint8 activations of the given ranges.

    Args:
        graph: in fp32, with nodes and tensors named as `export_onnx` names them.
        ranges: from `measure_ranges`, or from a card.
        float_nodes: nodes to leave in fp32, besides the normalization before the first convolution.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import TensorData, TensorsData, save_tensors_data

    graph, ranges = _with_integer_means(graph, ranges)
    names = [node.name for node in graph.graph.node]
    before = names[: names.index("conv0")]
    data: dict[str, Any] = {
        n: TensorData(lowest=np.float32(low), highest=np.float32(high)) for n, (low, high) in ranges.items()
    }
    with tempfile.TemporaryDirectory(prefix="budgetnets") as folder:
        cache, target = Path(folder) / "ranges.json", Path(folder) / "int8.onnx"
        save_tensors_data(TensorsData(CalibrationMethod.MinMax, data), cache)
        quantize_static(
            graph,
            target,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            nodes_to_exclude=[*before, *float_nodes],
            per_channel=True,
            reduce_range=True,  # 7-bit weights: processors without VNNI add two products in 16 bits, which saturate
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            calibration_cache_path=cache,
        )
        return onnx.load(str(target))


def _with_integer_means(graph: Any, ranges: Mapping[str, tuple[float, float]]) -> tuple[Any, dict[str, Any]]:
    """Return an ONNX graph whose means over whole maps are GlobalAveragePool, and the ranges with those of its means.

    ONNX Runtime computes that operator in integers. Around a ReduceMean it converts whole maps to floats, which takes a
    sixth of the time of a network with squeeze-and-excitation.
    """
    import onnx

    changed, known = onnx.ModelProto(), dict(ranges)
    changed.CopyFrom(graph)
    nodes, constants = changed.graph.node, changed.graph.initializer
    for node in nodes:  # the classifier's mean is reshaped, and the ranges have what that gives
        if node.op_type == "Reshape" and node.output[0] in ranges:
            known.setdefault(node.input[0], ranges[node.output[0]])
    values = {constant.name: onnx.numpy_helper.to_array(constant) for constant in constants if constant.dims == [2]}
    over_maps = {name for name, axes in values.items() if sorted(axes % 4) == [2, 3]}  # of (B, C, H, W)
    for node in nodes:
        ends = (node.input[0], node.output[0])
        if node.op_type == "ReduceMean" and node.input[-1] in over_maps and known.keys() >= set(ends):
            node.op_type = "GlobalAveragePool"
            del node.input[1:], node.attribute[:]
    used = {name for node in nodes for name in node.input}
    for constant in [constant for constant in constants if constant.name not in used]:
        constants.remove(constant)
    return changed, known


class _Reader:
    """Calibration images one at a time, as ONNX Runtime asks for them."""

    def __init__(self, name: str, images: torch.Tensor) -> None:
        self.name = name
        self.batches = iter(images.split(1))

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self.batches, None)
        return None if batch is None else {self.name: batch.numpy()}
