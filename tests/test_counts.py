"""Counting by arithmetic gives what building and running the network gives."""

import numpy as np
import pytest
import torch
from family import specs
from hypothesis import given, settings
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.utils.flop_counter import FlopCounterMode

import budgetnets
from budgetnets import (
    BudgetResNet,
    ResNetSpec,
    build_resnet,
    count_macs,
    count_memory,
    count_params,
    list_models,
)
from budgetnets.blocks import GridPool


def on_meta(spec):
    with torch.device("meta"):
        return BudgetResNet(spec).eval()


def image(spec):
    return torch.zeros(1, spec.in_chans, spec.input_size, spec.input_size, device="meta")


@given(specs())
@settings(max_examples=150)
def test_params_are_those_of_the_built_network(spec):
    assert count_params(spec) == sum(p.numel() for p in on_meta(spec).parameters())


@given(specs())
@settings(max_examples=100)
def test_macs_are_half_of_torchs_flop_count(spec):
    with FlopCounterMode(display=False) as counter:
        on_meta(spec)(image(spec))
    assert 2 * count_macs(spec) == counter.get_total_flops()


def peak_of_graph(spec):
    """Peak bytes by a second route: the traced graph, each node's true output size, and when it is last used.

    A convolution, pool, mean or linear layer makes a new tensor; everything else works in place on its first input.
    """

    class Tracer(fx.Tracer):
        def is_leaf_module(self, module, name):
            return isinstance(module, GridPool) or super().is_leaf_module(module, name)

    model = on_meta(spec)
    graph = Tracer().trace(model)
    traced = fx.GraphModule(model, graph)
    ShapeProp(traced).propagate(image(spec))
    owner = {}  # node -> the node whose storage it uses
    for node in graph.nodes:
        module = model.get_submodule(node.target) if node.op == "call_module" else None
        makes_new = node.op == "placeholder" or isinstance(module, nn.Conv2d | nn.Linear | GridPool)
        makes_new = makes_new or (node.op == "call_method" and node.target == "mean")
        owner[node] = node if makes_new or not node.all_input_nodes else owner[node.all_input_nodes[0]]
    order = [node for node in graph.nodes if "tensor_meta" in node.meta and node.op != "output"]
    last_use = {owner[node]: i for i, node in enumerate(order)}
    for i, node in enumerate(order):
        for used in node.all_input_nodes:
            last_use[owner[used]] = max(last_use.get(owner[used], 0), i)
    peak = 0
    for i, _ in enumerate(order):
        made = {owner[node] for node in order[: i + 1]}
        alive = {storage for storage in made if last_use[storage] >= i}
        peak = max(peak, sum(4 * storage.meta["tensor_meta"].shape.numel() for storage in alive))
    return peak


@given(specs(act="relu", norm="batchnorm2d"))  # others compute in steps that an inference engine fuses
@settings(max_examples=60)
def test_memory_is_the_peak_of_the_traced_networks_live_tensors(spec):
    assert count_memory(spec) == peak_of_graph(spec)


@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize("count", [count_params, count_macs, count_memory])
def test_a_name_a_spec_and_the_letters_count_the_same(name, count):
    from budgetnets.variants import VARIANTS

    spec = VARIANTS[name].spec
    values = spec.to_dict()
    letters = [values.pop(letter) for letter in "NBCFKP"]
    assert count(name) == count(spec) == count(*letters, **values) == count(**spec.to_dict())


def test_options_change_a_named_variant():
    assert count_params("resnet9_cifar", num_classes=100) - count_params("resnet9_cifar") == 90 * 513
    assert count_params("resnet9_cifar", se="block") > count_params("resnet9_cifar")


def test_memory_of_a_network_that_one_can_count_by_hand():
    # 8x8 image of 3 channels, 4 channels throughout: the block's input, and its second convolution's input and output.
    assert count_memory(1, 1, 4, input_size=8) == 4 * (3 * 4 * 8 * 8)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("resnet9_cifr",), ValueError, "did you mean 'resnet9_cifar'"),
        (("resnet9_cifar", 2), TypeError, "a variant's name or a spec alone"),
        ((2, 1), TypeError, "missing"),
        ((2.0, 1, 8), TypeError, "N=2.0"),
        ((), TypeError, "missing"),
        ((build_resnet(1, 1, 4),), TypeError, "a BudgetResNet is no spec; give that of the network: model.spec"),
        ((3, 1, 16, 3, 1, None, 7), TypeError, r"\(7,\) after the six letters: give N, B, C, F, K, P"),
    ],
)
def test_what_cannot_be_counted_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        count_params(*arguments)


def test_counting_refuses_what_building_refuses():
    with pytest.raises(ValueError, match="1,173,962 over max_params=10,000,000"):
        count_macs("resnet18_cifar", max_params=10_000_000)
    with pytest.raises(TypeError, match="did you mean 'num_classes'"):
        count_params(2, 1, 8, num_class=3)
    with pytest.raises(TypeError, match="C given twice, by place and by name"):
        count_params(3, 1, 16, C=16)


@pytest.mark.parametrize("budget", [2_000_000, 2e6, np.int64(2_000_000), np.float32(2e6), np.float64(2e6)])
def test_a_budget_is_read_alike_everywhere(budget):
    assert build_resnet(2, 1, 8, max_params=budget).spec.num_layers == 2
    assert count_params("seresnet20_cifar", max_params=budget) == 1_092_650
    assert "seresnet20_cifar" in budgetnets.list_models(max_params=budget)
    assert budgetnets.search(budget, budget, budget, objective="params", N=2, B=1, C=8)[0].params <= 2_000_000
    with pytest.raises(ValueError, match="over max_params=2,000,000"):
        build_resnet(4, 2, [64, 128, 256, 512], max_params=budget)


def test_counting_allocates_nothing():
    huge = ResNetSpec.from_letters(4, 200, 65_536)
    assert count_params(huge) > 10**13
    with pytest.raises(ValueError, match="over max_params"):
        build_resnet(**huge.to_dict())
