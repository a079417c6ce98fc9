"""The network keeps timm's interface and gives the same answers, whatever timm and torch make of it."""

import copy
import io
import pickle

import pytest
import timm
import torch
from small_network import IMAGES, drop_path_rates, small
from timm.optim import param_groups_layer_decay

import budgetnets
from budgetnets import BudgetResNet, WeightsMismatch, build_resnet


def test_a_network_follows_its_classifier():
    model = small()
    model.class_names = tuple("abcdefghij")
    model.reset_classifier(5)
    assert (model.spec.num_classes, model.num_classes, model.class_names) == (5, 5, None)
    assert model(IMAGES).shape == (2, 5)
    model.reset_classifier(0)
    assert model.spec.num_classes == 0
    assert model(IMAGES).shape == (2, 16)
    model.reset_classifier(0, "")
    assert model(IMAGES).shape == (2, 16, 8, 8)
    model.reset_classifier(7)  # a classifier needs a pool, so the average comes back
    assert model(IMAGES).shape == (2, 7)
    model.reset_classifier(7, "catavgmax")
    assert model(IMAGES).shape == (2, 7)


@pytest.mark.parametrize("num_classes", [-1, 1.5, True, "10", 10**9])
def test_a_bad_number_of_classes_leaves_the_network_as_it_was(num_classes):
    model = small()
    before = model(IMAGES)
    with pytest.raises((TypeError, ValueError), match="num_classes="):
        model.reset_classifier(num_classes)
    with pytest.raises(ValueError, match="global_pool='mean'"):
        model.reset_classifier(3, "mean")
    with pytest.raises(ValueError, match="needs a pool"):
        model.reset_classifier(3, "")
    assert torch.equal(model(IMAGES), before)


def test_pruning_leaves_the_spec_of_what_is_left():
    model = small()
    taps = model.forward_intermediates(IMAGES, intermediates_only=True)
    model.prune_intermediate_layers([2])
    assert model.spec.num_layers == 2
    assert model.spec.num_classes == 0
    assert budgetnets.count_params(model.spec) == sum(p.numel() for p in model.parameters())
    assert torch.equal(model.forward_features(IMAGES), taps[2])
    model.prune_intermediate_layers([0])
    assert model.spec is None


def test_pruning_can_take_the_classifier_alone():
    model = small()
    before = model.forward_features(IMAGES)
    model.prune_intermediate_layers([model.spec.num_layers], prune_head=True)
    assert model.num_classes == 0
    assert torch.equal(model.forward_features(IMAGES), before)


def test_a_new_classifier_has_the_networks_precision():
    model = small().to(torch.bfloat16)
    model.reset_classifier(4)
    assert model(IMAGES.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("last", [1, 2])
def test_pruning_leaves_the_blocks_their_stochastic_depth_and_the_spec_says_so(last):
    model = small(drop_path_rate=0.3)
    model.prune_intermediate_layers([last])
    assert drop_path_rates(BudgetResNet(model.spec)) == pytest.approx(drop_path_rates(model))


def test_deep_copies_and_pickles_give_the_same_answers():
    model = small(se="block")
    expected = model(IMAGES)
    assert torch.equal(copy.deepcopy(model)(IMAGES), expected)
    assert torch.equal(pickle.loads(pickle.dumps(model))(IMAGES), expected)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    assert torch.equal(torch.load(buffer, weights_only=False)(IMAGES), expected)


def test_channels_last_and_bf16_give_nearly_the_same_answers():
    model = small(se="stem")
    expected = model(IMAGES)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(IMAGES.to(memory_format=torch.channels_last)), expected, rtol=1e-4, atol=1e-5)
    half = copy.deepcopy(model).to(torch.bfloat16)(IMAGES.to(torch.bfloat16))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    "options", [{}, {"se": "block", "block": "bottleneck"}, {"se": "stem", "P": 4}, {"act": "elu"}]
)
def test_export_and_scripting_give_the_same_answers(options):
    model = small(**options)
    expected = model(IMAGES)
    batch = {"x": {0: torch.export.Dim("batch", max=64)}}
    exported = torch.export.export(model, (IMAGES,), dynamic_shapes=batch).module()
    torch.testing.assert_close(exported(IMAGES), expected)
    assert exported(torch.randn(5, 3, 32, 32)).shape == (5, 10)
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(IMAGES), expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore:.*torch.jit.*:FutureWarning")
@pytest.mark.parametrize("options", [{}, {"se": "block", "block": "bottleneck"}, {"se": "stem", "P": 4}])
def test_torchscript_gives_the_same_answers_and_errors(options):
    model = small(**options)
    for converted in (torch.jit.script(model), torch.jit.trace(model, IMAGES)):
        torch.testing.assert_close(converted(IMAGES), model(IMAGES))
    with pytest.raises(torch.jit.Error, match="add the batch dimension"):
        torch.jit.script(model)(IMAGES[0])


@pytest.mark.slow
def test_torch_compile_gives_the_same_answers():
    model = small(se="stem")
    torch.testing.assert_close(torch.compile(model)(IMAGES), model(IMAGES), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", [False, True])
def test_gradient_checkpointing_changes_no_gradient(norm):
    model = small(norm="groupnorm1" if norm else "batchnorm2d").train()
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        model(IMAGES).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for without, with_ in zip(*gradients, strict=True):
        torch.testing.assert_close(without, with_)


def test_gradient_checkpointing_computes_each_block_once_more():
    model, runs = small().train(), []
    blocks = [block for layer in model.stages for block in layer]
    for block in blocks:
        block.register_forward_pre_hook(lambda *_: runs.append(1))
    model.set_grad_checkpointing(True)
    model(IMAGES).sum().backward()
    assert len(runs) == 2 * len(blocks)


def test_layer_decay_orders_the_parameters_from_stem_to_head():
    model = small()
    groups = param_groups_layer_decay(model, layer_decay=0.5)
    scale = {}
    for group in groups:
        for parameter in group["params"]:
            name = next(n for n, p in model.named_parameters() if p is parameter)
            scale[name] = group["lr_scale"]
    assert scale["stem.conv.weight"] < scale["stages.0.0.conv1.weight"] < scale["stages.2.0.conv2.weight"]
    assert scale["stages.2.0.conv2.weight"] < scale["head.weight"] == 1


@pytest.mark.parametrize("n", [1, 2, 5])
def test_features_only_takes_all_maps_for_any_number_of_layers(n):
    model = timm.create_model("budget_resnet", N=n, B=1, C=8, features_only=True)
    maps = model(IMAGES)
    assert len(maps) == n + 1
    assert [m.shape[1] for m in maps] == model.feature_info.channels()
    assert [32 // m.shape[2] for m in maps] == model.feature_info.reduction()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.full((10,), float("nan")), "not finite"),
        (torch.full((10,), -float("inf")), "not finite"),
        (torch.full((10,), float("inf")), "not finite"),
        (torch.zeros(10, dtype=torch.int8), "torch.int8"),
        (torch.zeros(10, dtype=torch.complex64), "torch.complex64"),
        (torch.zeros(10).to(torch.float8_e4m3fn), "float8"),
    ],
)
def test_loading_refuses_what_torch_would_cast_or_take(value, message):
    model = small()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(WeightsMismatch, match=message):
        model.load_state_dict(before | {"head.bias": value})
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("state", [[1], None, "net.pth"])
def test_what_is_no_state_dict_is_to_be_loaded_first(state):
    with pytest.raises(TypeError, match=r"the state dict is a \w+; .* loaded first: safetensors.torch.load_file"):
        small().load_state_dict(state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_loading_takes_floats_of_other_widths(dtype):
    model, other = small(), small()
    state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in model.state_dict().items()}
    other.load_state_dict(state)
    torch.testing.assert_close(other(IMAGES), model(IMAGES), rtol=0.05, atol=0.05)


def test_a_custom_network_is_saved_and_reloaded_bit_equal_by_timm(tmp_path):
    from timm.models._hub import save_for_hf

    options = {
        "K": 3,
        "P": 3,
        "se": "block",
        "se_bias": False,
        "act": "elu",
        "num_classes": 7,
        "in_chans": 1,
        "input_size": 24,
    }
    model = build_resnet(3, [1, 2, 1], [8, 12, 16], **options).eval()
    x = torch.randn(2, 1, 24, 24)
    model.reset_classifier(4)
    save_for_hf(model, tmp_path, model_config={"label_names": list("abcd")}, safe_serialization=True)
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert again.spec == model.spec
    assert again.class_names == ("a", "b", "c", "d")
    assert torch.equal(again(x), model(x))
    colour = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=9, in_chans=3).eval()
    assert colour(torch.randn(2, 3, 24, 24)).shape == (2, 9)
    assert torch.equal(colour.stages[1][1].conv2.weight, model.stages[1][1].conv2.weight)
