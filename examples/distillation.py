"""Distillation: a network learns from a larger one's answers beside the labels.

Hinton et al. 2015 (arXiv 1503.02531). Both see the same augmented images (Beyer et al. 2022, arXiv 2106.05237).
"""

import sys

import cifar
import torch
import torch.nn.functional as F
import trained

import budgetnets


def make_loss(args, accelerator):
    """Return a function of a batch's loss, logits (B, 10) and images that returns the loss to descend by.

    With a teacher it is (1 - d) loss + d T^2 KL(teacher, network), both softened by the temperature T, else the loss.
    """
    if not args.teacher:
        return lambda loss, logits, images: loss
    teacher = load_teacher(args).to(accelerator.device).requires_grad_(False)
    if isinstance(teacher, budgetnets.BudgetResNet):  # and not another network of timm's
        teacher = budgetnets.optimize_for_inference(teacher)
    if args.compile:
        teacher = torch.compile(teacher, dynamic=False)
    share, warmth = args.distill, args.temperature

    def distilled(loss, logits, images):
        with torch.no_grad(), accelerator.autocast():
            answers = teacher(images).float()
        softened = [F.log_softmax(x / warmth, 1) for x in (logits, answers)]
        return (1 - share) * loss + share * warmth**2 * F.kl_div(*softened, reduction="batchmean", log_target=True)

    return distilled


def load_teacher(args):
    """Return the network that --teacher names; exit if it saw what this run holds out, or takes other images."""
    model, taught = trained.load("--teacher", args.teacher)
    if args.holdout and not taught["fresh"]:
        sys.exit(
            f"--teacher {args.teacher} began with trained weights, which may have seen the images that --holdout "
            f"{args.holdout} keeps apart; give a run's folder that began with random ones"
        )
    # Which images are held out depends on how many there are.
    if taught["holdout"] != args.holdout or (args.holdout and taught["limit"] != args.limit):
        sys.exit(
            f"--teacher {args.teacher} was trained with --holdout {taught['holdout']} --limit {taught['limit']}, this "
            f"run has --holdout {args.holdout} --limit {args.limit}. A teacher that saw the held-out images tells of "
            "them; give a run's folder with the same"
        )
    for name, own in zip(("mean", "std"), cifar.mean_and_std(args), strict=True):
        if own != taught[name]:
            figures = ",".join(map(str, taught[name]))
            sys.exit(f"--teacher {args.teacher} takes images of another {name}; add --{name} {figures}")
    return model
