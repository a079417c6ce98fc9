"""Every variant survives the ways out of eager PyTorch: saved, loaded and compiled, it gives the same logits."""

import io

import pytest
import torch

import budgetnets
from budgetnets.variants import VARIANTS

pytestmark = pytest.mark.slow
IN_BUDGET = [row.name for row in VARIANTS.values() if row.in_budget]
IMAGES = torch.randn(2, 3, 32, 32)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore:.*torch.jit.*:FutureWarning")
@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_a_variant_goes_through_torchscript_and_back(name):
    model = budgetnets.create(name).eval()
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(model), file)
    file.seek(0)
    close(torch.jit.load(file)(IMAGES), model(IMAGES))


@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_a_variant_goes_through_torch_export_and_back_for_any_batch(name):
    model = budgetnets.create(name).eval()
    file = io.BytesIO()
    batch = {"x": {0: torch.export.Dim("batch", max=64)}}
    torch.export.save(torch.export.export(model, (IMAGES,), dynamic_shapes=batch), file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for images in (IMAGES, torch.randn(5, 3, 32, 32)):
        close(loaded(images), model(images))


@pytest.mark.parametrize("name", IN_BUDGET)
@torch.no_grad()
def test_a_variant_within_the_budget_can_be_compiled(name):
    model = budgetnets.create(name).eval()
    torch._dynamo.reset()
    close(torch.compile(model, dynamic=False)(IMAGES), model(IMAGES))
