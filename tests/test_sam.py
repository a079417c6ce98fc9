"""Claims about SAM and ASAM in the reference training: the papers' step, and nothing else of a run changes."""

import copy

import pytest
import torch
from training import DROPOUT, TINY, assert_resumes_after, entries, recipes, run, sam, train, weights

pytestmark = pytest.mark.usefixtures("train_in_process")
PLAIN = "--opt momentum --momentum 0 --weight-decay 0 --sched constant --warmup 0 --smoothing 0 --ema 0 --lr 1"
METHODS = pytest.mark.parametrize("method", ["--sam 0.05", "--asam 1"])


def trained(out, *options):
    """Train; return the log's epochs without the seconds, and the weights."""
    return entries(run(out, *options)), weights(out)


# --- the step


class Valley(torch.nn.Module):
    """The loss 1/2 sum of a w^2 of two weights and a bias, whose gradient is a w."""

    CURVATURE = torch.tensor([3.0, 1.0]), torch.tensor([2.0])

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        self.bias = torch.nn.Parameter(torch.tensor([0.5]))

    def backward(self):
        loss = sum((a * p**2).sum() / 2 for a, p in zip(self.CURVATURE, self.parameters(), strict=True))
        loss.backward()
        return loss.detach()


def gradients(model):
    return torch.cat([p.grad for p in model.parameters()])


def test_sams_gradient_is_the_closed_form_on_a_quadratic():
    """At w + rho g / |g| the gradient is a w (1 + rho a / |g|)."""
    model = Valley()
    loss = sam.sharpness_aware(model.backward, model, rho=0.1)()
    a, w = torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1.0, -2.0, 0.5])
    torch.testing.assert_close(gradients(model), a * w * (1 + 0.1 * a / 14**0.5))  # |g|^2 = 9 + 4 + 1
    assert loss == 3.75  # 1.5 + 2 + 0.25, at the weights themselves
    assert torch.cat([*model.parameters()]).tolist() == w.tolist()


def test_asams_gradient_is_the_closed_form_on_a_quadratic():
    """At w + rho T T g / |T g|, where T is |w| + 0.01 for weights and 1 for biases."""
    model = Valley()
    sam.sharpness_aware(model.backward, model, rho=0.5, adaptive=True)()
    a, w, t = torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1.0, -2.0, 0.5]), torch.tensor([1.01, 2.01, 1.0])
    g = a * w
    torch.testing.assert_close(gradients(model), a * (w + 0.5 * t**2 * g / (t * g).norm()))
    assert torch.cat([*model.parameters()]).tolist() == w.tolist()


def test_where_the_gradient_is_zero_nothing_moves():
    model = Valley()
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    sam.sharpness_aware(model.backward, model, rho=0.1)()
    assert gradients(model).tolist() == [0, 0, 0]


def test_both_passes_drop_the_same_units():
    drop, seen = torch.nn.Dropout(0.5), []
    model = torch.nn.Linear(1, 1)

    def backward():
        mask = drop(torch.ones(64))
        seen.append(mask)
        (model(torch.ones(1)) * mask.mean()).sum().backward()

    twice = sam.sharpness_aware(backward, model, rho=0.1)
    twice()
    twice()
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[2], seen[3])
    assert not torch.equal(seen[0], seen[2])


# --- a run


@pytest.fixture
def made(monkeypatch):
    """The networks that runs create, and the images and targets that they compute losses of."""
    found = {"models": [], "losses": []}
    create, loss = recipes.timm.create_model, train.F.cross_entropy

    def note(logits, targets, **options):
        if logits.requires_grad:
            found["losses"].append((logits.detach(), targets))
        return loss(logits, targets, **options)

    monkeypatch.setattr(
        recipes.timm, "create_model", lambda *a, **k: found["models"].append(create(*a, **k)) or found["models"][-1]
    )
    monkeypatch.setattr(train.F, "cross_entropy", note)
    return found


def one_step(tmp_path, monkeypatch, made, *options):
    """Make one update of gradient descent with rate 1; return the network before it, its images, and that after it."""
    batches, before = [], []
    resized = train.cifar.resized

    def note(images, size):
        batches.append(images)
        before.append(copy.deepcopy(made["models"][0]))
        return resized(images, size)

    monkeypatch.setattr(train.cifar, "resized", note)
    _, after = trained(tmp_path / "run", TINY, PLAIN, "--batch-size 128 --epochs 1", *options)
    ((images,), (network,)) = batches, before
    return network, images, after


@pytest.mark.parametrize("adaptive", [False, True], ids=["sam", "asam"])
@pytest.mark.parametrize("clip", ["", "--clip 0.05"])
def test_an_update_is_the_papers_two_steps_and_clipping_acts_on_the_second(adaptive, clip, tmp_path, monkeypatch, made):
    method = "--asam 0.5" if adaptive else "--sam 0.1"
    network, images, after = one_step(tmp_path, monkeypatch, made, method, clip)
    targets = made["losses"][0][1]
    weights = dict(network.named_parameters())

    first = network.train()
    torch.nn.functional.cross_entropy(first(images), targets).backward()
    statistics = {name: value.clone() for name, value in first.named_buffers()}
    size = {n: w.detach().abs() + 0.01 if adaptive and n.endswith("weight") else 1 for n, w in weights.items()}
    length = sum(((size[n] * w.grad) ** 2).sum() for n, w in weights.items()).sqrt()
    second = copy.deepcopy(network)
    with torch.no_grad():
        for name, p in second.named_parameters():
            p.add_((0.5 if adaptive else 0.1) * size[name] ** 2 * weights[name].grad / length)
    second.zero_grad()
    torch.nn.functional.cross_entropy(second(images), targets).backward()
    slopes = {name: p.grad for name, p in second.named_parameters()}
    if clip:
        total = torch.cat([g.flatten() for g in slopes.values()]).norm()
        assert total > 0.05
        slopes = {name: g * 0.05 / total for name, g in slopes.items()}
    for name, w in weights.items():
        torch.testing.assert_close(after[name], w.detach() - slopes[name], rtol=1e-3, atol=1e-4)
    assert clip or max((slopes[name] - w.grad).abs().max() for name, w in weights.items()) > 0.01  # not plain descent
    for name, value in statistics.items():
        torch.testing.assert_close(after[name], value)


@METHODS
def test_a_mixed_batch_and_its_dropout_are_the_same_in_both_passes(method, tmp_path, made):
    run(tmp_path / "run", TINY, DROPOUT, method.split()[0], "1e-12 --mixup 0.4 --cutmix 1 --epochs 1")
    pairs = zip(made["losses"][::2], made["losses"][1::2], strict=True)
    for (logits, targets), (again, targets_again) in pairs:
        assert torch.equal(targets, targets_again)
        torch.testing.assert_close(logits, again)
    assert len(made["losses"]) == 4


@METHODS
def test_with_a_vanishing_radius_it_is_plain_training(method, tmp_path):
    options = f"{TINY} {DROPOUT} --epochs 2 --lr 0.05 --mixup 0.4 --ema 0.9"
    expected, plain = trained(tmp_path / "plain", options)
    epochs, reached = trained(tmp_path / "sharp", options, method.split()[0], "1e-12")
    for entry, theirs in zip(epochs, expected, strict=True):
        assert entry == pytest.approx(theirs, rel=1e-4)
    for name, value in plain.items():
        torch.testing.assert_close(reached[name], value, rtol=1e-3, atol=1e-5)


@METHODS
def test_a_radius_changes_the_weights(method, tmp_path):
    options = f"{TINY} --epochs 1 --lr 0.05"
    (_, plain), (_, sharp) = trained(tmp_path / "plain", options), trained(tmp_path / "sharp", options, method)
    assert any((plain[name] - sharp[name]).abs().max() > 1e-4 for name in plain if name.endswith("weight"))


@pytest.mark.parametrize(
    "options",
    [
        "--sam 0.05 --clip 1 --mixup 0.4 --ema 0.9",
        "--asam 1 --fast --cutout 0.5 --sizes 16x1",
        pytest.param("--sam 0.05 --opt lookahead_momentum --clip-value 0.1", marks=pytest.mark.slow),
        pytest.param("--asam 0.5 --precision bf16 --opt adam --lr 0.001", marks=pytest.mark.slow),
    ],
    ids=["sam", "asam", "lookahead", "bf16"],
)
def test_a_run_that_was_stopped_resumes_to_the_same_numbers(options, tmp_path, monkeypatch):
    options = f"{TINY} {DROPOUT} --epochs 3 --lr 0.05 {options}"
    assert_resumes_after(3, options, tmp_path, monkeypatch)  # in the second epoch


@pytest.mark.slow
@METHODS
def test_a_compiled_run_reaches_the_weights_of_an_eager_one(method, tmp_path):
    options = f"{TINY} --epochs 2 --lr 0.02 {method}"
    _, eager = trained(tmp_path / "eager", options)
    _, compiled = trained(tmp_path / "compiled", options, "--compile")
    for name, value in eager.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--sam 0.05 --asam 1", "two forms of one method; leave one out"),
        ("--sam -1", "--sam -1.0 is a radius, at least 0"),
        ("--asam nan", "--asam nan is a radius"),
        ("--test every", "--test every without a hold-out"),
    ],
)
def test_options_that_do_not_fit_are_refused_with_the_remedy(options, said, capsys):
    with pytest.raises(SystemExit):
        train.parse_args([*options.split(), "--out", "nowhere"])
    assert said in capsys.readouterr().err
