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
def test_a_variant_is_saved_under_its_name_and_comes_back_with_its_options(name, tmp_path):
    model = budgetnets.create(name, act="elu", drop_rate=0.3, drop_path_rate=0.2, input_size=64).eval()
    budgetnets.save_pretrained(model, tmp_path)
    again = budgetnets.create(f"local-dir:{tmp_path}", pretrained=True)
    assert again.spec == model.spec
    assert again.pretrained_cfg["architecture"] == name
    assert torch.equal(again(IMAGES), model(IMAGES))


@pytest.mark.parametrize("name", IN_BUDGET)
@torch.no_grad()
def test_a_variant_within_the_budget_can_be_compiled(name):
    model = budgetnets.create(name).eval()
    torch._dynamo.reset()
    close(torch.compile(model, dynamic=False)(IMAGES), model(IMAGES))
