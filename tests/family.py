"""Hypothesis strategies: any network of the family, small enough to build."""

from hypothesis import strategies as st

from budgetnets import ResNetSpec
from budgetnets.spec import ACTIVATIONS, INITS, NORMS

ODD = [1, 3, 5, 7, 9]


@st.composite
def specs(draw, **fixed):
    """A spec of up to four layers; `fixed` options are the same in all of them."""
    n = draw(st.integers(1, 4))
    norm = fixed.get("norm") or draw(st.sampled_from(sorted(NORMS)))
    width = st.sampled_from([64, 96]) if norm == "groupnorm" else st.integers(2, 12)

    def per_layer(values):
        return draw(st.one_of(values, st.lists(values, min_size=n, max_size=n)))

    options = {
        "F": per_layer(st.sampled_from(ODD)),
        "K": per_layer(st.sampled_from(ODD)),
        "strides": draw(st.none() | st.lists(st.integers(1, 3), min_size=n, max_size=n)),
        "se": draw(st.sampled_from([None, "stem", "block"])),
        "se_reduction": draw(st.integers(1, 20)),
        "se_bias": draw(st.booleans()),
        "block": draw(st.sampled_from(["basic", "bottleneck"])),
        "act": draw(st.sampled_from(sorted(ACTIVATIONS))),
        "norm": norm,
        "drop_rate": draw(st.sampled_from([0.0, 0.5])),
        "block_drop_rate": draw(st.sampled_from([0.0, 0.1])),
        "drop_path_rate": draw(st.sampled_from([0.0, 0.2])),
        "num_classes": draw(st.integers(0, 12)),
        "in_chans": draw(st.integers(1, 4)),
        "input_size": draw(st.integers(9, 24)),
        "init": draw(st.sampled_from(INITS)),
    } | fixed
    letters = {"N": n, "B": per_layer(st.integers(1, 3)), "C": per_layer(width)}
    whole_map = ResNetSpec.from_dict(letters | options)
    divisors = [p for p in range(1, whole_map.final_size + 1) if whole_map.final_size % p == 0]
    return ResNetSpec.from_dict(letters | options | {"P": draw(st.none() | st.sampled_from(divisors))})
