"""Counting many networks at once gives what counting each by itself gives."""

import numpy as np
import pytest
from family import ODD, specs
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from budgetnets import ResNetSpec, count_macs, count_memory, count_params, vectorized
from budgetnets.spec import NORMS


def counts(networks):
    return [count(networks).tolist() for count in (vectorized.params, vectorized.macs, vectorized.memory)]


@st.composite
def related_specs(draw):
    """Up to five specs that differ in their letters, strides and squeeze-and-excitation alone."""
    first = draw(specs())
    n, widths = first.num_layers, st.sampled_from([64, 96]) if first.norm == "groupnorm" else st.integers(1, 40)

    def layers(values):
        return draw(st.lists(values, min_size=n, max_size=n))

    found = [first]
    for _ in range(draw(st.integers(0, 4))):
        letters = {"B": layers(st.integers(1, 9)), "C": layers(widths), "F": layers(st.sampled_from(ODD))}
        letters |= {"K": layers(st.sampled_from(ODD)), "strides": layers(st.integers(1, 3))}
        letters |= {"se": draw(st.sampled_from([None, "stem", "block"])), "P": None}
        try:
            found.append(ResNetSpec.from_dict(first.to_dict() | letters))
        except ValueError:  # a group norm of a single value
            assume(False)
    return found


@given(related_specs())
@settings(max_examples=300)
def test_columns_count_what_each_spec_counts(related):
    networks = vectorized.networks_of(related)
    expected = [[count(spec) for spec in related] for count in (count_params, count_macs, count_memory)]
    assert counts(networks) == expected
    assert vectorized.feasible(networks).all()
    assert [networks.spec(i) for i in range(len(related))] == related


@given(st.data())
@settings(max_examples=300)
def test_exactly_what_a_spec_refuses_is_infeasible(data):
    n = data.draw(st.integers(1, 4))

    def layers(values):
        return data.draw(st.lists(values, min_size=n, max_size=n))

    options = {
        "norm": data.draw(st.sampled_from(sorted(NORMS))),
        "block": data.draw(st.sampled_from(["basic", "bottleneck"])),
        "input_size": data.draw(st.integers(3, 12)),
    }
    shared = vectorized.options_spec(**options)
    width, strides = layers(st.sampled_from([1, 8, 32, 64])), layers(st.integers(1, 12))
    pool = data.draw(st.none() | st.integers(1, 6))
    ones = np.ones((n, 1), dtype=np.int64)
    column = {"blocks": ones, "widths": np.array(width)[:, None], "kernel_sizes": 3 * ones, "skip_kernel_sizes": ones}
    networks = vectorized.Networks(
        shared, **column, strides=np.array(strides)[:, None], pool_size=np.array([pool or 0]), se=np.array([0])
    )
    try:
        ResNetSpec.from_letters(n, 1, width, P=pool, strides=strides, **options)
        taken = True
    except ValueError:
        taken = False
    assert vectorized.feasible(networks).tolist() == [taken]


@pytest.mark.parametrize("norm", ["batchnorm2d", "groupnorm", "groupnorm1"])
def test_any_options_have_a_spec_to_carry_them(norm):
    assert vectorized.options_spec(norm=norm, input_size=3).norm == norm
