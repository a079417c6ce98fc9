"""The zoo's one table: a row per variant, with the report it comes from and the weights that were trained for it.

Adding a variant is adding a row to `VARIANTS`; adding weights is adding a `Weights` to its row. timm's registry, the
tests, the README's table, the documentation and the cards follow.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from .checks import did_you_mean
from .rows import Reported, Variant, Weights
from .spec import ResNetSpec

REPORTS: Mapping[str, str] = MappingProxyType(
    {
        "R0": "G. Bandlamudi, R. Sankaranarayanan, V. M. Santhoshkumar: "
        "Modified residual network (ResNet) architectures for CIFAR10 image classification",
        "R1": "A. Zhou, E. Edme, A. S. Z. Khan: CIFAR-10 Image Classification Using Residual Network (ResNet) "
        "Architecture",
        "R2": "A. Aggarwal, A. Tiwari: Deep learning mini project (customized ResNet for CIFAR-10)",
        "R3": "L. Yuan, X. Zhang: Report For Deep Learning Mini-Project (self-modified ResNets for CIFAR-10)",
        "R4": "A. Kunkolienker, A. Upadhyay: Custom Deep Residual Network for CIFAR-10",
    }
)


def _basic(B: list[int], C: list[int], P: int, **options: Any) -> ResNetSpec:
    return ResNetSpec.from_letters(len(B), B, C, 3, 1, P, **options)


def _bottleneck(B: list[int]) -> ResNetSpec:
    return ResNetSpec.from_letters(4, B, [64, 128, 256, 512], 3, 1, 4, block="bottleneck")


_DEEP8 = [16, 32, 64, 96, 128, 156, 192, 220]

_ROWS = (
    Variant(
        "resnet9_cifar",
        _basic([1, 1, 1, 1], [64, 128, 256, 512], P=4),
        params=4_903_242,
        report="R1, R3",
        reported_params="4,903,242",
        reported=(Reported("R1", 92.0), Reported("R3-V1-sgd", 86.45), Reported("R3-V1-adam", 88.42)),
        note="R1's text says one residual layer; its parameter count proves four.",
        weights=(
            Weights(
                tag="prog37_c10",
                sha256="8f5097ce7ff75db531a48aaa29c15147e40047cc1e0dbb8366ce4ca284be965b",
                top1=93.40,
                top1_flip=93.81,
                ece=8.68,
                seeds=(93.40,),
                recipe={
                    "command": "examples/train.py --model resnet9_cifar --model-args '{\"pretrained\": true}' --seed 1 "
                    "--epochs 12 --sizes 24x9 --lr 0.1 --warmup 0.15 --crop 3 --eval-every 3 --fast --compile",
                    "starts_from": "the weights that this commit bundles, of the 25 epochs in "
                    "docs/logs/resnet9_cifar.prog25_c10.json: examples/train.py --model resnet9_cifar --epochs 25 "
                    "--sizes 16x12,24x10 --crop 3 --eval-every 6 --fast --compile; 7,896 seconds, commit b8c16b2",
                    "epochs": 12,
                    "seed": 1,
                    "hardware": "1 x AMD EPYC, 2 threads each",
                    "seconds": 5683,
                    "torch": "2.15.0+cu132",
                    "commit": "efb8aa5",
                    "remark": "the machine was busy with other work for a part of the time",
                },
                log="docs/logs/resnet9_cifar.prog37_c10.json",
            ),
        ),
    ),
    Variant(
        "resnet18_slim_cifar",
        _basic([2, 2, 2, 2], [64, 128, 128, 128], P=4),
        params=1_891_658,
        report="R3",
        reported_params="1,891,658",
        reported=(Reported("R3-V2-sgd", 94.21), Reported("R3-V2-adam", 90.98)),
        note="R3's figure 13 prints a 7x7 stem; its parameter count proves 3x3.",
    ),
    Variant(
        "resnet24_sestem_cifar",
        # One squeeze-and-excitation after the stem and none in the blocks: only so do R2's 4,697,742 come out.
        _basic([4, 4, 3], [64, 128, 256], P=8, se="stem"),
        params=4_697_742,
        report="R2",
        reported_params="4,697,742",
        reported=(Reported("R2", 85.39), Reported("R2-plain", 85.39)),
        note="R2's text says that 85.39 came without augmentation and normalization, its table says with.",
        weights=(
            Weights(
                tag="grown3_c10",
                sha256="71c9d7f7f043e6197fd8ab5cfa39868bce236dac5e9af01c224dc4c67aecf049",
                top1=91.61,
                top1_flip=92.12,
                ece=10.72,
                seeds=(91.61,),
                recipe={
                    "command": "examples/train.py --model resnet24_sestem_cifar --model-args "
                    '\'{"checkpoint_path": "resnet24.safetensors"}\' --epochs 3 --sizes 20x2 --batch-size 128 --lr '
                    "0.08 --warmup 0.1 --crop 3 --eval-every 3 --fast --compile",
                    "starts_from": "resnet9_cifar.prog37_c10, its stem and first three stages: "
                    "examples/grow.py resnet24_sestem_cifar --start resnet9_cifar --out resnet24.safetensors",
                    "epochs": 3,
                    "seed": 0,
                    "hardware": "1 x Intel(R) Xeon(R) Processor, 1 threads each",
                    "continued": [{"after_epoch": 2, "hardware": "1 x Intel(R) Xeon(R) Processor, 2 threads each"}],
                    "seconds": 2908,
                    "torch": "2.15.0+cu132",
                    "commit": "bf12c74",
                    "remark": "stopped after three epochs, which took 48 minutes on this processor; a longer training "
                    "is expected to give more",
                },
                log="docs/logs/resnet24_sestem_cifar.grown3_c10.json",
            ),
        ),
    ),
    Variant(
        "resnet26_cifar",
        _basic([3, 3, 3, 3], [32, 64, 128, 256], P=4),
        params=4_366_250,
        report="R0",
        reported_params="4,366,250",
        reported=(
            Reported("R0-initial", 84.69),
            Reported("R0-adam", 90.46),
            Reported("R0-sgd", 92.38),
            Reported("R0-adagrad", 85.52),
            Reported("R0-rmsprop", 89.69),
        ),
        note='"Initial" differs from "modified initial" in its initialization alone (init="he").',
        weights=(
            Weights(
                tag="grown9_c10",
                sha256="4caaaa784567b6b10c73a7b573145ae4bbbfad42c2828547b9ef0ba1cccae817",
                top1=92.76,
                top1_flip=93.53,
                ece=6.4,
                seeds=(92.76,),
                recipe={
                    "command": "examples/train.py --model resnet26_cifar --model-args "
                    '\'{"checkpoint_path": "resnet26.safetensors"}\' --epochs 9 --sizes 24x5 --lr 0.1 --warmup 0.15 '
                    "--crop 3 --eval-every 9 --fast --compile",
                    "starts_from": "seresnet26_cifar.grown8_c10, all but its squeeze-and-excitations: "
                    "examples/grow.py resnet26_cifar --start seresnet26_cifar --out resnet26.safetensors",
                    "epochs": 9,
                    "seed": 0,
                    "hardware": "1 x AMD EPYC, 1 threads each",
                    "seconds": 7898,
                    "torch": "2.15.0+cu132",
                    "commit": "3f77df8",
                    "remark": "other work ran on the machine's second core, and the run stood still for some minutes, "
                    "which its seconds include",
                },
                log="docs/logs/resnet26_cifar.grown9_c10.json",
            ),
        ),
    ),
    Variant(
        "seresnet26_cifar",
        _basic([3, 3, 3, 3], [32, 64, 128, 256], P=4, se="block", se_bias=False),
        params=4_398_890,
        report="R4",
        reported_params="4,398,890",
        reported=(Reported("R4", 90.74),),
        note="R4 measured on augmented test images.",
        weights=(
            Weights(
                tag="grown8_c10",
                sha256="84657e22314e1efbd25edda1d002a1041fed2e205c17236b31ad86c4170f3772",
                top1=92.31,
                top1_flip=93.05,
                ece=6.86,
                seeds=(92.31,),
                recipe={
                    "command": "examples/train.py --model seresnet26_cifar --model-args "
                    '\'{"checkpoint_path": "seresnet26.safetensors"}\' --epochs 8 --sizes 24x5 --lr 0.1 --warmup 0.15 '
                    "--crop 3 --eval-every 4 --fast --compile",
                    "starts_from": "seresnet20_cifar.prog19_c10, its three layers: examples/grow.py seresnet26_cifar "
                    "--start seresnet20_cifar --out seresnet26.safetensors",
                    "epochs": 8,
                    "seed": 0,
                    "hardware": "1 x AMD EPYC, 1 threads each",
                    "seconds": 5683,
                    "torch": "2.15.0+cu132",
                    "commit": "a6932ba",
                    "remark": "other trainings ran on the machine's second core",
                },
                log="docs/logs/seresnet26_cifar.grown8_c10.json",
            ),
        ),
    ),
    Variant(
        "seresnet20_cifar",
        _basic([3, 3, 3], [32, 64, 128], P=8, se="block", se_bias=False),
        params=1_092_650,
        report="R4",
        reported_params="approximately 0.6 million",
        reported=(Reported("R4-base", 88.0),),
        note="R4 says that its final net is this one plus a fourth layer, which gives 1,092,650 parameters; "
        "no natural configuration gives its 0.6 million.",
        weights=(
            Weights(
                tag="prog19_c10",
                sha256="5ace721e68d766f2d525950e5ac88508027b2b3338b675a366dd687d7bc4721e",
                top1=91.68,
                top1_flip=92.16,
                ece=9.01,
                seeds=(91.68,),
                recipe={
                    "command": "examples/train.py --model seresnet20_cifar --epochs 19 --sizes 16x9,24x8 --crop 3 "
                    "--eval-every 9 --fast --compile",
                    "epochs": 19,
                    "seed": 0,
                    "hardware": "1 x AMD EPYC, 1 threads each",
                    "seconds": 6810,
                    "torch": "2.15.0+cu132",
                    "commit": "0ef690b",
                    "remark": "another training ran on the machine's second core",
                },
                log="docs/logs/seresnet20_cifar.prog19_c10.json",
            ),
        ),
    ),
    Variant(
        "resnet14_cifar",
        _basic([2, 2, 2], [64, 156, 220], P=8),
        params=2_562_706,
        report="R0",
        reported_params="2.56M",
        reported=(Reported("R0-shallow", 93.06),),
        note="R0's table says 2.56M, its text 2.5M.",
    ),
    Variant(
        "resnet34_deep8_cifar",
        _basic([2] * 8, _DEEP8, P=1, strides=[1, 2, 2, 2, 2, 2, 2, 2]),
        params=4_941_058,
        report="R0",
        reported_params="4.95M",
        reported=(Reported("R0-deep", 89.19),),
        note="R0's table and text swap the two deep nets' accuracies (89.19 and 91.46); the table's is given. "
        "The map shrinks to 1x1.",
        weights=(
            Weights(
                tag="prog34_c10",
                sha256="49053dbda1692ef8a0da4674bbcd8a556ae1e4d9db40285948bca4a2c0ebf52e",
                top1=90.34,
                top1_flip=91.32,
                ece=6.61,
                seeds=(90.34,),
                recipe={
                    "command": "examples/train.py --model resnet34_deep8_cifar --epochs 34 --sizes 24x27 "
                    "--eval-every 17 --fast --compile",
                    "epochs": 34,
                    "seed": 0,
                    "hardware": "1 x AMD EPYC, 1 threads each",
                    "seconds": 6240,
                    "torch": "2.15.0+cu132",
                    "commit": "0ef690b",
                    "remark": "another training ran on the machine's second core",
                },
                log="docs/logs/resnet34_deep8_cifar.prog34_c10.json",
            ),
        ),
    ),
    Variant(
        "resnet34_deep8_alt_cifar",
        # P=1 keeps the final 2x2 map, which is flattened: 4,947,658, R0's 4.95M; a global pool gives 4,941,058.
        _basic([2] * 8, _DEEP8, P=1, strides=[1, 2, 1, 2, 1, 2, 1, 2]),
        params=4_947_658,
        report="R0",
        reported_params="4.95M",
        reported=(Reported("R0-deep-alt", 91.46),),
        note="R0's table and text swap the two deep nets' accuracies (91.46 and 89.19); the table's is given.",
        weights=(
            Weights(
                tag="grown22_c10",
                sha256="69203648496c3c4099a551aaab9623b772579c324e76eaa1ff2238de619c866f",
                top1=91.78,
                top1_flip=92.33,
                ece=6.58,
                seeds=(91.78,),
                recipe={
                    "command": "examples/train.py --model resnet34_deep8_alt_cifar --model-args "
                    '\'{"checkpoint_path": "alt12.safetensors"}\' --seed 2 --epochs 10 --sizes 24x6 --lr 0.1 '
                    "--warmup 0.15 --crop 3 --eval-every 10 --fast --compile",
                    "starts_from": "the 12 epochs in docs/logs/resnet34_deep8_alt_cifar.grown12_c10.json: "
                    "examples/train.py --model resnet34_deep8_alt_cifar --model-args "
                    '\'{"checkpoint_path": "deep8_alt.safetensors"}\' --epochs 12 --sizes 24x9 --lr 0.1 --warmup 0.15 '
                    "--crop 3 --eval-every 6 --fast --compile; 5,777 seconds, commit a6932ba. These start from all of "
                    "resnet34_deep8_cifar.prog34_c10: examples/grow.py resnet34_deep8_alt_cifar "
                    "--start resnet34_deep8_cifar --out deep8_alt.safetensors",
                    "epochs": 10,
                    "seed": 2,
                    "hardware": "1 x AMD EPYC, 1 threads each",
                    "seconds": 5008,
                    "torch": "2.15.0+cu132",
                    "commit": "a6932ba",
                    "remark": "other trainings ran on the machine's second core; the 12 epochs ended at 91.37 % on the "
                    "test set, under the report's 91.46 %, and so the training went on; another continuation, of 3 "
                    "epochs, gave 91.09 %",
                },
                log="docs/logs/resnet34_deep8_alt_cifar.grown22_c10.json",
            ),
        ),
    ),
    Variant(
        "resnet18_cifar",
        _basic([2, 2, 2, 2], [64, 128, 256, 512], P=4),
        params=11_173_962,
        report="R0, R2, R3",
        reported_params="11,173,962",
        reported=(Reported("R0-base", 86.8), Reported("R3-18", 86.14)),
    ),
    Variant(
        "resnet34_cifar",
        _basic([3, 4, 6, 3], [64, 128, 256, 512], P=4),
        params=21_282_122,
        report="R3",
        reported_params="",
        reported=(Reported("R3-34", 89.83),),
    ),
    Variant(
        "resnet50_cifar",
        _bottleneck([3, 4, 6, 3]),
        params=23_520_842,
        report="R3",
        reported_params="",
        reported=(),
        note="R3 names the network without a figure.",
    ),
    Variant(
        "resnet101_cifar",
        _bottleneck([3, 4, 23, 3]),
        params=42_512_970,
        report="R3",
        reported_params="",
        reported=(Reported("R3-101", 90.66),),
    ),
    Variant(
        "resnet152_cifar",
        _bottleneck([3, 8, 36, 3]),
        params=58_156_618,
        report="R3",
        reported_params="",
        reported=(Reported("R3-152", 90.85),),
    ),
    # The budgetnet line: the best network of the family that was found for each budget of parameters.
    Variant(
        "budgetnet_100k_cifar",
        ResNetSpec.from_letters(3, [2, 2, 1], [24, 32, 48], 3, 1, 4),
        params=95_586,
        budget=100_000,
        note="The best on a hold-out of the candidates that docs/logs/choice compares.",
        weights=(
            Weights(
                tag="prog99_c10",
                sha256="d2c406361682eff4ed5480582216c8164a435e43d48610aa689dc833c837d0ed",
                top1=90.31,
                top1_flip=91.05,
                ece=1.29,
                seeds=(90.31,),
                recipe={
                    "command": "examples/train.py --model budgetnet_100k_cifar --epochs 99 --sizes 16x50,24x45 "
                    "--batch-size 128 --lr 0.1 --weight-decay 0.0002 --smoothing 0.0 --crop 3 --eval-every 33 --fast "
                    "--compile",
                    "epochs": 99,
                    "seed": 0,
                    "hardware": "1 x Intel(R) Xeon(R) Processor, 1 threads each",
                    "seconds": 7363,
                    "torch": "2.15.0+cu132",
                    "commit": "e66fefe",
                    "remark": "other work ran on the machine's second core, and some on this one; the network was "
                    "chosen by the hold-out of the comparisons that end at 24 pixels, looked at in that size too; "
                    "those that end at full size, which bear it out, were made while it was trained",
                },
                log="docs/logs/budgetnet_100k_cifar.prog99_c10.json",
            ),
        ),
    ),
)

VARIANTS: Mapping[str, Variant] = MappingProxyType({row.name: row for row in _ROWS})


def find_variant(name: str) -> Variant:
    """Return the row of a variant, by its name with or without a weights' tag.

    Raises:
        ValueError: an unknown name, answered with the nearest known one.
    """
    if not isinstance(name, str):
        raise TypeError(f"name={name!r} must be a variant's name, a string such as 'resnet9_cifar'")
    bare = name.partition(".")[0]
    if bare not in VARIANTS:
        if os.path.isdir(name):
            raise ValueError(f"{name!r} is a folder, not a variant; for the network in it, write 'local-dir:{name}'")
        raise ValueError(f"unknown variant {name!r}{did_you_mean(bare, VARIANTS)} There are {', '.join(VARIANTS)}")
    return VARIANTS[bare]


def find_weights(name: str) -> Weights | None:
    """Return the card of the weights that a name means: those of its tag, else the variant's default, if it has any.

    Raises:
        ValueError: an unknown variant or tag.
    """
    row = find_variant(name)
    tag = name.partition(".")[2]
    if not tag:
        return row.weights[0] if row.weights else None
    for weights in row.weights:
        if weights.tag == tag:
            return weights
    tags = [weights.tag for weights in row.weights]
    known = f"it has {', '.join(tags)}" if tags else "it has no trained weights yet"
    raise ValueError(f"{row.name} has no weights tagged {tag!r}; {known}")
