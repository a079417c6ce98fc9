"""No change makes a network or its file larger unseen: costs are counted, since seconds depend on the machine."""

import json

import pytest
from pin_costs import PATH, costs

from budgetnets.variants import VARIANTS

PINNED = json.loads(PATH.read_text())
IN_BUDGET = [row.name for row in VARIANTS.values() if row.in_budget]


def test_every_variant_within_the_budget_is_pinned():
    assert list(PINNED) == IN_BUDGET, "run tests/pin_costs.py, as make tables does"


@pytest.mark.parametrize(
    "name", [IN_BUDGET[0], *(pytest.param(name, marks=pytest.mark.slow) for name in IN_BUDGET[1:])]
)
def test_a_variant_costs_what_is_pinned(name):
    found, pinned = costs(VARIANTS[name]), PINNED[name]
    assert found.keys() == pinned.keys()
    for key in ("params", "macs"):
        assert found[key] == pinned[key]
    for precision, file, listed in [("fp32", found, pinned), ("int8", found.get("int8"), pinned.get("int8"))]:
        if listed:
            assert file["operators"] == listed["operators"], f"{precision}: tests/pin_costs.py --again if this is meant"
            # Names differ with torch's version.
            assert file["kilobytes"] == pytest.approx(listed["kilobytes"], rel=0.01), precision
