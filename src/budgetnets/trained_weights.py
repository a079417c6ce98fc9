"""The zoo's trained weights: a card for each file, by variant, the default first.

Adding weights is adding a `Weights` here, as benchmarks/bundle_weights.py prints it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .rows import Weights

TRAINED: Mapping[str, tuple[Weights, ...]] = MappingProxyType(
    {
        "resnet9_cifar": (
            Weights(
                tag="trivial123_c10",
                sha256="ba08e1ca3ff103fa7c792f8bfc66979fa8ef26d734b0f14be227a72c2ef73830",
                top1=95.51,
                top1_flip=95.67,
                ece=8.49,
                seeds=(95.51,),
                recipe={
                    "command": "examples/train.py --model resnet9_cifar --seed 1 --epochs 123 --sizes 24x49 "
                    "--batch-size 512 --lr 0.4 --warmup 0.1 --auto-augment trivial --eval-every 10 "
                    "--fast --precision bf16 --compile --compile-mode reduce-overhead",
                    "epochs": 123,
                    "seed": 1,
                    "hardware": "1 x NVIDIA H200, 2 threads each",
                    "seconds": 170,
                    "torch": "2.11.0+cu130",
                    "commit": "ba15122",
                    "remark": "two other trainings ran on the same GPU, within these seconds",
                },
                log="docs/logs/resnet9_cifar.trivial123_c10.json",
            ),
        ),
        "resnet18_slim_cifar": (
            Weights(
                tag="trivial69_c10",
                sha256="0e4a10bb7b4957308794fbfa0d297f9f2617872eedc921256580e91c70079071",
                top1=95.3,
                top1_flip=95.5,
                ece=7.78,
                seeds=(95.3,),
                recipe={
                    "command": "examples/train.py --model resnet18_slim_cifar --seed 1 --epochs 69 --sizes 24x27 "
                    "--batch-size 512 --lr 0.4 --warmup 0.1 --auto-augment trivial --eval-every 10 "
                    "--fast --precision bf16 --compile --compile-mode reduce-overhead",
                    "epochs": 69,
                    "seed": 1,
                    "hardware": "1 x NVIDIA H200, 2 threads each",
                    "seconds": 98,
                    "torch": "2.11.0+cu130",
                    "commit": "ba15122",
                    "remark": "two other trainings ran on the same GPU, within these seconds",
                },
                log="docs/logs/resnet18_slim_cifar.trivial69_c10.json",
            ),
        ),
        "resnet24_sestem_cifar": (
            Weights(
                tag="trivial103_c10",
                sha256="7c5293e02b147511acc68984ad90e3234dd22d3ff64997a6f71d3cf9c20062c1",
                top1=96.25,
                top1_flip=96.61,
                ece=7.85,
                seeds=(96.25,),
                recipe={
                    "command": "examples/train.py --model resnet24_sestem_cifar --seed 1 --epochs 103 --sizes "
                    "24x41 --batch-size 512 --lr 0.4 --warmup 0.1 --auto-augment trivial --eval-every "
                    "10 --fast --precision bf16 --compile --compile-mode reduce-overhead",
                    "epochs": 103,
                    "seed": 1,
                    "hardware": "1 x NVIDIA H200, 2 threads each",
                    "seconds": 222,
                    "torch": "2.11.0+cu130",
                    "commit": "ba15122",
                    "remark": "two other trainings ran on the same GPU, within these seconds",
                },
                log="docs/logs/resnet24_sestem_cifar.trivial103_c10.json",
            ),
        ),
        "resnet26_cifar": (
            Weights(
                tag="trivial69_c10",
                sha256="8e3b0db008ab8a07c1de93033e298496b0586001a55042028b7e157188ecdd14",
                top1=94.8,
                top1_flip=95.09,
                ece=7.23,
                seeds=(94.8,),
                recipe={
                    "command": "examples/train.py --model resnet26_cifar --seed 1 --epochs 69 --sizes 24x27 "
                    "--batch-size 512 --lr 0.4 --warmup 0.1 --auto-augment trivial --eval-every 10 "
                    "--fast --precision bf16 --compile --compile-mode reduce-overhead",
                    "epochs": 69,
                    "seed": 1,
                    "hardware": "1 x NVIDIA H200, 2 threads each",
                    "seconds": 102,
                    "torch": "2.11.0+cu130",
                    "commit": "ba15122",
                    "remark": "two other trainings ran on the same GPU, within these seconds",
                },
                log="docs/logs/resnet26_cifar.trivial69_c10.json",
            ),
        ),
        "seresnet26_cifar": (
            Weights(
                tag="trivial72_c10",
                sha256="2c0c94965b2c51c0ac8b6b366e19bba0d3095073b9028ca1a137f62421acacc0",
                top1=94.92,
                top1_flip=95.26,
                ece=7.34,
                seeds=(94.92,),
                recipe={
                    "command": "examples/train.py --model seresnet26_cifar --seed 1 --epochs 72 --sizes 24x28 "
                    "--batch-size 512 --lr 0.4 --warmup 0.1 --auto-augment trivial --eval-every 10 "
                    "--fast --precision bf16 --compile --compile-mode reduce-overhead",
                    "epochs": 72,
                    "seed": 1,
                    "hardware": "1 x NVIDIA H200, 2 threads each",
                    "seconds": 123,
                    "torch": "2.11.0+cu130",
                    "commit": "ba15122",
                    "remark": "two other trainings ran on the same GPU, within these seconds",
                },
                log="docs/logs/seresnet26_cifar.trivial72_c10.json",
            ),
        ),
        "seresnet20_cifar": (
            Weights(
                tag="cutout62_c10",
                sha256="d931ea3a31674b55c8bf033ca661d456bc72935f68bff90ba89237751c23aa96",
                top1=94.51,
                top1_flip=95.1,
                ece=7.01,
                seeds=(94.51,),
                recipe={
                    "command": "examples/train.py --model seresnet20_cifar --seed 1 --epochs 62 --sizes 24x24 "
                    "--batch-size 512 --lr 0.4 --warmup 0.1 --cutout 0.5 --eval-every 10 --fast "
                    "--precision bf16 --compile --compile-mode reduce-overhead",
                    "epochs": 62,
                    "seed": 1,
                    "hardware": "1 x NVIDIA H200, 2 threads each",
                    "seconds": 81,
                    "torch": "2.11.0+cu130",
                    "commit": "ba15122",
                    "remark": "two other trainings ran on the same GPU, within these seconds",
                },
                log="docs/logs/seresnet20_cifar.cutout62_c10.json",
            ),
        ),
        "resnet14_cifar": (
            Weights(
                tag="trivial113_c10",
                sha256="0597ac450729cc2a330f57560bed600aa898cf5f1acdd179f7b553f2a51a45fa",
                top1=96.21,
                top1_flip=96.4,
                ece=8.2,
                seeds=(96.21,),
                recipe={
                    "command": "examples/train.py --model resnet14_cifar --seed 1 --epochs 113 --sizes 24x45 "
                    "--batch-size 512 --lr 0.4 --warmup 0.1 --auto-augment trivial --eval-every 10 "
                    "--fast --precision bf16 --compile --compile-mode reduce-overhead",
                    "epochs": 113,
                    "seed": 1,
                    "hardware": "1 x NVIDIA H200, 2 threads each",
                    "seconds": 224,
                    "torch": "2.11.0+cu130",
                    "commit": "ba15122",
                    "remark": "two other trainings ran on the same GPU, within these seconds",
                },
                log="docs/logs/resnet14_cifar.trivial113_c10.json",
            ),
        ),
        "resnet34_deep8_cifar": (
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
        "resnet34_deep8_alt_cifar": (
            Weights(
                tag="trivial52_c10",
                sha256="5047cd5fc0ab6007aa37f9c9776434e1351ba74d8a0325eb39458c2f1ba2b5a0",
                top1=92.59,
                top1_flip=93.14,
                ece=7.04,
                seeds=(92.59,),
                recipe={
                    "command": "examples/train.py --model resnet34_deep8_alt_cifar --seed 1 --epochs 52 --sizes "
                    "24x20 --batch-size 512 --lr 0.4 --warmup 0.1 --auto-augment trivial --eval-every "
                    "10 --fast --precision bf16 --compile --compile-mode reduce-overhead",
                    "epochs": 52,
                    "seed": 1,
                    "hardware": "1 x NVIDIA H200, 2 threads each",
                    "seconds": 83,
                    "torch": "2.11.0+cu130",
                    "commit": "ba15122",
                    "remark": "two other trainings ran on the same GPU, within these seconds",
                },
                log="docs/logs/resnet34_deep8_alt_cifar.trivial52_c10.json",
            ),
        ),
        "budgetnet_100k_cifar": (
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
                    "remark": "other work ran on the machine's second core, and some on this one; the comparisons in "
                    "docs/logs/choice that end at full size were made while this was in training already, so they did "
                    "not choose it",
                },
                log="docs/logs/budgetnet_100k_cifar.prog99_c10.json",
            ),
        ),
        "budgetnet_300k_cifar": (
            Weights(
                tag="cutout64_c10",
                sha256="b1c52f9e93072cef6eb28b4324791bbd5d4fd6fac4491b8d692f519e7c17ddc2",
                top1=93.34,
                top1_flip=93.81,
                ece=7.85,
                seeds=(93.34,),
                recipe={
                    "command": "examples/train.py --model budgetnet_300k_cifar --seed 1 --epochs 64 --sizes 24x25 "
                    "--batch-size 512 --lr 0.4 --warmup 0.1 --cutout 0.5 --eval-every 10 --fast "
                    "--precision bf16 --compile --compile-mode reduce-overhead",
                    "epochs": 64,
                    "seed": 1,
                    "hardware": "1 x NVIDIA H200, 2 threads each",
                    "seconds": 47,
                    "torch": "2.11.0+cu130",
                    "commit": "ba15122",
                    "remark": "two other trainings ran on the same GPU, within these seconds",
                },
                log="docs/logs/budgetnet_300k_cifar.cutout64_c10.json",
            ),
        ),
    }
)
