"""How long networks take for one image on this machine, in PyTorch or as exported files, alone or side by side."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from .checks import integer
from .network import BudgetResNet
from .spec import ResNetSpec
from .variants import GIVE_NETWORK, find_variant

MOST_ROUNDS = 1_000_000
ONNX_SUFFIX = ".onnx"  # in lower or upper case


class Latency(NamedTuple):
    """What one network took beside others.

    Attributes:
        milliseconds: for one image, the median of the rounds.
        speedup: how many times faster than the first network, the median of the rounds' ratios.
    """

    milliseconds: float
    speedup: float


def measure_latency(
    network: nn.Module | ResNetSpec | str | Path,
    *,
    image: torch.Tensor | None = None,
    rounds: int = 20,
    warmup: int = 3,
) -> float:
    """Return the milliseconds that a network takes for one image, as it is and where it is.

    A round is a pair of runs, of which the faster counts, since what else the machine does only ever adds time; the
    result is the median of the rounds. The number of threads is PyTorch's (`torch.set_num_threads`), also for a file.

    Args:
        network: a model, on any device; a spec or a variant's name, which is built with random weights on the CPU; or
            the path of an ONNX file, which ONNX Runtime runs on the CPU.
        image: what the model is given; by default one random image of its spec's channels and size, or of the file's.
        rounds: pairs of runs, 1 or more.
        warmup: runs before the first, which are not counted, 0 or more.

    Raises:
        TypeError: no network, an image that is no tensor, or a model without a spec and no image.
        ValueError: an unknown name, a number out of range, a file that ONNX Runtime does not take, or an image that the
            file does not take.
        FileNotFoundError: no file at that path.
        ImportError: a file, and ONNX Runtime is not installed.
    """
    return compare_latency(network, image=image, rounds=rounds, warmup=warmup)[0].milliseconds


@torch.inference_mode()
def compare_latency(
    *networks: nn.Module | ResNetSpec | str | Path,
    image: torch.Tensor | None = None,
    rounds: int = 20,
    warmup: int = 3,
) -> list[Latency]:
    """Return what each of several networks takes for one image, and how much faster that is than the first.

    They take turns within each round, so that what else the machine does slows all of them alike.

    Args:
        *networks, image, rounds, warmup: as `measure_latency`; an image is given to all of them.

    Raises:
        TypeError, ValueError, FileNotFoundError, ImportError: as `measure_latency`, or no network at all.
    """
    rounds = integer("rounds", rounds, 1, MOST_ROUNDS)
    warmup = integer("warmup", warmup, 0, MOST_ROUNDS)
    if not networks:
        raise TypeError("no network is given; give one or more models, specs, variants' names or ONNX files")
    if image is not None and not isinstance(image, torch.Tensor):
        raise TypeError(f"image is a {type(image).__name__}; give a tensor as the model takes it, (1, 3, 32, 32)")
    with contextlib.ExitStack() as stack:
        runs = [stack.enter_context(_runner(network, image)) for network in networks]
        for run in runs:
            for _ in range(warmup):
                run()
        taken = [[min(_seconds(run), _seconds(run)) for run in runs] for _ in range(rounds)]
    return [
        Latency(
            1000 * statistics.median(seconds[i] for seconds in taken),
            statistics.median(seconds[0] / seconds[i] for seconds in taken),
        )
        for i in range(len(networks))
    ]


@contextlib.contextmanager
def _runner(network: Any, image: torch.Tensor | None) -> Iterator[Callable[[], object]]:
    """Give what runs the network once; afterwards the network is as it was."""
    if isinstance(network, Path) or (isinstance(network, str) and network.lower().endswith(ONNX_SUFFIX)):
        yield _file_runner(Path(network), image)
        return
    model = _built(network)
    weight = next(model.parameters(), torch.empty(0))
    taken = _random_image(model).to(weight.device, weight.dtype) if image is None else image
    accelerator = torch.accelerator.current_accelerator()

    def run() -> None:
        model(taken)
        if accelerator and taken.device.type == accelerator.type:
            torch.accelerator.synchronize(taken.device)  # the call returns before the accelerator is done

    modules = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield run
    finally:
        for module, training in modules.items():
            module.training = training


def _file_runner(path: Path, image: torch.Tensor | None) -> Callable[[], object]:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            f'{path} needs {error.name}, which is not installed: pip install "budgetnets[onnx]"'
        ) from error
    if not path.is_file():
        raise FileNotFoundError(f"network={str(path)!r}: there is no such file; budgetnets.export_onnx writes one")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has many, of no common kind
        raise ValueError(f"network={str(path)!r} is no file that ONNX Runtime takes ({error})") from error
    taken = session.get_inputs()[0]
    if image is None:
        shape = [size if isinstance(size, int) else 1 for size in taken.shape]
        values = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        image = (255 * values).byte() if taken.type == "tensor(uint8)" else values
    feed = {taken.name: image.numpy(force=True)}
    try:
        session.run(None, feed)
    except Exception as error:
        raise ValueError(
            f"network={str(path)!r} takes {taken.type} of shape {taken.shape}, the image is {image.dtype} of "
            f"{list(image.shape)} ({error})"
        ) from error
    return lambda: session.run(None, feed)


def _built(network: Any) -> nn.Module:
    if isinstance(network, nn.Module):
        return network
    spec = find_variant(network, GIVE_NETWORK).spec if isinstance(network, str) else network
    if not isinstance(spec, ResNetSpec):
        raise TypeError(f"network={network!r} must be a model, a ResNetSpec, a variant's name or an ONNX file's path")
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
        return BudgetResNet(spec)


def _random_image(model: nn.Module) -> torch.Tensor:
    spec = getattr(model, "spec", None)
    if not isinstance(spec, ResNetSpec):
        raise TypeError(f"{type(model).__name__} has no spec to tell its image; give image=torch.randn(1, 3, 32, 32)")
    shape = (1, spec.in_chans, spec.input_size, spec.input_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
