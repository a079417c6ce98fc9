"""timm's own model tests, run on the zoo: fetches timm's sdist, takes tests/test_models.py out of it, and runs that.

    python tests/timm_contract.py [--models resnet9_cifar,budget_resnet] [pytest options]

The same file is the pytest plugin that narrows timm's tests to our models. Tests that timm parametrizes with names of
its own (`test_head_hidden_size` with "resnet18", say) get ours in their place, where timm's resnet18 passes them.
"""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

MODELS_VARIABLE = "TIMM_CONTRACT_MODELS"

# Claims about any model that timm tests on a few of its own, named in the test; here they are made of all of ours.
# The rest of the tests that name models are about those architectures alone (ViT, Swin, EfficientNet's stems, ...).
ABOUT_ANY_MODEL = {
    "test_reset_classifier_keeps_pool",
    "test_features_only_grad_checkpointing_backward",
    "test_feature_hook_net_grad_checkpointing_order",
    "test_feature_getter_stage_ends_torchscript",
    "test_prune_intermediate_layers_params_used",
    "test_head_hidden_size",
    "test_features_only_feature_cls_class",
    "test_resnet_pruned_grad_checkpointing",
    "test_forward_after_prune_intermediate_layers",
    "test_prune_intermediate_layers_last_feature",
    "test_prune_to_stem_feature",
    "test_forward_intermediates_stop_early_final_norm",
    "test_model_init_weights_after_to_empty",
}
# Claims that no network could meet which shrinks an image by 128: at the tests' image sizes its last map is 1x1.
IMPOSSIBLE = {
    ("test_reset_classifier_keeps_pool", "resnet34_deep8_cifar"): "average and maximum of a single value are equal",
    ("test_forward_after_prune_intermediate_layers", "resnet34_deep8_cifar"): "trains batch norm on a single value",
}
OTHER_ARGUMENTS = {"model_kwargs": {}, "kwargs": {}, "stop_early_final": True}


def our_models() -> list[str]:
    import budgetnets

    named = os.environ.get(MODELS_VARIABLE)
    return named.split(",") if named else ["budget_resnet", *budgetnets.list_models()]


def pytest_configure(config: pytest.Config) -> None:
    """Before timm's test module is imported: let timm list our models alone."""
    import timm

    listed = timm.list_models

    def list_ours(
        filter="", module="", pretrained=False, exclude_filters="", name_matches_cfg=False, include_tags=None
    ):
        ours = our_models()
        # `module` holds timm's own module names wherever a test means "models with forward_intermediates".
        names = listed("", pretrained=pretrained, name_matches_cfg=name_matches_cfg, include_tags=include_tags)
        names = [name for name in names if name.partition(".")[0] in ours]
        patterns = [filter] if isinstance(filter, str) else list(filter)
        return [name for name in names if any(fnmatch.fnmatch(name, pattern or "*") for pattern in patterns)]

    timm.list_models = list_ours
    timm.list_pretrained = lambda filter="", *args, **kwargs: list_ours(filter, pretrained=True)
    for marker in (
        "base",
        "forward",
        "backward",
        "cfg",
        "cfg_nonstd",
        "torchscript",
        "features",
        "fxforward",
        "fxbackward",
    ):
        config.addinivalue_line("markers", f"{marker}: timm's")


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Put our models where timm's tests name theirs."""
    if metafunc.function.__name__ not in ABOUT_ANY_MODEL:
        return
    marks = metafunc.definition.own_markers
    for i, mark in enumerate(marks):
        if mark.name == "parametrize" and (names := re.split(r",\s*", mark.args[0]))[0] == "model_name":
            others = tuple(OTHER_ARGUMENTS[name] for name in names[1:])
            ours = [(name, *others) if others else name for name in our_models()]
            marks[i] = pytest.mark.parametrize(mark.args[0], ours).mark


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Function]) -> None:
    """Keep the tests of our models, and the claims about any model."""
    ours = our_models()

    def is_ours(item: pytest.Function) -> bool:
        name = item.callspec.params.get("model_name") if hasattr(item, "callspec") else None
        if (item.originalname, name) in IMPOSSIBLE:
            return False
        named = isinstance(name, str) and name.partition(".")[0] in ours
        return named or item.originalname in ABOUT_ANY_MODEL

    kept = [item for item in items if is_ours(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
    if kept:
        module, create = kept[0].module, kept[0].module.create_model
        # Tests without a parameter build one model by a name of timm's; they get one of ours.
        module.create_model = lambda name, *a, **k: create(name if name.partition(".")[0] in ours else ours[0], *a, **k)


def main() -> int:
    import timm

    args = sys.argv[1:]
    environment = dict(os.environ)
    if "--models" in args:
        at = args.index("--models")
        environment[MODELS_VARIABLE] = args[at + 1]
        del args[at : at + 2]
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "timm", "-d", folder]
        subprocess.run([*pip, f"timm=={timm.__version__}"], check=True)
        with tarfile.open(next(Path(folder).glob("*.tar.gz"))) as archive:
            # Alone, outside timm's tree: beside it, pytest would import the sdist's timm and not the installed one.
            source = archive.extractfile(f"timm-{timm.__version__}/tests/test_models.py")
            assert source is not None
            (Path(folder) / "test_models.py").write_bytes(source.read())
        environment["PYTHONPATH"] = str(Path(__file__).parent)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "timm_contract",
            "--rootdir",
            folder,
            "-q",
            "-W",
            "ignore",
            *args,
        ]
        return subprocess.run([*command, "test_models.py"], cwd=folder, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
