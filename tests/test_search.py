"""A search gives the best networks of its space under its limits, and says so where there are none."""

import itertools
import re
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from budgetnets import (
    ResNetSpec,
    count_macs,
    count_memory,
    count_params,
    search,
    search_space,
    searching,
    vectorized,
)
from budgetnets.cli import main
from budgetnets.search_space import make_space
from budgetnets.variants import VARIANTS

SMALL = {"N": [2, 3], "B": [1, 2], "C": [8, 16], "F": 3, "K": 1, "P": None, "se": [None, "block"]}


def built_alike(spec):
    """What decides whether two specs are the same network: K only where the skip is a convolution."""
    skips = tuple(stage.skip_kernel_size for stage in spec.stages if stage.projects)
    return spec.blocks, spec.widths, spec.kernel_sizes, skips, spec.pool_size, spec.se, spec.strides


def every_network(N, B, C, F, K, P, se, strides, growth, **options):
    """The same space by plain loops over specs."""
    found = {}
    for n, p, place in itertools.product(N, P, se):
        for b, f, first, skip, stride in itertools.product(B, F, C, K, strides):
            for steps in itertools.product(sorted(growth), repeat=n - 1):
                widths = [first * int(np.prod(steps[:i])) for i in range(n)]
                try:
                    spec = ResNetSpec.from_letters(n, b, widths, f, skip, p, se=place, strides=stride, **options)
                except ValueError:
                    continue
                found.setdefault(built_alike(spec), spec)
    return list(found.values())


def some(values, most=2):
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)


@given(st.data())
@settings(max_examples=40)
def test_results_are_those_of_trying_every_network(data):
    odd = [1, 3, 5]
    space = {
        **{"N": data.draw(some([1, 2, 3])), "B": data.draw(some([1, 2, 3])), "C": data.draw(some([32, 5, 12]))},
        **{"F": data.draw(some(odd)), "K": data.draw(some(odd)), "P": data.draw(some([None, 1, 2, 4, 8]))},
        **{"se": data.draw(some([None, "stem", "block"], 3)), "strides": data.draw(some([None, 1, 2, 3]))},
        "growth": data.draw(some([1, 2])),
    }
    options = {
        "block": data.draw(st.sampled_from(["basic", "bottleneck"])),
        "norm": data.draw(st.sampled_from(["batchnorm2d", "groupnorm"])),
        "input_size": data.draw(st.sampled_from([12, 16])),
        "num_classes": data.draw(st.sampled_from([0, 10])),
    }
    specs = every_network(**space, **options)
    if not specs:
        with pytest.raises(ValueError, match="no combination of the choices"):
            search(**space, **options, objective="params")
        return
    middle = sorted(map(count_macs, specs))[len(specs) // 2]
    fitting = [spec for spec in specs if count_macs(spec) <= middle]
    expected = sorted((-count_params(s), count_macs(s)) for s in fitting)[:20]
    found = search(max_macs=middle, **space, **options, objective="params", limit=20)
    assert [(-result.params, result.macs) for result in found] == expected
    alike = set(map(built_alike, fitting))
    assert len({built_alike(result.spec) for result in found}) == len(found)
    for result in found:
        assert built_alike(result.spec) in alike
        costs = (count_params(result.spec), count_macs(result.spec), count_memory(result.spec))
        assert (result.params, result.macs, result.memory) == costs


@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_of_equals_the_smallest_are_found_wherever_in_the_space_they_lie(chunk, monkeypatch):
    monkeypatch.setattr(search_space, "CHUNK", chunk)
    space = SMALL | {"C": [16, 8]}  # the larger ones first
    found = search(max_params=10**7, **space, objective=lambda spec: 1.0, limit=4)
    every = search(max_params=10**7, **space, objective="params", limit=100)
    assert [r.params for r in found] == sorted(r.params for r in every)[:4]


@pytest.mark.parametrize("budget", [20_000, 100_000, 300_000, 1_000_000, 5_000_000])
def test_the_default_space_fills_every_budget_of_the_zoo(budget):
    best = search(max_params=budget, objective="params", limit=1)[0]
    assert 0.98 * budget < best.params <= budget


@pytest.mark.parametrize("name", [row.name for row in VARIANTS.values() if row.in_budget and row.spec.num_layers <= 4])
def test_the_default_space_has_a_network_much_like_each_variant(name):
    wanted, nearest = np.log([count_params(name), count_macs(name)]), np.inf
    for _, networks in make_space().chunks():
        costs = np.log([vectorized.params(networks), vectorized.macs(networks)])
        nearest = min(nearest, abs(costs - wanted[:, None]).max(axis=0).min(initial=np.inf))
    assert nearest < np.log(1.05)


def test_a_million_networks_are_searched_in_bounded_memory():
    space = {"N": 4, "C": range(8, 248, 4), "B": list(itertools.product([1, 2, 3], repeat=4)), "se": [None, "stem"]}
    space |= {"growth": [1, 2], "F": [3, 5], "K": [1, 3], "P": [None, 2, 1]}
    assert len(make_space(**space)) > 900_000
    tracemalloc.start()
    found = search(max_params=1_000_000, **space, objective="params")
    assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    tracemalloc.stop()
    assert found[0].params > 999_000


def test_the_order_of_the_choices_changes_nothing():
    space = {"N": [2, 3], "C": [8, 12, 16], "B": [1, 2], "F": [3, 5], "se": [None, "stem"]}
    backwards = {name: values[::-1] for name, values in space.items()}
    for objective in ("params", lambda spec: 0.0, lambda spec: spec.num_layers):
        assert search(**space, objective=objective) == search(**backwards, objective=objective)


def test_equals_are_ordered_by_parameters_then_multiply_adds():
    found = search(**SMALL, objective=lambda spec: 1.0, limit=50)
    costs = [(result.params, result.macs) for result in found]
    assert costs == sorted(costs)


def test_a_function_ranks_the_networks_and_the_highest_comes_first():
    found = search(max_params=50_000, **SMALL, objective=lambda spec: -abs(count_params(spec) - 30_000), limit=50)
    distances = [abs(result.params - 30_000) for result in found]
    assert distances == sorted(distances)


def test_per_layer_choices_are_for_networks_of_their_length():
    found = search(N=[2, 3], C=[[8, 16], [8, 12, 20]], B=[1, [2, 1]], F=3, K=1, P=None, se=None, objective="params")
    letters = {(result.spec.widths, result.spec.blocks) for result in found}
    assert letters == {((8, 16), (1, 1)), ((8, 16), (2, 1)), ((8, 12, 20), (1, 1, 1))}


def test_a_result_builds_its_network():
    result = search(max_params=20_000, **SMALL, objective="params", limit=1, num_classes=7)[0]
    model = result.build()
    assert sum(p.numel() for p in model.parameters()) == result.params
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_results_are_a_sequence_that_prints_as_a_table():
    found = search(**SMALL, objective="params", limit=4)
    assert len(found) == 4
    assert found[:2] == search(**SMALL, objective="params", limit=2)
    lines = str(found).splitlines()
    assert lines[0].split()[:7] == ["N", "B", "C", "F", "K", "P", "se"]
    assert len(lines) == 5
    assert f"{found[0].params:,}" in lines[1]
    assert "strides" not in lines[0]
    assert "strides" in str(search(**SMALL, strides=2, objective="params"))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"max_params": 100}, ValueError, "max_params=100; the smallest has {0:,} parameters, {1:,} multiply-adds"),
        (
            {"max_macs": 5000, "max_memory": 9},
            ValueError,
            "the least multiply-adds are {1:,}; the least bytes of",
        ),
        ({"max_params": 0}, ValueError, "max_params=0 is out of range"),
        ({"max_params": True}, TypeError, "max_params=True must be an integer"),
        ({"max_macs": 1.5}, TypeError, "max_macs=1.5 must be an integer"),
        ({"max_macs": float("nan")}, TypeError, "max_macs=nan"),
        ({"max_latency": 0}, ValueError, "max_latency=0 is out of range"),
        ({"max_latency": "fast"}, TypeError, "max_latency='fast' must be a number"),
        ({"limit": 0}, ValueError, "limit=0"),
        ({"objective": "accurcy"}, ValueError, "did you mean 'accuracy'"),
        ({"objective": 3}, TypeError, "objective=3"),
        ({"objective": lambda spec: float("nan")}, ValueError, "the objective gave nan"),
        ({"objective": lambda spec: None}, TypeError, "the objective gave None"),
        ({"objective": lambda spec: np.array([1.0])}, TypeError, r"the objective gave array\(\[1\.\]\)"),
        ({"objective": lambda spec: np.complex64(1j)}, TypeError, "the objective gave .*; it must give a number"),
        ({"objective": lambda spec: torch.zeros(2)}, TypeError, "the objective gave tensor"),
        ({"objective": lambda spec: torch.tensor(1j)}, TypeError, "the objective gave tensor"),
        (
            {"objective": sum, "N": 4, "B": None, "C": None, "F": [1, 3, 5], "K": [1, 3]},
            ValueError,
            "more than 100,000",
        ),
        ({"B": [4, 4, 3]}, ValueError, r"write B=\[\[4, 4, 3\]\]"),
        ({"C": [[8, 16, 32, 64]]}, ValueError, "4 entries, but N is one of \\[2, 3\\]"),
        ({"C": [[8, 16]], "B": [[1, 1, 1]]}, ValueError, "has a choice for each letter"),
        ({"C": []}, ValueError, "no choice"),
        ({"C": {"first": 8}}, TypeError, "not a mapping"),
        ({"C": "64"}, TypeError, "C .widths.='64'"),
        ({"F": [3, 4]}, ValueError, "is even"),
        ({"F": 33}, ValueError, "larger than the 32x32 input"),
        ({"P": 3}, ValueError, "no combination of the choices"),
        ({"se": "blok"}, ValueError, "did you mean 'block'"),
        ({"growth": 1.5}, TypeError, "growth=1.5 must be an integer"),
        ({"gorwth": 2}, TypeError, "did you mean 'growth'"),
        ({"N": 64, "B": None}, ValueError, "more than 100,000 choices"),
        ({"C": 60_000, "B": 1000, "F": 31}, ValueError, "is counted; use smaller choices"),
        (
            {"N": 12, "B": None, "C": None, "F": range(1, 33, 2), "K": range(1, 33, 2), "P": range(1, 4_000)},
            ValueError,
            r"N=12 has \de\+\d\d combinations of the choices, .* give fewer choices, 1e\+12",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused(arguments, error, message):
    smallest = [count(2, 1, 8) for count in (count_params, count_macs, count_memory)]
    message = message.format(*smallest) if "{0" in message or "{1" in message else message
    with pytest.raises(error, match=message):
        search(**{"objective": "params"} | SMALL | arguments)


def test_networks_that_cost_the_most_that_is_counted_are_counted_exactly():
    huge = {"N": 3, "B": 1000, "C": 30_000, "growth": 1, "F": 3, "K": 3, "P": 1, "se": "block", "strides": 2}
    (found,) = search(**huge, objective="params")
    assert found.params == count_params(found.spec) > 2**43
    assert found.macs == count_macs(found.spec)


def test_the_best_are_measured_in_order_until_enough_are_fast(monkeypatch):
    asked = []

    def by_size(spec):
        asked.append(spec)
        return count_macs(spec) / 1e6

    monkeypatch.setattr(searching, "measure_latency", by_size)
    found = search(max_latency=6, **SMALL, objective="params", limit=3)
    ranked = search(**SMALL, objective="params", limit=30)
    fast = [result.spec for result in ranked if result.macs <= 6e6]
    assert [result.spec for result in found] == fast[:3]
    assert all(result.latency == result.macs / 1e6 for result in found)
    assert asked == [result.spec for result in ranked[: len(asked)]]
    assert "ms" in str(found)


def test_where_only_smaller_networks_are_fast_enough_a_limit_is_advised_that_finds_one(monkeypatch):
    monkeypatch.setattr(searching, "measure_latency", lambda spec: count_macs(spec) / 1e6)
    least = min(result.macs for result in search(**SMALL, objective="params", limit=10_000))
    with pytest.raises(ValueError, match="none of the 10 best networks is within") as stopped:
        search(max_latency=1.01 * least / 1e6, **SMALL, objective="params", limit=1)
    advised = re.search(r"add a limit such as max_macs=([\d_]+)$", str(stopped.value))
    found = search(max_latency=1.01 * least / 1e6, max_macs=int(advised[1]), **SMALL, objective="params", limit=1)
    assert found[0].macs <= 1.01 * least


def test_where_no_network_is_fast_enough_the_smallest_is_named(monkeypatch):
    monkeypatch.setattr(searching, "measure_latency", lambda spec: count_macs(spec) / 1e6)
    least = min(result.macs for result in search(**SMALL, objective="params", limit=10_000))
    said = (
        rf"max_latency=1e-09; .* the smallest of the space {least / 1e6:.2f} ms with {least:,} and .* raise the limit"
    )
    with pytest.raises(ValueError, match=said):
        search(max_latency=1e-9, **SMALL, objective="params", limit=1)


def test_networks_that_their_norm_refuses_are_said_to_be_its_doing():
    with pytest.raises(ValueError, match="the groups of norm='groupnorm' must divide every width"):
        search(norm="groupnorm", objective="params", N=3, C=[16, 48])


@pytest.mark.parametrize("choices", [torch.tensor([8, 16]), np.array([8, 16]), [np.array(8), torch.tensor(16)]])
def test_choices_may_be_arrays_and_tensors(choices):
    options = {"N": 2, "B": 1, "F": 3, "K": 1, "P": None, "se": None, "objective": "params"}
    assert list(search(C=choices, **options)) == list(search(C=[8, 16], **options))


@pytest.mark.parametrize("score", [np.float32(1.5), np.array(1.5), torch.tensor(1.5), True, 2])
def test_a_score_is_any_single_number(score):
    assert len(search(**SMALL, objective=lambda spec: score, limit=2)) == 2


def test_a_search_needs_no_standard_error_for_its_bars(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)  # as 2>&- leaves it
    monkeypatch.setattr(searching, "measure_latency", lambda spec: 1.0)
    assert len(search(max_latency=2, **SMALL, objective=lambda spec: 1.0, limit=2)) == 2


def test_the_command_line_prints_the_table(capsys):
    choices = ["-N", "2,3", "-B", "1,2", "-C", "8,16", "-F", "3", "-K", "1", "--se", "none,block"]
    arguments = ["--max-params", "30000", "--max-macs", "20e6", "--limit", "5", "--objective", "params"]
    assert main(["search", *arguments, *choices]) == 0
    space = SMALL | {"P": (None, 4)}
    expected = search(30_000, 20e6, **space, limit=5, objective="params")
    assert capsys.readouterr().out.strip() == str(expected).strip()
    assert main(["search", "--max-params", "10", "--objective", "params"]) == 2
    assert "the smallest has" in capsys.readouterr().err


def test_importing_the_package_loads_nothing_that_only_a_fit_or_a_cluster_needs():
    code = "import sys, budgetnets; print([m for m in ('sklearn', 'scipy', 'ray', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr
