"""Train a network of the family on CIFAR-10: the reference train function, to be read from top to bottom.

    python examples/train.py --model resnet9_cifar --data DIR --out runs/resnet9
    python examples/train.py --recipe R3-V2-sgd --data DIR --out runs/R3-V2-sgd
    torchrun --nproc-per-node 8 examples/train.py --model resnet9_cifar --precision bf16 --out runs/resnet9

It runs on a CPU, on one GPU, or under torchrun on several processes and machines. The run's folder gets log.json (every
epoch), curves.png, config.json and model.safetensors, which load as local-dir:runs/resnet9, and checkpoint.pt; each is
replaced whole: a kill costs an epoch, `--resume` goes on to the same numbers. Needs `pip install "budgetnets[train]"`.
"""

import argparse
import contextlib
import time
from pathlib import Path

import cifar
import distillation
import fast_data
import numerics
import recipes
import run_folder
import sam
import torch
import torch.nn.functional as F
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import set_seed
from timm.data import Mixup
from timm.utils import ModelEmaV3
from tqdm import tqdm

import budgetnets  # noqa: F401  registers the variants with timm

OPTIONS = [  # name, default (which gives the type), meaning
    ("recipe", "", "the values of a report's run, where no option here says otherwise; list: show them"),
    ("model", "resnet9_cifar", "a variant, or budget_resnet with --model-args"),
    ("model-args", "{}", 'JSON such as \'{"N": 2, "B": 1, "C": [32, 64]}\''),
    ("data", "data", "folder with (or for) CIFAR-10; 'fake': noise images, to try the script"),
    ("out", "", "the run's folder"),
    ("resume", False, "go on with the run in --out, where there is one"),
    ("seed", 0, "of initialization, order and augmentation"),
    ("epochs", 32, "passes over the training images"),
    ("sizes", "", "smaller images for the first epochs: 16x6,24x19 is 6 epochs at 16 pixels, then 19 at 24"),
    ("batch-size", 256, "images per update, over all processes"),
    ("opt", "nesterov", "any optimizer of timm; momentum is SGD without Nesterov"),
    ("opt-args", "{}", "its other arguments, as JSON"),
    ("lr", 0.2, "learning rate at its peak"),
    ("momentum", 0.9, "of the optimizer"),
    ("weight-decay", 5e-4, "on convolutions and the classifier only"),
    ("decay-all", False, "weight decay on biases and norms too"),
    ("sched", "poly", "timm's, set every update (poly falls linearly to zero), or torch's, stepped every epoch"),
    ("sched-args", "{}", 'its arguments, as JSON: --sched StepLR takes {"step_size": 30}'),
    ("warmup", 0.2, "share of the run in which timm's learning rate rises from zero"),
    ("smoothing", 0.1, "of the labels"),
    ("ema", 0.998, "decay of the averaged weights, which are the result; 0: none"),
    ("sam", 0.0, "radius of sharpness-aware minimization, such as 0.05, at twice the cost; 0: none"),
    ("asam", 0.0, "radius of its adaptive form, such as 1; 0: none"),
    ("teacher", "", "learn from its answers too: a variant with weights, or the folder of a run"),
    ("distill", 0.5, "the teacher's share of the loss"),
    ("temperature", 2.0, "by which the logits of both are divided in that share"),
    ("clip", 0.0, "largest norm of the gradient; 0: any"),
    ("clip-value", 0.0, "largest single value of the gradient; 0: any"),
    ("crop", 4, "pixels that a random crop may be off"),
    ("pad", "reflect", "what it sees beyond the border: reflect or constant (black)"),
    ("flip", "alternating", "alternating (each image mirrored in every second epoch), random or none"),
    ("rotate", 0.0, "degrees that an image may be turned either way"),
    ("translate", 0.0, "share of its side that an image may be shifted, leaving black"),
    ("jitter", 0.0, "share by which brightness, contrast and saturation may change"),
    ("auto-augment", "", "timm's, such as rand-m6-n2-mstd0.5, or trivial (TrivialAugment)"),
    ("cutout", 0.0, "probability of a square of 16 pixels in the mean colour"),
    ("mixup", 0.0, "alpha; 0: none"),
    ("cutmix", 0.0, "alpha; 0: none; where mixup has one too, each batch takes either"),
    ("mix-prob", 1.0, "share of the batches that are mixed"),
    ("mix-until", 1.0, "share of the epochs in which they are; the rest see whole images"),
    ("mean", "0.4914,0.4822,0.4465", "of red, green and blue, which is taken from the pixels in 0..1"),
    ("std", "0.2470,0.2435,0.2616", "by which they are divided then"),
    ("holdout", 0, "training images kept apart and evaluated instead of the test set, which waits for the end"),
    ("test", "end", "when a hold-out lets the test set be evaluated: end, every (epoch; it chooses nothing) or never"),
    ("early-stop", 0, "stop when the hold-out got no better for so many epochs; 0: never"),
    ("keep-best", False, "the result is the best epoch on the hold-out, not the last"),
    ("reload-best", False, "each epoch starts from the best one on the hold-out so far, as R1 did"),
    ("choose-on", "holdout", "what these three go by; test: as some reports did, and no honest figure"),
    ("eval-every", 1, "epochs between evaluations; the last epoch always has one"),
    ("augment-eval", False, "evaluate on images augmented like those of the training, as R4 did"),
    ("limit", 0, "use only so many images of each set; 0: all"),
    ("fast", False, "keep all images on the device and augment them there in batches: fast_data.py"),
    ("workers", 1, "processes that load images, without --fast"),
    ("precision", "no", "no (fp32) or bf16"),
    ("compile", False, "with torch.compile"),
    ("compile-mode", "default", "its mode; reduce-overhead or max-autotune may be faster on a GPU"),
    ("cpu", False, "even where there is a GPU"),
    ("freeze-bn", False, "use BatchNorm's running statistics while training, and leave them as they are"),
]


def defaults():
    """Return the options' defaults by their names in args."""
    return {name.replace("-", "_"): default for name, default, _ in OPTIONS}


def parse_args(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default, meaning in OPTIONS:
        kind = {"action": argparse.BooleanOptionalAction} if default is False else {"type": type(default)}
        p.add_argument(f"--{name}", help=f"{meaning} [{default}]", default=default, **kind)
    return recipes.parse(p, argv)


@torch.inference_mode()
def evaluate(model, loader, accelerator):
    """Return top-1 accuracy in percent and mean loss."""
    model.eval()
    results = []
    for images, labels in loader:
        with accelerator.autocast():
            logits = model(images.to(memory_format=torch.channels_last)).float()
        hits, loss = logits.argmax(1) == labels, F.cross_entropy(logits, labels, reduction="none")
        results.append(accelerator.gather_for_metrics(torch.stack([hits.float(), loss], 1)))
    hits, loss = torch.cat(results).mean(0).tolist()
    return 100 * hits, loss


def train(args, accelerator):
    """Train as the options say, writing the run's files after every epoch."""
    out, checkpoint = Path(args.out), Path(args.out) / "checkpoint.pt"
    set_seed(args.seed)
    sampler, loader, holdout, test = (fast_data if args.fast else cifar).make_loaders(args, accelerator)
    model = recipes.make_model(args, accelerator.device)
    log, best = recipes.describe_run(args, accelerator, model), {"top1": -1.0, "epoch": 0, "state": None}
    config = accelerator.on_main_process(run_folder.config_of)(model, args, log["data"])
    layout = numerics.memory_format(model, accelerator.device)
    model = model.to(memory_format=layout)
    if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    ema = ModelEmaV3(model, decay=args.ema, use_warmup=True) if args.ema else None  # before Accelerate wraps the model
    optimizer = recipes.make_optimizer(args, model, accelerator.device)
    schedule = recipes.Schedule(args, optimizer, len(loader))
    mixing = {"prob": args.mix_prob, "label_smoothing": args.smoothing, "num_classes": 10}
    mix = Mixup(args.mixup, args.cutmix, **mixing) if args.mixup or args.cutmix else None
    distilled = distillation.make_loss(args, accelerator)
    model, optimizer = accelerator.prepare(model, optimizer)
    raw = accelerator.unwrap_model(model)
    result = ema.module if ema else raw
    parts = {"model": raw, "result": result, "optimizer": optimizer, "schedule": schedule}
    forward = torch.compile(model, dynamic=False, mode=args.compile_mode) if args.compile else model
    torch.backends.cudnn.benchmark = True  # all batches of a run have few shapes
    save_run = accelerator.on_main_process(run_folder.save_run)

    def backward(images, targets):
        logits = forward(images).float()
        loss = F.cross_entropy(logits, targets, label_smoothing=0.0 if mix else args.smoothing)
        loss = distilled(loss, logits, images)
        accelerator.backward(loss)
        numerics.clear(unseen)
        return logits.detach().clone(), loss.detach().clone()  # CUDA graphs write the next pass over the last one

    if args.sam or args.asam:
        backward = sam.sharpness_aware(backward, raw, args.sam or args.asam, adaptive=bool(args.asam))

    if checkpoint.exists():
        saved = run_folder.read_checkpoint(checkpoint)
        run_folder.refuse_changed(out, saved["log"], log)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        log, best = run_folder.continued(saved["log"], log), saved["best"]

    for epoch in range(len(log["epochs"]) + 1, args.epochs + 1):
        if run_folder.stopped_early(log):
            break
        started, last_step = time.perf_counter(), epoch * len(loader)
        set_seed(cifar.epoch_seed(args.seed, epoch - 1))  # of dropout and mixing
        sampler.epoch, size = epoch - 1, cifar.size_of_epoch(args.sizes, epoch - 1)
        unseen = numerics.unseen_taps(raw, size, accelerator)
        if args.reload_best and best["epoch"]:
            raw.load_state_dict(best["state"])  # the optimizer keeps its momentum
        if mix:
            mix.mixup_enabled = epoch <= args.mix_until * args.epochs
        model.train()
        for module in model.modules():
            if args.freeze_bn and isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()
        seen, totals = 0, torch.zeros(2, device=accelerator.device)  # images; hits and loss
        losses = []  # not yet looked at
        bar = tqdm(loader, f"epoch {epoch}/{args.epochs}", leave=False, disable=not accelerator.is_main_process)
        for step, (images, labels) in enumerate(bar, start=last_step - len(loader) + 1):
            schedule.before_update(step)
            images, targets = mix(images, labels) if mix else (images, labels)
            seen += len(labels)
            images = cifar.resized(images, size).to(memory_format=layout)
            logits, loss = backward(images, targets)
            losses.append((step, optimizer.param_groups[0]["lr"], loss))
            if step % 20 == 0 or step == last_step:  # a GPU must wait for it
                numerics.stop_unless_finite(losses)
                losses.clear()
            if args.clip:
                accelerator.clip_grad_norm_(model.parameters(), args.clip)
            if args.clip_value:
                accelerator.clip_grad_value_(model.parameters(), args.clip_value)
            optimizer.step()
            optimizer.zero_grad()
            if ema:
                ema.update(raw, step=step)
            totals += torch.stack([(logits.argmax(1) == labels).sum(), loss * len(labels)])
        numerics.share_statistics(accelerator, [raw, result])
        seen, hits, loss_sum = accelerator.reduce(torch.cat([totals.new_tensor([seen]), totals])).tolist()
        entry = {"epoch": epoch, "size": size, "lr": optimizer.param_groups[0]["lr"], "train_loss": loss_sum / seen}
        entry |= {"train_top1": 100 * hits / seen, "train_seconds": round(time.perf_counter() - started, 1)}

        if epoch % args.eval_every == 0 or epoch == args.epochs:
            entry["eval_top1"], entry["eval_loss"] = evaluate(result, holdout if args.holdout else test, accelerator)
            numerics.stop_unless_finite([(last_step, entry["lr"], entry["eval_loss"])])  # the last update's doing
            if args.test == "every":
                entry["test_top1"], entry["test_loss"] = evaluate(result, test, accelerator)
            if entry["eval_top1"] > best["top1"]:
                keep = args.keep_best or args.reload_best
                state = {name: value.cpu().clone() for name, value in result.state_dict().items()} if keep else None
                best = {"top1": entry["eval_top1"], "epoch": epoch, "state": state}
        schedule.after_epoch(entry)
        log["epochs"].append(entry)
        save_run(out, parts, config, log, best)
        accelerator.print(" ".join(f"{name} {value:.4g}" for name, value in entry.items()))

    # The end: where there is a hold-out, only now is the test set looked at; --test every changes nothing by it.
    if args.holdout or args.keep_best:
        log["kept_epoch"] = best["epoch"] if args.keep_best else len(log["epochs"])
        if args.keep_best:
            result.load_state_dict(best["state"])
        if args.test != "never":
            sampler.epoch = len(log["epochs"])  # if test images are augmented: once more, with other random numbers
            log["test_top1"], log["test_loss"] = evaluate(result, test, accelerator)
        save_run(out, parts, config, log, best)
    accelerator.on_main_process(run_folder.write_curves)(out, log)
    accelerator.end_training()


def main(argv=None):
    args = parse_args(argv)
    loading = DataLoaderConfiguration(split_batches=True)  # --batch-size is the sum over the processes
    cpu = args.cpu or not torch.accelerator.is_available()  # else torchrun's processes would not find each other
    accelerator = Accelerator(mixed_precision=args.precision, cpu=cpu, dataloader_config=loading)
    alone = run_folder.claimed(args.out, args.resume) if accelerator.is_main_process else contextlib.nullcontext()
    with alone:
        train(args, accelerator)


if __name__ == "__main__":
    main()
