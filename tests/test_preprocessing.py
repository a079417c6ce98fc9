"""Claims about `transforms`: modes that PIL alone would clip or refuse, and networks that do not take RGB."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import budgetnets
from budgetnets import CIFAR10_MEAN, CIFAR10_STD, build_resnet

BYTES = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
GREY = Image.fromarray(BYTES)


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_a_picture_of_16_bits_looks_like_the_same_in_8(mode):
    words = (BYTES.astype(np.uint16) * 257).astype(">u2" if mode == "I;16B" else "<u2")
    image = Image.frombytes(mode, GREY.size, words.tobytes())
    transform = budgetnets.transforms("resnet9_cifar")
    assert torch.equal(transform(image), transform(GREY))


@pytest.mark.parametrize("mode", ["La", "LAB", "YCbCr", "HSV", "I", "F", "PA"])
@pytest.mark.parametrize("in_chans", [1, 3])
def test_rarer_modes_are_converted_too(mode, in_chans):
    image = Image.new(mode, (40, 50))
    x = budgetnets.transforms(build_resnet(2, 1, 8, in_chans=in_chans))(image)
    assert x.shape == (in_chans, 32, 32)
    assert x.isfinite().all()


def test_a_picture_is_scaled_bilinearly_with_antialiasing():
    photo = Image.fromarray(np.random.default_rng(1).integers(0, 256, (96, 96, 3), dtype=np.uint8))
    smooth = torch.from_numpy(np.asarray(photo.resize((32, 32), Image.Resampling.BILINEAR)).copy()) / 255
    pixels = budgetnets.transforms("resnet9_cifar")(photo).permute(1, 2, 0)
    torch.testing.assert_close(pixels * torch.tensor(CIFAR10_STD) + torch.tensor(CIFAR10_MEAN), smooth)


@pytest.mark.parametrize(("mode", "value"), [("I", 256), ("F", -0.5)])
def test_pixels_of_32_bits_beyond_a_byte_are_refused_and_not_clipped(mode, value):
    with pytest.raises(ValueError, match=rf"mode '{mode}' has values from {value}.*; scale them to 0\.\.255"):
        budgetnets.transforms("resnet9_cifar")(Image.new(mode, (40, 50), value))


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_what_is_no_pil_image_is_refused(kind):
    with pytest.raises(TypeError, match="give a PIL image"):
        budgetnets.transforms("resnet9_cifar")(kind(BYTES))


@pytest.mark.parametrize(
    "model",
    [
        build_resnet(2, 1, 8, in_chans=1),
        budgetnets.create("resnet9_cifar", in_chans=1),
        timm.create_model("budget_resnet", in_chans=1, features_only=True),
    ],
    ids=["built", "variant", "features_only"],
)
def test_a_network_of_one_channel_sees_grey(model):
    x = budgetnets.transforms(model)(GREY.resize((32, 32)).convert("RGB"))
    pixels = torch.from_numpy(np.asarray(GREY.resize((32, 32))).copy()) / 255
    torch.testing.assert_close(x, ((pixels - np.mean(CIFAR10_MEAN)) / np.mean(CIFAR10_STD)).float()[None])
    model.eval()(x.unsqueeze(0))


def test_a_mean_of_one_channel_is_taken_as_it_is():
    model = build_resnet(2, 1, 8, in_chans=1)
    model.pretrained_cfg |= {"mean": (0.5,), "std": (0.25,)}
    x = budgetnets.transforms(model)(Image.new("L", (32, 32), 255))
    torch.testing.assert_close(x, torch.full((1, 32, 32), 2.0))


@pytest.mark.parametrize("in_chans", [2, 4])
def test_no_picture_has_another_number_of_channels(in_chans):
    with pytest.raises(ValueError, match=f"takes {in_chans} channels, a picture has 1 or 3"):
        budgetnets.transforms(build_resnet(2, 1, 8, in_chans=in_chans))


def test_timms_own_transform_takes_grey_pictures_for_a_network_of_one_channel():
    model = build_resnet(2, 1, 8, in_chans=1)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    torch.testing.assert_close(transform(GREY.resize((32, 32))), budgetnets.transforms(model)(GREY.resize((32, 32))))
