"""fastnn's kernels inside torch: values and gradients are torch's, and whole trainings are."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn
import fastnn.functional as F
from fastnn import act
from fastnn.interop._calls import OPS

torch = pytest.importorskip("torch")

import fastnn.interop.torch as interop  # noqa: E402
from fastnn.interop.torch import functional, nn, optim  # noqa: E402

LABELS = torch.tensor([0, 2, 1, 2, 0, 1])


def randn(*shape: int, seed: int = 0, dtype: Any = torch.float64) -> Any:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def seeded(name: str, **options: Any) -> Callable[..., Any]:
    """The function with the same masks at each call."""
    return lambda *args: getattr(functional, name)(*args, rng=fastnn.Generator(3), **options)


IMAGES, ROWS, C = randn(2, 3, 4, 4), randn(6, 3), randn(3, seed=1)

CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "batch_norm": (lambda x, w, b: functional.batch_norm(x, None, None, w, b, True, activation="gelu"), (IMAGES, C, C)),
    "layer_norm": (lambda x, w, b: functional.layer_norm(x, 3, w, b, activation="tanh"), (ROWS, C, C)),
    "rms_norm": (lambda x, w: functional.rms_norm(x, 3, w), (ROWS, C)),
    "group_norm": (lambda x, w, b: functional.group_norm(x, 3, w, b), (IMAGES, C, C)),
    "instance_norm": (lambda x, w, b: functional.instance_norm(x, weight=w, bias=b), (IMAGES, C, C)),
    "bias_act": (seeded("bias_act", activation="softplus", dropout=0.4), (ROWS, C)),
    "dropout": (seeded("dropout", p=0.3), (ROWS,)),
    "dropout1d": (seeded("dropout1d", p=0.3), (randn(4, 3, 5),)),
    "dropout2d": (seeded("dropout2d", p=0.3), (IMAGES,)),
    "dropout3d": (seeded("dropout3d", p=0.3), (randn(2, 3, 2, 2, 2),)),
    "alpha_dropout": (seeded("alpha_dropout", p=0.3, training=True), (ROWS,)),
    "gaussian_noise": (seeded("gaussian_noise"), (ROWS,)),
    "avg_pool2d": (lambda x: functional.avg_pool2d(x, 2, channel_axis=-1), (IMAGES,)),
    "global_avg_pool2d": (functional.global_avg_pool2d, (IMAGES,)),
    "maxout": (lambda x: functional.maxout(x, 3), (ROWS,)),
    "conv2d": (lambda x, w, b: functional.conv2d(x, w, b, padding=1), (IMAGES, randn(2, 3, 3, 3, seed=2), randn(2))),
    "max_pool2d": (lambda x: functional.max_pool2d(x, 2), (IMAGES,)),
    "prelu": (functional.prelu, (ROWS, C)),
    "softmax": (functional.softmax, (ROWS,)),
    "log_softmax": (functional.log_softmax, (ROWS,)),
    "softmax_cross_entropy": (lambda x: functional.cross_entropy(x, LABELS, label_smoothing=0.1), (ROWS,)),
    "nll_loss": (lambda x: functional.nll_loss(x, LABELS, reduction="none"), (ROWS,)),
    "hinge_loss": (lambda x: functional.hinge_loss(x, LABELS, 2), (ROWS,)),
    "multi_margin_loss": (lambda x: functional.multi_margin_loss(x, LABELS, 2), (ROWS,)),
    **{
        name: (lambda x, name=name: getattr(functional, name)(x, torch.ones(6, 3, dtype=torch.float64)), (ROWS,))
        for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits")
    },
    **{name: (getattr(functional, name), (ROWS,)) for name in act.ACTIVATIONS if name != "threshold"},
    "threshold": (lambda x: functional.threshold(x, 0.1, 0.2), (ROWS,)),
}


def test_every_operation_is_here() -> None:
    assert CALLS.keys() == OPS.keys()


@pytest.mark.parametrize("name", CALLS)
def test_gradients_pass_the_check_of_torch(name: str) -> None:
    function, operands = CALLS[name]
    assert torch.autograd.gradcheck(function, operands)


def grads_of(loss: Any, *tensors: Any) -> list[Any]:
    return [grad.clone() for grad in torch.autograd.grad(loss, tensors)]


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("kind", "shape"), [("1d", (16, 5)), ("1d", (8, 5, 7)), ("2d", (4, 5, 6, 3)), ("3d", (2, 5, 3, 2, 4))]
)
def test_batch_norm_relu_dropout_is_three_modules_of_torch(
    kind: str, shape: tuple[int, ...], training: bool, dropout: float
) -> None:
    fused = getattr(nn, f"BatchNorm{kind}")(5, activation="relu", dropout=dropout, rng=fastnn.Generator(7))
    plain = getattr(torch.nn, f"BatchNorm{kind}")(5)
    for parameter in fused.parameters():
        parameter.data.uniform_(0.5, 1.5)
    plain.load_state_dict(fused.state_dict())
    fused.train(training), plain.train(training)
    x, residual = randn(*shape, dtype=torch.float32), randn(*shape, seed=1, dtype=torch.float32)
    dy = randn(*shape, seed=2, dtype=torch.float32).detach()
    mask = torch.ones(shape)
    if training:
        mask = torch.from_numpy(F.dropout(np.ones(shape, np.float32), dropout, rng=fastnn.Generator(7))[0])

    got, want = fused(x, residual), torch.relu(plain(x) + residual) * mask
    torch.testing.assert_close(got, want)
    ours = grads_of((got * dy).sum(), x, residual, *fused.parameters())
    theirs = grads_of((want * dy).sum(), x, residual, *plain.parameters())
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fused.state_dict(), plain.state_dict())


@pytest.mark.parametrize("options", [{"momentum": None}, {"affine": False}, {"track_running_stats": False}])
def test_batch_norm_has_the_options_of_torch(options: dict[str, Any]) -> None:
    ours, theirs = nn.BatchNorm1d(4, **options), torch.nn.BatchNorm1d(4, **options)
    for training in (True, True, False):
        ours.train(training), theirs.train(training)
        x = randn(9, 4, dtype=torch.float32)
        torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_dropout_module() -> None:
    layer, x = nn.Dropout(0.25), torch.ones(10_000, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    kept = float((y != 0).float().mean())
    assert abs(kept - 0.75) < 0.03 and set(y.tolist()) == {0.0, y.detach().max().item()}
    assert torch.equal(x.grad, y.detach())
    assert layer.eval()(x) is x or torch.equal(layer(x), x)
    with pytest.raises(ValueError, match="inplace: expected False"):
        nn.Dropout(0.5, inplace=True)(x)


def test_linear_and_layer_norm_are_those_of_torch() -> None:
    linear, norm = nn.Linear(6, 5, activation="gelu"), nn.LayerNorm(5, activation=act.leaky_relu(0.2))
    their_linear, their_norm = torch.nn.Linear(6, 5), torch.nn.LayerNorm(5)
    their_linear.load_state_dict(linear.state_dict()), their_norm.load_state_dict(norm.state_dict())
    x = randn(7, 6, dtype=torch.float32)
    got = norm(linear(x))
    want = torch.nn.functional.leaky_relu(their_norm(torch.nn.functional.gelu(their_linear(x))), 0.2)
    torch.testing.assert_close(got, want)
    ours = grads_of(got.square().sum(), x, *linear.parameters(), *norm.parameters())
    theirs = grads_of(want.square().sum(), x, *their_linear.parameters(), *their_norm.parameters())
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert "activation=leaky_relu(negative_slope=0.2)" in repr(norm)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((6, 3), {}),
        ((6, 3), {"label_smoothing": 0.2}),
        ((6, 3), {"weight": torch.rand(3)}),
        ((6, 3, 2), {"ignore_index": 1}),
    ],
)
def test_cross_entropy_is_that_of_torch(shape: tuple[int, ...], options: dict[str, Any], reduction: str) -> None:
    logits = randn(*shape, dtype=torch.float32)
    labels = LABELS if len(shape) == 2 else torch.stack([LABELS, LABELS.flip(0)], 1)
    losses = [
        kind(**options, reduction=reduction)(logits, labels)
        for kind in (nn.CrossEntropyLoss, torch.nn.CrossEntropyLoss)
    ]
    torch.testing.assert_close(*losses)
    factor = torch.rand_like(losses[1])
    ours, theirs = (grads_of((loss * factor).sum(), logits) for loss in losses)
    torch.testing.assert_close(ours, theirs)


def test_what_backward_does_not_read_is_not_held() -> None:
    y = functional.bias_act(randn(6, 3), activation="relu")
    assert [tensor.shape for tensor in y.grad_fn.saved_tensors] == [y.shape]
    assert y.grad_fn.saved_tensors[0].data_ptr() == y.data_ptr()
    assert not functional.mse_loss(randn(6, 3), torch.ones(6, 3, dtype=torch.float64)).grad_fn.saved_tensors


def test_what_is_held_goes_with_the_backward_pass() -> None:
    x = randn(6, 3)
    y = functional.dropout(x, 0.5)
    y.sum().backward(retain_graph=True)
    first = x.grad.clone()
    y.sum().backward()
    torch.testing.assert_close(x.grad, 2 * first)
    assert y.grad_fn.call is None
    with pytest.raises(RuntimeError, match="second time"):
        y.sum().backward()


def test_memory_is_shared_and_changes_to_it_are_noticed() -> None:
    x = randn(6, 3).detach()
    w = torch.ones(3, dtype=torch.float64, requires_grad=True)
    y = functional.layer_norm(x, 3, w)
    assert y.grad_fn.call.kept.x.__array_interface__["data"][0] == x.data_ptr()
    x += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_gradients_do_not_share_memory() -> None:
    x, residual = randn(6, 3), randn(6, 3, seed=1)
    functional.bias_act(x, residual=residual, activation="tanh").sum().backward()
    assert x.grad.data_ptr() != residual.grad.data_ptr()
    weight = randn(3)
    for _ in range(2):
        functional.batch_norm(x, None, None, weight, training=True, residual=residual).sum().backward()
    torch.testing.assert_close(residual.grad, 3 - (x + residual).detach().tanh().square())


def test_memory_that_is_gone_is_not_read() -> None:
    tensor = torch.ones(6, 4)
    tensor.untyped_storage().resize_(0)
    with pytest.raises(TypeError, match=r"^x: expected .* it has no memory"):
        functional.relu(tensor)
    assert functional.relu(torch.ones(0, 4)).shape == (0, 4)


def test_second_derivatives_are_refused() -> None:
    x = randn(3)
    with pytest.raises(RuntimeError, match="gelu: expected to be differentiated once, got create_graph=True"):
        torch.autograd.grad(functional.gelu(x).sum(), x, create_graph=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: functional.relu(torch.ones(3, dtype=torch.float16)), "x: expected float32 or float64, got float16"),
        (lambda: functional.relu(torch.ones(3, dtype=torch.bfloat16)), "x: expected an array that NumPy can read"),
        (lambda: functional.relu(torch.ones(3, device="meta")), "x: expected an array .*meta"),
        (lambda: functional.relu(np.ones(3, np.float32)), "x: expected a torch.Tensor, got ndarray"),
        (
            lambda: functional.mse_loss(ROWS, ROWS),
            "target: expected an array, got Tensor that requires grad; detach it",
        ),
        (lambda: functional.relu(ROWS, out=ROWS), "relu: expected no out"),
        (lambda: optim.Adam([ROWS], lr=lambda step: 0.1), "lr: expected a number, got a schedule"),
        (lambda: optim.Adam([ROWS], groups={}), "groups: expected dicts as params"),
        (
            lambda: optim.Adam([{"params": [ROWS], "betas": (0, 0)}]),
            "expected lr, weight_decay, l1, max_norm, got 'betas'",
        ),
        (lambda: optim.Adam([torch.ones(3, device="meta", requires_grad=True)]), r"params\['0.0'\]: expected"),
    ],
)
def test_bad_input_is_named(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


# ------------------------------------------------------------------------------------------------------- optimizers

THEIRS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    "Adam": {"lr": 0.01},
    "AdamW": {"lr": 0.01, "weight_decay": 0.1},
    "RMSprop": {"lr": 0.01},
}


def parameters() -> list[Any]:
    return [torch.nn.Parameter(randn(4, 3, seed=seed).detach().clone()) for seed in range(3)]


@pytest.mark.parametrize("name", THEIRS)
def test_optimizers_step_as_those_of_torch(name: str) -> None:
    runs = []
    for kinds in (optim, torch.optim):
        tensors = parameters()
        groups = [{"params": tensors[:2]}, {"params": tensors[2:], "lr": 0.002, "weight_decay": 0.0}]
        opt = getattr(kinds, name)(groups, **THEIRS[name])
        rates = torch.optim.lr_scheduler.StepLR(opt, 2, 0.5)
        for step in range(6):
            opt.zero_grad()
            loss = sum(
                tensor.pow(4).sum() for tensor in (tensors if step % 3 else tensors[1:])
            )  # the first rests at times
            loss.backward()
            opt.step()
            rates.step()
        runs.append(tensors)
    torch.testing.assert_close(*runs)


def test_optimizer_goes_on_from_its_state() -> None:
    def run(stop: int | None) -> list[Any]:
        tensors = parameters()
        opt = optim.AdamW(tensors, lr=0.1, clip_norm=1.0)
        for step in range(6):
            if step == stop:
                state = copy.deepcopy(opt.state_dict())
                opt = optim.AdamW(tensors, lr=3.0, clip_norm=1.0)
                opt.load_state_dict(state)
            opt.zero_grad()
            sum(tensor.square().sum() for tensor in tensors).backward()
            opt.step()
        return tensors

    for ours, theirs in zip(run(3), run(None), strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(ValueError, match="param_groups: expected groups of as many"):
        optim.SGD(parameters()[:1]).load_state_dict(optim.SGD(parameters()).state_dict())


def test_optimizer_notices_what_it_cannot_follow() -> None:
    (tensor,) = parameters()[:1]
    opt = optim.SGD([tensor], lr=0.1)
    assert opt.step(lambda: tensor.square().sum()) is not None  # no gradient: nothing to do
    with pytest.raises(RuntimeError, match="add_param_group: expected all parameters"):
        opt.add_param_group({"params": parameters()})
    loss = tensor.square().sum()
    loss.backward(retain_graph=True)
    opt.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    assert opt.step(stats=True).tensors["0.0"].update_ratio > 0
    assert "param - lr" in opt.formula() and "0.0" in opt.summary()
    tensor.data = tensor.data.clone()
    with pytest.raises(RuntimeError, match=r"params\['0.0'\]: expected the memory"):
        opt.step()


# ---------------------------------------------------------------------------------------------------------- weights


def test_weights_go_both_ways() -> None:
    layers = (fastnn.Conv2d(1, 4, 3), fastnn.BatchNorm2d(4), fastnn.ReLU(), fastnn.Flatten(), fastnn.Dropout(0.5))
    ours = fastnn.Sequential(*layers, fastnn.Linear(4 * 36, 5), fastnn.BatchNorm1d(5, momentum=None))
    theirs = torch.nn.Sequential(
        *(
            torch.nn.Conv2d(1, 4, 3),
            torch.nn.BatchNorm2d(4),
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Dropout(0.5),
        ),
        *(torch.nn.Linear(4 * 36, 5), torch.nn.BatchNorm1d(5, momentum=None)),
    )
    x = randn(6, 1, 8, 8, dtype=torch.float32).detach()
    ours(x)  # statistics
    theirs.load_state_dict(interop.state_dict(ours))
    theirs.eval()
    np.testing.assert_allclose(ours.predict(x), theirs(x).detach(), rtol=1e-4, atol=1e-5)
    assert int(theirs[6].num_batches_tracked) == 1

    theirs.train()(x * 2)
    theirs.eval()
    interop.load_state_dict(ours, theirs.state_dict())
    np.testing.assert_allclose(ours.predict(x), theirs(x).detach(), rtol=1e-4, atol=1e-5)
    assert int(ours[6].num_batches_tracked) == 2  # type: ignore[attr-defined]


def test_wrong_weights_change_nothing() -> None:
    net = fastnn.Sequential(fastnn.Linear(3, 2), fastnn.BatchNorm1d(2))
    before = net.state_dict()
    state = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 2)).state_dict()
    with pytest.raises(ValueError, match=r"2.weight: unexpected"):
        interop.load_state_dict(net, state)
    with pytest.raises(ValueError, match=r"1.num_batches_tracked: expected int64"):
        interop.load_state_dict(net, interop.state_dict(net) | {"1.num_batches_tracked": torch.ones(2)})
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


# --------------------------------------------------------------------------------------------------------- training


def test_a_training_is_that_of_torch() -> None:
    digits = fastnn.data.load_digits()
    x = torch.from_numpy(digits.train_images.reshape(-1, 64).astype(np.float32) / 16)
    labels = torch.from_numpy(digits.train_labels.astype(np.int64))

    def train(*layers: Any, loss_fn: Any, adam: Any) -> tuple[Any, list[float]]:
        net, losses = torch.nn.Sequential(*layers), []
        opt = adam(net.parameters(), lr=3e-3)
        for batch in torch.arange(1408).reshape(22, 64):
            opt.zero_grad()
            loss = loss_fn(net(x[batch]), labels[batch])
            loss.backward()
            opt.step()
            losses.append(loss.item())
        return net, losses

    torch.manual_seed(0)
    first, last = torch.nn.Linear(64, 32), torch.nn.Linear(32, 10)
    copies = copy.deepcopy((first, last))
    fused = nn.BatchNorm1d(32, activation="relu")
    net, ours = train(first, fused, last, loss_fn=nn.CrossEntropyLoss(), adam=optim.Adam)
    plain = torch.nn.BatchNorm1d(32), torch.nn.ReLU()
    _, theirs = train(copies[0], *plain, copies[1], loss_fn=torch.nn.CrossEntropyLoss(), adam=torch.optim.Adam)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)
    test = torch.from_numpy(digits.test_images.reshape(-1, 64).astype(np.float32) / 16)
    assert (net.eval()(test).argmax(1).numpy() == digits.test_labels).mean() > 0.6
