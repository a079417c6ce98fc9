"""What the tests of exported files share: photographs, a small network, and a file's answers."""

import onnx
import onnxruntime
import small_network
import torch

from budgetnets import CIFAR10_MEAN, CIFAR10_STD
from budgetnets.quantization import generated_images

PHOTOS = generated_images(40, 3, 32)


def small(**options):
    torch.manual_seed(0)
    return small_network.small(**options)


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def logits(path, images):
    return torch.from_numpy(session(path).run(None, {"images": images.numpy()})[0])


def normalized(images):
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (CIFAR10_MEAN, CIFAR10_STD))
    return (images.float() / 255 - mean) / std


def close(found, expected):
    return (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def metadata(path):
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}
