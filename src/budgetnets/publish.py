"""Publishing: a network as a folder or a Hub repository, with a model card that is true and a snippet that runs."""

from __future__ import annotations

import copy
import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from .cards import card
from .hub import CONFIG_FILENAME, HUB_FILENAME
from .network import BudgetResNet
from .registry import create
from .state import WeightsIntegrity
from .variants import REPORTS, VARIANTS, Variant, Weights
from .weights import bundled_path

CARD_FILENAME = "README.md"

LIMITS = """\
The network saw 32x32 images of its training set's classes alone. It names one of them for any image, also for one that
shows none of them, and its probabilities were not calibrated. CIFAR-10's labels and their few mistakes come from its
authors."""


def save_pretrained(
    model: nn.Module,
    folder: str | Path,
    *,
    repo_id: str = "",
    class_names: Sequence[str] | None = None,
    dataset: str = "",
    top1: float | None = None,
    license: str = "apache-2.0",
) -> Path:
    """Write a network in the Hub's layout: config.json, model.safetensors and a model card.

    `budgetnets.create("local-dir:<folder>", pretrained=True)` and timm bring it back bit-equal. Files of the same names
    are replaced, each whole.

    Args:
        model: a network of the family.
        folder: made where it does not exist.
        repo_id: where it will be published, such as "me/my-net", for the card's snippet.
        class_names: what the outputs mean; None takes the network's own `class_names`.
        dataset: what it was trained on, for the card.
        top1: its accuracy in percent, measured on images that it was not trained or chosen on, for the card.
        license: of the weights, as the Hub names licenses.

    Returns:
        The folder.

    Raises:
        TypeError: not a network of the family.
        ValueError: another number of class names than classes, or an accuracy outside 0 to 100.
    """
    network = _checked_network(model)
    names = tuple(class_names if class_names is not None else network.class_names or ())
    if names and len(names) != network.num_classes:
        raise ValueError(f"{len(names)} class names for {network.num_classes} classes; give one for each output")
    if top1 is not None and not 0 <= top1 <= 100:
        raise ValueError(f"top1={top1!r} must be a percentage, 0 to 100")
    text = _user_card(network, repo_id or f"local-dir:{folder}", names, dataset, top1, license)
    _write_folder(network, Path(folder), names, text)
    return Path(folder)


def push_to_hub(
    model: nn.Module,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool = False,
    revision: str | None = None,
    commit_message: str = "Add a network made with budgetnets",
    **card_options: Any,
) -> str:
    """Publish a network as a Hub repository, made where it does not exist, and return the commit's address.

    Args:
        model: a network of the family.
        repo_id: "org/name".
        token: a Hub token that may write there; None takes the one of `hf auth login`.
        private: make the repository private if it is new.
        revision: the branch; None is main.
        commit_message: of the commit.
        **card_options: `class_names`, `dataset`, `top1` and `license`, as `save_pretrained` takes them.

    Raises:
        TypeError, ValueError: as `save_pretrained`; nothing was sent then.
        RuntimeError: the Hub refused, or could not be reached; the message says where and what to do.
    """
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, folder, repo_id=repo_id, **card_options)
        return _upload(Path(folder), repo_id, token, private, revision, commit_message)


def release(folder: str | Path, *, push: bool = False, token: str | None = None) -> list[Path]:
    """Write the Hub folder of every bundled weight file, check each by loading it again, and only then push them.

    A folder holds the bundled file byte for byte. Loaded through timm it must give the logits of
    `budgetnets.create(name, pretrained=True)` bit for bit. Each commit gets the weights' tag; the default weights of a
    variant are pushed last and so are what main holds.

    Args:
        folder: gets a subfolder for each `<variant>.<tag>`.
        push: publish; without it nothing leaves this machine.
        token: a Hub token that may write to the organization; None takes the one of `hf auth login`.

    Raises:
        WeightsIntegrity: a folder does not give the same logits; nothing was pushed then.
        RuntimeError: the Hub refused, or could not be reached.
    """
    jobs = [(row, weights) for row in VARIANTS.values() for weights in reversed(row.weights)]
    folders = [_write_release(Path(folder) / f"{row.name}.{weights.tag}", row, weights) for row, weights in jobs]
    if push:
        for (row, weights), written in zip(jobs, folders, strict=True):
            _upload(written, row.hub_repo, token, False, None, f"{row.name}.{weights.tag}", tag=weights.hub_revision)
    return folders


def _write_release(folder: Path, row: Variant, weights: Weights) -> Path:
    name = f"{row.name}.{weights.tag}"
    network = create(name, pretrained=True)
    assert isinstance(network, BudgetResNet)
    _write_folder(network, folder, weights.classes, _variant_card(row, weights))
    _replace(folder / HUB_FILENAME, bundled_path(row, weights).read_bytes())
    images = torch.randn(8, 3, row.spec.input_size, row.spec.input_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        again = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        equal = torch.equal(again(images), network(images))
    if not equal or hashlib.sha256((folder / HUB_FILENAME).read_bytes()).hexdigest() != weights.sha256:
        raise WeightsIntegrity(f"{name}: {folder}, loaded again, does not give the logits of the bundled weights.")
    return folder


def _checked_network(model: nn.Module) -> BudgetResNet:
    network = getattr(model, "_orig_mod", model)  # of a compiled network, the network
    if not isinstance(network, BudgetResNet):
        raise TypeError(
            f"a {type(network).__name__} is no network of the family; give what build_resnet or create returned "
            "(model.module of a wrapped one, and no features_only network)"
        )
    if network.spec is None:
        raise TypeError("the network was pruned to its stem, which nothing could build again; keep at least one stage")
    return network


def _write_folder(network: BudgetResNet, folder: Path, class_names: Sequence[str], text: str) -> None:
    from timm.models import save_for_hf

    folder.mkdir(parents=True, exist_ok=True)
    contiguous = copy.deepcopy(network).to(memory_format=torch.contiguous_format)  # safetensors takes nothing else
    labels = {"label_names": list(class_names)} if class_names else {}
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        save_for_hf(contiguous, scratch, model_config=labels, safe_serialization=True)
        for name in (CONFIG_FILENAME, HUB_FILENAME):
            _replace(folder / name, (Path(scratch) / name).read_bytes())
    _replace(folder / CARD_FILENAME, text.encode())


def _replace(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there, readable by all: a half-written one is never seen."""
    scratch = path.with_name(f".{path.name}.part")
    scratch.write_bytes(content)
    scratch.chmod(0o644)
    os.replace(scratch, path)


def _upload(
    folder: Path, repo_id: str, token: str | None, private: bool, revision: str | None, message: str, tag: str = ""
) -> str:
    from huggingface_hub import HfApi  # heavy, and only for publishing

    api = HfApi(token=token, library_name="budgetnets")
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id, folder_path=folder, revision=revision, commit_message=message, ignore_patterns=[".*"]
        )
        if tag:
            api.create_tag(repo_id, tag=tag, revision=commit.oid, exist_ok=True)
    except Exception as error:  # the client raises its HTTP library's own errors too, which are no OSError
        reason = (str(error).strip().splitlines() or ["no message"])[0]
        raise RuntimeError(
            f"{repo_id} could not be published ({type(error).__name__}: {reason}). Check name and network, and that "
            "the token may write there (hf auth login, or token=...). What was prepared is unharmed."
        ) from error
    return commit.commit_url


def _card_data(**data: Any) -> Any:
    from huggingface_hub import ModelCardData

    return ModelCardData(library_name="timm", pipeline_tag="image-classification", **data)


def _render(data: Any, body: str) -> str:
    from huggingface_hub import ModelCard

    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}"))


def _snippet(name: str, class_names: Sequence[str]) -> str:
    answer = "print(model.class_names[int(logits.argmax())])" if class_names else "print(int(logits.argmax()))"
    return f"""\
```python
import budgetnets  # also registers the architecture with timm
from PIL import Image

model = budgetnets.create("{name}", pretrained=True)  # in eval mode
image = Image.new("RGB", (640, 480), "skyblue")  # in place of Image.open(path)
logits = model(budgetnets.transforms(model)(image).unsqueeze(0))
{answer}
```"""


def _architecture(network_spec: Any) -> str:
    from .budget import spec_macs, spec_memory, spec_params

    return f"""\
```text
{network_spec}
```

- Parameters: {spec_params(network_spec):,}
- Multiply-adds for one image: {spec_macs(network_spec):,}
- Activations for one image in fp32, at their peak: {spec_memory(network_spec) / 1024:,.0f} KiB"""


def _variant_card(row: Variant, weights: Weights) -> str:
    from huggingface_hub import EvalResult

    name = f"{row.name}.{weights.tag}"
    result = EvalResult(
        task_type="image-classification",
        dataset_type="cifar10",
        dataset_name=weights.dataset,
        dataset_split="test",
        metric_type="accuracy",
        metric_name="top-1, one crop, last epoch",
        metric_value=weights.top1,
    )
    data = _card_data(
        license=weights.license,
        datasets=["cifar10"],
        tags=["budgetnets", "timm", "cifar10", "resnet"],
        model_name=name,
        eval_results=[result],
    )
    reported = "\n".join(f"- {r.top1:g} % in the report's run {r.run}" for r in row.reported)
    reports = "\n".join(f"- {key}: {REPORTS[key]}" for key in row.report.split(", "))
    note = f"\n\n{row.note}" if row.note else ""
    return _render(
        data,
        f"""\
# {name}

A residual network for 32x32 images, trained on {weights.dataset}; a variant of the budgetnets zoo.

{_snippet(f"hf-hub:{row.hub_repo}", weights.classes)}

`budgetnets.create("{row.name}", pretrained=True)` loads the same file, and checks its sha256.

## Architecture

{_architecture(row.spec)}

## Accuracy

Top-1 on {weights.dataset}'s test set: **{weights.top1:.2f} %**, or {weights.top1_flip:.2f} % with the logits of each
image and its mirror image added ({weights.mean_and_spread}); expected calibration error {weights.ece:.2f} %.
{card(name).provenance}.

{reported}

Those are the figures of the report, from its own training.{note}

Images are scaled to 0..1 and normalized with mean {weights.mean} and standard deviation {weights.std}.

## Limits

{LIMITS}

## Source

{reports}
""",
    )


def _user_card(
    network: BudgetResNet, name: str, class_names: Sequence[str], dataset: str, top1: float | None, license: str
) -> str:
    accuracy = f"\nTop-1 as its author gives it: {top1:.2f} %.\n" if top1 is not None else ""
    classes = f"\nClasses: {', '.join(class_names)}.\n" if class_names else ""
    source = name if ":" in name else f"hf-hub:{name}"
    return _render(
        _card_data(license=license, tags=["budgetnets", "timm", "resnet"]),
        f"""\
# {name.rpartition("/")[2]}

A residual network for small images, made with budgetnets{f" and trained on {dataset}" if dataset else ""}.

{_snippet(source, class_names)}
{classes}{accuracy}
## Architecture

{_architecture(network.spec)}
""",
    )
