"""optimize_for_inference gives the same answers from fewer operations."""

import copy

import pytest
import timm
import torch
from family import specs
from hypothesis import given, settings
from PIL import Image

import budgetnets
from budgetnets import BudgetResNet, InferenceNet, build_resnet, optimize_for_inference

IMAGES = torch.randn(4, 3, 32, 32)


def trained(model):
    """The network with norms that do something: statistics and gains unlike those it starts with."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for value, low, high in (
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2.0),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.5, 0.5),
            ):
                value.copy_(low + (high - low) * torch.rand(value.shape, generator=generator))
    return model.eval()


@given(specs())
@settings(max_examples=30)
@torch.no_grad()
def test_any_network_of_the_family_gives_the_same_logits_in_fp32(spec):
    """To 1e-4, or to ten times fp32's own rounding: a norm over two channels that are nearly equal makes any large."""
    torch.manual_seed(0)
    model = trained(BudgetResNet(spec))
    images = torch.randn(2, spec.in_chans, spec.input_size, spec.input_size)
    exact = copy.deepcopy(model).double()(images.double())
    rounding = (model(images) - exact).abs().max()
    found = optimize_for_inference(model)(images)
    assert (found - exact).abs().max() <= 1e-4 * exact.abs().max().clamp(min=1e-3) + 10 * rounding


def test_no_batch_norm_is_left_and_the_original_is_untouched():
    model = trained(build_resnet(3, 1, [8, 16, 32], se="block"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fast = optimize_for_inference(model)
    assert not [m for m in fast.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert not any(p.requires_grad for p in fast.parameters())
    assert (fast.spec, fast.class_names) == (model.spec, model.class_names)
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_bf16_stays_within_a_few_hundredths_and_returns_fp32():
    model = trained(build_resnet(3, 1, [8, 16, 32]))
    fast = optimize_for_inference(model, torch.bfloat16)
    with torch.inference_mode():
        expected, found = model(IMAGES), fast(IMAGES)
    assert found.dtype == torch.float32
    assert 0 < (found - expected).abs().max() <= 0.05 * expected.abs().max()


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore:.*torch.jit.*:FutureWarning")
def test_a_copy_can_be_compiled_exported_and_optimized_again():
    model = trained(build_resnet(2, 1, [8, 16]))
    fast = optimize_for_inference(optimize_for_inference(model))
    with torch.inference_mode():
        expected = model(IMAGES)
        torch.testing.assert_close(torch.export.export(fast, (IMAGES,)).module()(IMAGES), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(torch.compile(fast)(IMAGES), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(torch.jit.trace(fast, IMAGES)(IMAGES), expected, rtol=0, atol=1e-5)


def test_what_is_wrong_is_said():
    model = build_resnet(1, 1, 8)
    with pytest.raises(ValueError, match=r"torch.float16 is not offered; use one of torch.float32, torch.bfloat16"):
        optimize_for_inference(model, torch.float16)
    fast = optimize_for_inference(model)
    with pytest.raises(RuntimeError, match="cannot be trained; train the original"):
        fast.train()
    with pytest.raises(TypeError, match="normalized floats"):
        fast(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    assert isinstance(fast.eval(), InferenceNet)


@pytest.mark.parametrize(
    "other",
    [
        lambda: "resnet9_cifar",
        lambda: timm.create_model("resnetv2_18"),  # its norms come before its convolutions
        lambda: budgetnets.create("seresnet20_cifar", features_only=True),
        lambda: torch.compile(build_resnet(1, 1, 8)),
    ],
)
def test_only_a_network_of_the_family_is_taken(other):
    with pytest.raises(TypeError, match=r"it must be a network made by .* \(not its features, a compiled copy or"):
        optimize_for_inference(other())


def test_a_parametrized_network_is_told_how_to_make_its_weights_final():
    model = trained(build_resnet(1, 1, 8))
    torch.nn.utils.parametrizations.weight_norm(model.stem.conv)
    with pytest.raises(ValueError, match=r"stem.conv is parametrized: .*\.parametrize\.remove_parametrizations"):
        optimize_for_inference(model)
    torch.nn.utils.parametrize.remove_parametrizations(model.stem.conv, "weight")
    assert optimize_for_inference(model)(IMAGES).shape == (4, 10)


def test_a_network_that_accelerate_prepared_is_copied_without_its_mixed_precision(tmp_path):
    accelerate = pytest.importorskip("accelerate", reason="pip install 'budgetnets[train]'")
    model = trained(build_resnet(2, 1, [8, 16]))
    expected = model(IMAGES)
    accelerate.Accelerator(mixed_precision="bf16", cpu=True).prepare(model)
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)  # the precision is held for the process
    assert not torch.equal(model(IMAGES), expected)  # in bf16
    torch.testing.assert_close(optimize_for_inference(model)(IMAGES), expected, rtol=0, atol=1e-5)
    budgetnets.save_pretrained(model, tmp_path)
    assert torch.equal(budgetnets.create(f"local-dir:{tmp_path}", pretrained=True)(IMAGES), expected)


def test_norms_that_depend_on_the_image_stay():
    fast = optimize_for_inference(build_resnet(1, 1, 32, norm="groupnorm"))
    assert any("norm" in type(m).__name__.lower() for m in fast.modules())


def test_a_variant_by_its_name_is_not_needed_to_know_its_classes():
    fast = optimize_for_inference(budgetnets.create("resnet18_slim_cifar"))
    assert fast(IMAGES).shape == (4, 10)


def test_an_optimized_network_of_one_channel_keeps_its_transform():
    model = budgetnets.create("budget_resnet", N=2, B=1, C=8, in_chans=1, num_classes=3).eval()
    fast = budgetnets.optimize_for_inference(model)
    image = budgetnets.transforms(fast)(Image.new("RGB", (32, 32), "red"))
    assert fast(image[None]).shape == (1, 3)
