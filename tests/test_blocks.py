"""Claims about the public parts by themselves: what no network could be built of is refused where it is given."""

import pytest
import torch
from torch import nn

from budgetnets import BasicBlock, Bottleneck, GridPool, SqueezeExcite, make_skip
from budgetnets.blocks import Stem, make_act

BLOCKS = pytest.mark.parametrize("block", [BasicBlock, Bottleneck])


@BLOCKS
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"in_width": 0}, ValueError, "in_width=0 is out of range; use 1 to"),
        ({"width": 0}, ValueError, "width=0 is out of range"),
        ({"width": 8.0}, TypeError, "width=.* must be an integer, not float"),
        ({"stride": 0}, ValueError, "stride=0 is out of range"),
        ({"kernel_size": 4}, ValueError, "kernel_size=4 is even.*; use an odd kernel such as 3 or 5"),
        ({"kernel_size": "3"}, TypeError, "kernel_size='3' must be an integer"),
        ({"stride": 2, "skip_kernel_size": 2}, ValueError, "kernel_size=2 is even.*such as 1 or 3"),
        ({"se_reduction": 0}, ValueError, "reduction=0 is out of range"),
        ({"act": "rellu"}, ValueError, "act='rellu' is unknown; did you mean 'relu'"),
        ({"norm": "bn"}, ValueError, "norm='bn' is unknown.* Use one of 'batchnorm2d'"),
        ({"drop": 1.5}, ValueError, "drop=1.5 is out of range; use a number from 0 to 1"),
        ({"drop_path": -0.1}, ValueError, "drop_path=-0.1 is out of range"),
    ],
)
def test_a_block_refuses_what_a_spec_refuses(block, options, error, message):
    with pytest.raises(error, match=message):
        block(**{"in_width": 8, "width": 8} | options)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: make_skip(8, 16, 2, 2), ValueError, "kernel_size=2 is even"),
        (lambda: make_skip(8, 16, norm="bn"), ValueError, "norm='bn' is unknown"),
        (lambda: make_skip(8, 8, norm="bn"), ValueError, "norm='bn' is unknown"),  # of an identity too
        (lambda: make_skip("8", "8"), TypeError, "in_width='8' must be an integer"),
        (lambda: SqueezeExcite(8, 0), ValueError, "reduction=0 is out of range; use 1 to"),
        (lambda: SqueezeExcite(8, True), TypeError, "reduction=True must be an integer"),
        (lambda: SqueezeExcite(0), ValueError, "width=0 is out of range"),
        (lambda: GridPool(0), ValueError, "grid=0 is out of range; use 1 to"),
        (lambda: GridPool(1.5), TypeError, "grid=1.5 must be an integer"),
        (lambda: Stem(3, 8, se_reduction=0), ValueError, "reduction=0 is out of range"),
        (lambda: make_act(""), ValueError, "act='' is unknown"),
    ],
)
def test_a_part_refuses_what_it_cannot_be(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore:.*torch.jit.*:FutureWarning")
@BLOCKS
def test_a_block_by_itself_runs_in_torchscript_and_fx(block):
    module = block(8, 4, stride=2, kernel_size=5, skip_kernel_size=3, se_reduction=2, act="silu").eval()
    x = torch.randn(2, 8, 9, 9)
    for compiled in (torch.jit.script(module), torch.fx.symbolic_trace(module)):
        torch.testing.assert_close(compiled(x), module(x))
    assert isinstance(block(8, 8).se, nn.Identity)
