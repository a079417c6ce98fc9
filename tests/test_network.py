"""The network computes what the reports say, on images of any size, and says what it cannot take."""

import numpy as np
import pytest
import timm
import torch
from family import specs
from hypothesis import given, settings
from PIL import Image
from small_network import IMAGES, drop_path_rates, small
from torch import nn

from budgetnets import (
    BasicBlock,
    Bottleneck,
    BudgetResNet,
    GridPool,
    ResNetSpec,
    SqueezeExcite,
    build_resnet,
    make_skip,
    optimize_for_inference,
)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # said by flags(), which restores what it found
@given(specs())
@settings(max_examples=40)
def test_any_network_of_the_family_runs_and_learns(spec):
    model = BudgetResNet(spec).eval()
    x = torch.randn(2, spec.in_chans, spec.input_size, spec.input_size)
    # oneDNN 3.13 (torch 2.15) writes past its buffers on processors without AVX-512, in the backward pass of a 1x1
    # convolution of stride 2 with fewer than 8 input channels in channels-last layout, as layernorm2d leaves them.
    with torch.backends.mkldnn.flags(enabled=False):
        features = model.forward_features(x)
        assert features.shape == (2, spec.num_features, spec.final_size, spec.final_size)
        out = model(x)
        assert out.shape == (2, spec.num_classes or spec.num_features * spec.grid**2)
        out.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(("p", "grid"), [(8, 1), (4, 2), (2, 4), (1, 8)])
def test_the_pool_is_the_reports_average_pool_and_flattens_its_grid(p, grid):
    model = small(P=p)
    features = model.forward_features(IMAGES)
    pooled = nn.functional.avg_pool2d(features, p, p).flatten(1)
    assert pooled.shape[1] == 16 * grid**2 == model.head_hidden_size
    # torch takes the mean of a whole map in another order than its average pool does; a grid is equal bit for bit.
    exact = {"rtol": 0, "atol": 0} if grid > 1 else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(model.forward_head(features, pre_logits=True), pooled, **exact)
    torch.testing.assert_close(model(IMAGES), model.head(pooled), **exact)


@pytest.mark.parametrize("p", [8, 2, 1])
@pytest.mark.parametrize("size", [24, 32, 40, 33, 7])
def test_other_image_sizes_work_whatever_the_pool(p, size):
    assert small(P=p)(torch.randn(2, 3, size, size + 1)).shape == (2, 10)


BAD_IMAGES = [
    (torch.zeros(3, 32, 32), ValueError, "add the batch dimension"),
    (torch.zeros(2, 32, 32, 3), ValueError, r"images.permute\(0, 3, 1, 2\)"),
    (torch.zeros(2, 1, 32, 32), ValueError, "in_chans=1"),
    (torch.zeros(3072), ValueError, "give .batch, 3, height, width."),
    (torch.zeros(2, 3, 32, 32, dtype=torch.uint8), TypeError, "normalized floats"),
    (torch.zeros(2, 3, 32, 32, dtype=torch.int64), TypeError, "torch.int64"),
    (np.zeros((2, 3, 32, 32), "float32"), TypeError, "are of type ndarray; give a tensor"),
    (
        Image.new("RGB", (32, 32)),
        TypeError,
        r"are of type Image; .* budgetnets.transforms\(name\)\(image\)",
    ),
]


@pytest.mark.parametrize(("images", "error", "message"), BAD_IMAGES)
def test_images_of_another_kind_get_a_clear_error(images, error, message):
    features = timm.create_model("budget_resnet", features_only=True, feature_cls="getter")
    for model in (small(), features, optimize_for_inference(small())):
        with pytest.raises(error, match=message):
            model(images)


def test_what_the_reports_say_of_the_blocks():
    x = torch.randn(2, 8, 9, 9)
    block = BasicBlock(8, 12, stride=2, kernel_size=5, skip_kernel_size=3).eval()
    main = block.norm2(block.conv2(torch.relu(block.norm1(block.conv1(x)))))
    assert torch.equal(block(x), torch.relu(main + block.skip(x)))  # R0's formula: ReLU(S(x) + F(x))
    assert block.conv1.kernel_size == (5, 5)
    assert block.skip.conv.kernel_size == (3, 3)
    assert block.skip.conv.padding == (1, 1)
    assert block(x).shape == (2, 12, 5, 5)
    assert Bottleneck(8, 4, stride=2)(x).shape == (2, 16, 5, 5)
    assert isinstance(make_skip(8, 8, 1, kernel_size=9), nn.Identity)  # K has no effect on an identity
    assert make_skip(8, 8, 2, kernel_size=9)(x).shape == (2, 8, 5, 5)


@pytest.mark.parametrize(("width", "reduction", "squeeze"), [(64, 16, 4), (20, 16, 1), (8, 16, 1), (100, 16, 6)])
def test_the_squeeze_is_not_rounded_and_at_least_one(width, reduction, squeeze):
    se = SqueezeExcite(width, reduction, bias=False)
    assert se.fc1.out_channels == squeeze
    assert sum(p.numel() for p in se.parameters()) == 2 * width * squeeze
    x = torch.randn(2, width, 4, 4)
    gate = torch.sigmoid(se.fc2(torch.relu(se.fc1(x.mean((2, 3), keepdim=True)))))
    assert torch.equal(se(x), x * gate)


def test_the_stems_squeeze_and_excitation_stands_after_its_relu():
    model = build_resnet(2, 1, 16, se="stem").eval()
    stem = model.stem
    assert torch.equal(stem(IMAGES), stem.se(torch.relu(stem.norm(stem.conv(IMAGES)))))
    assert not any("se.fc1" in name for name in model.stages.state_dict())


def test_a_blocks_squeeze_and_excitation_stands_before_the_addition():
    block = BasicBlock(8, 8, se_reduction=4).eval()
    x = torch.randn(2, 8, 6, 6)
    main = block.se(block.norm2(block.conv2(torch.relu(block.norm1(block.conv1(x))))))
    assert torch.equal(block(x), torch.relu(main + x))


def test_stochastic_depth_leaves_out_what_the_squeeze_and_excitation_made():
    block = BasicBlock(8, 8, se_reduction=4, drop_path=0.5).train()
    squeezed = []
    block.se.register_forward_pre_hook(lambda _, given: squeezed.append(given[0]))
    block.norm2.register_forward_hook(lambda _, __, y: squeezed.append(y.clone()))
    block(torch.randn(16, 8, 6, 6))
    assert torch.equal(*squeezed)


def test_dropout_stands_where_the_options_say():
    model = build_resnet(2, 2, 8, drop_rate=0.3, block_drop_rate=0.2, drop_path_rate=0.5)
    assert model.head_drop.p == 0.3
    assert [block.drop.p for stage in model.stages for block in stage] == [0.2] * 4
    assert drop_path_rates(model) == pytest.approx([0, 0.5 / 3, 1 / 3, 0.5])
    block = BasicBlock(8, 8, drop=1.0).train()
    assert not block(torch.randn(2, 8, 4, 4)).any()  # after the final activation nothing is left


@pytest.mark.parametrize(
    ("init", "conv_std", "head_std"),
    [
        ("he", (2 / (9 * 64)) ** 0.5, (2 / (64 + 10)) ** 0.5),
        ("xavier", (2 / (9 * 128)) ** 0.5, (2 / (64 + 10)) ** 0.5),
        ("normal", 0.01, 0.01),
    ],
)
def test_initializations_have_the_spread_they_promise(init, conv_std, head_std):
    model = build_resnet(2, 2, 64, init=init)
    assert model.stages[0][0].conv1.weight.std().item() == pytest.approx(conv_std, rel=0.02)
    assert model.head.weight.std().item() == pytest.approx(head_std, rel=0.1)
    assert not model.head.bias.any()
    assert (model.stages[0][0].norm1.weight == 1).all()


@pytest.mark.parametrize("init", ["default", "he", "xavier", "normal"])
def test_a_network_whose_storage_was_just_allocated_is_initialized_like_any(init):
    with torch.device("meta"):
        allocated = build_resnet(2, 2, 64, se="block", init=init)
    allocated = allocated.to_empty(device="cpu")
    for tensor in allocated.state_dict().values():
        tensor.fill_(7)
    allocated.init_weights()
    usual = build_resnet(2, 2, 64, se="block", init=init).state_dict()
    for name, tensor in allocated.state_dict().items():
        if "norm" in name:
            assert torch.equal(tensor, usual[name]), name
        elif tensor.numel() > 500:  # fewer values drawn tell little
            assert tensor.std().item() == pytest.approx(usual[name].std().item(), rel=0.15), name
            assert abs(tensor.mean()) < 0.2 * tensor.std(), name


def test_the_default_initialization_is_pytorchs():
    torch.manual_seed(5)
    model = build_resnet(1, 1, 8)
    torch.manual_seed(5)
    assert torch.equal(model.stem.conv.weight, nn.Conv2d(3, 8, 3, padding=1, bias=False).weight)


@pytest.mark.parametrize("pool", ["avg", "max", "avgmax", "catavgmax"])
@pytest.mark.parametrize("p", [8, 4])
def test_every_pool_works_with_every_grid(pool, p):
    model = BudgetResNet(ResNetSpec.from_letters(3, 1, 8, P=p), global_pool=pool).eval()
    assert model(IMAGES).shape == (2, 10)
    assert model.head.in_features == 8 * (8 // p) ** 2 * (2 if pool == "catavgmax" else 1)
    assert GridPool(2, pool)(torch.randn(1, 3, 8, 8)).shape[1] == GridPool(2, pool).feat_mult() * 3


@pytest.mark.parametrize("spec", ["resnet9_cifar", {"N": 1, "B": 1, "C": 8}, None])
def test_what_is_no_spec_is_answered_with_what_takes_it(spec):
    with pytest.raises(TypeError, match=r"must be a ResNetSpec; budgetnets.create .* build_resnet .*from_dict"):
        BudgetResNet(spec)
