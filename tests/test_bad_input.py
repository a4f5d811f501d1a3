"""Bad input is a clear error that names the argument and leaves every array as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn.functional as F
from fastnn import act, reference

Array = np.ndarray[Any, Any]


class Arrays(dict[str, Array]):
    """Named good arrays for every op, as attributes; each test gets fresh ones."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        for name in ("x", "dy", "residual", "out"):
            self[name] = rng.standard_normal((6, 4)).astype(np.float32)
        for name in ("c", "weight", "bias", "running_mean", "running_var"):
            self[name] = rng.standard_normal(4).astype(np.float32)
        self["labels"] = np.array([0, 1, 2, 3, 0, 1])
        self["nodes"] = np.array([0, 1, 0, 1, 0, 2, 0, 2])  # of four classes
        self["codes"] = np.array([0, 0, 0, 1, 1, 0, 1, 1])
        self["offsets"] = np.array([0, 2, 4, 6, 8])
        for name in ("m", "v"):
            self[name] = np.ones((6, 4), np.float32)
        self["wide"] = self["x"].astype(np.float64)
        self["half"] = self["x"].astype(np.float16)
        self["integers"] = np.ones((6, 4), np.int64)
        self["swapped"] = self["x"].astype(">f4")
        self["small"] = np.ones((5, 4), np.float32)
        self["short"] = np.ones(3, np.float32)
        self["row"] = np.ones((1, 4), np.float32)
        self["empty"] = np.ones((0, 4), np.float32)
        self["nan"] = np.full((6, 4), np.nan, np.float32)
        self["fortran"] = np.asfortranarray(self["x"])
        self["locked"] = self["x"].copy()
        self["locked"].flags.writeable = False
        self["big"] = rng.standard_normal(40).astype(np.float32)
        self["head"] = self["big"][:24].reshape(6, 4)
        self["tail"] = self["big"][4:28].reshape(6, 4)  # overlaps head in part
        self["c_locked"] = self["c"].copy()
        self["c_locked"].flags.writeable = False

    def __getattr__(self, name: str) -> Array:
        return self[name]


def batch_norm(a: Arrays, **kwargs: Any) -> Any:
    return F.batch_norm(**{"x": a.x, "training": True, **kwargs})


def bias_act_backward(a: Arrays, **kwargs: Any) -> Any:
    options = {key: kwargs.pop(key) for key in ("activation", "dropout") if key in kwargs}
    saved = F.bias_act(a.x.copy(), a.bias, **options)[1]
    return F.bias_act_backward(**{"dy": a.dy, "saved": saved, **kwargs})


def batch_norm_backward(a: Arrays, **kwargs: Any) -> Any:
    return F.batch_norm_backward(**{"dy": a.dy, "saved": batch_norm(a, weight=a.weight)[1], **kwargs})


def layer_norm(a: Arrays, **kwargs: Any) -> Any:
    return F.layer_norm(**{"x": a.x, "normalized_shape": 4, **kwargs})


def layer_norm_backward(a: Arrays, **kwargs: Any) -> Any:
    return F.layer_norm_backward(**{"dy": a.dy, "saved": layer_norm(a, weight=a.weight)[1], **kwargs})


def group_norm(a: Arrays, **kwargs: Any) -> Any:
    return F.group_norm(**{"x": a.x, "num_groups": 2, **kwargs})


def dropout_backward(a: Arrays, **kwargs: Any) -> Any:
    return F.dropout_backward(**{"dy": a.dy, "saved": F.dropout(a.x)[1], **kwargs})


def prelu_backward(a: Arrays, **kwargs: Any) -> Any:
    return F.prelu_backward(**{"dy": a.dy, "x": a.x, "weight": a.weight, **kwargs})


def maxout_backward(a: Arrays, **kwargs: Any) -> Any:
    return F.maxout_backward(**{"dy": a.dy[:, :2].copy(), "saved": F.maxout(a.x, 2)[1], **kwargs})


def tree_loss(a: Arrays, **kwargs: Any) -> Any:
    arrays = {"h": a.x, "weight": a.dy[:3], "bias": a.short, "labels": a.labels}
    paths = {"path_nodes": a.nodes, "path_codes": a.codes, "path_offsets": a.offsets}
    return F.hierarchical_softmax(**{**arrays, **paths, **kwargs})


def sgd(a: Arrays, **kwargs: Any) -> Any:
    return F.sgd_step(**{"params": [a.x], "grads": [a.dy], "momentum_buffers": [a.m], "lr": 0.1, **kwargs})


def adam(a: Arrays, **kwargs: Any) -> Any:
    arrays = {"params": [a.x], "grads": [a.dy], "exp_avgs": [a.m], "exp_avg_sqs": [a.v]}
    return F.adam_step(**{**arrays, "lr": 0.1, **kwargs})


# call, exception, argument that the message starts with
ROWS: list[tuple[Callable[[Arrays], Any], type[Exception], str]] = [
    # wrong type
    (lambda a: F.relu([1.0, 2.0]), TypeError, "x"),
    (lambda a: F.relu(a.integers), TypeError, "x"),
    (lambda a: F.relu(a.half), TypeError, "x"),
    (lambda a: F.relu(a.swapped), TypeError, "x"),
    (lambda a: F.relu(a.x, out=a.wide), TypeError, "out"),
    (lambda a: F.relu_backward(a.dy, a.wide), TypeError, "x"),
    (lambda a: F.leaky_relu(a.half), TypeError, "x"),
    (lambda a: F.leaky_relu_backward(a.half, a.x), TypeError, "dy"),
    (lambda a: F.leaky_relu(a.x, "steep"), TypeError, "negative_slope"),
    (lambda a: F.bias_act(a.half), TypeError, "x"),
    (lambda a: F.bias_act(a.x, a.bias.astype(np.float64)), TypeError, "bias"),
    (lambda a: F.bias_act(a.x, residual=a.wide), TypeError, "residual"),
    (lambda a: F.bias_act(a.x, out=a.wide), TypeError, "out"),
    (lambda a: bias_act_backward(a, dy=a.wide), TypeError, "dy"),
    (lambda a: bias_act_backward(a, dy=a.wide, dropout=0.5), TypeError, "dy"),
    (lambda a: batch_norm(a, x=a.integers), TypeError, "x"),
    (lambda a: batch_norm(a, weight=a.weight.astype(np.float64)), TypeError, "weight"),
    (lambda a: batch_norm(a, running_mean=np.zeros(4, int), running_var=a.running_var), TypeError, "running_mean"),
    (lambda a: batch_norm(a, residual=a.wide), TypeError, "residual"),
    (lambda a: batch_norm_backward(a, dy=a.wide), TypeError, "dy"),
    (lambda a: layer_norm(a, x=a.half), TypeError, "x"),
    (lambda a: layer_norm(a, weight=a.weight.astype(np.float64)), TypeError, "weight"),
    (lambda a: layer_norm(a, bias=a.bias.astype(np.float64)), TypeError, "bias"),
    (lambda a: layer_norm(a, residual=a.wide), TypeError, "residual"),
    *((lambda a, n=n: layer_norm(a, normalized_shape=n), TypeError, "normalized_shape") for n in (4.0, None, (2.0,))),
    (lambda a: layer_norm_backward(a, dy=a.wide), TypeError, "dy"),
    (lambda a: group_norm(a, x=a.integers), TypeError, "x"),
    (lambda a: group_norm(a, num_groups=1.5), TypeError, "num_groups"),
    (lambda a: F.rms_norm(a.x, 4, eps="small"), TypeError, "eps"),
    (lambda a: F.instance_norm(a.x, weight=a.weight.astype(np.float64)), TypeError, "weight"),
    (lambda a: F.dropout(a.integers), TypeError, "x"),
    (lambda a: dropout_backward(a, dy=a.wide), TypeError, "dy"),
    (lambda a: dropout_backward(a, dy=[1.0]), TypeError, "dy"),
    (lambda a: F.channel_sum(a.half), TypeError, "x"),
    (lambda a: F.prelu(a.half, a.weight), TypeError, "x"),
    (lambda a: F.prelu(a.x, a.weight.astype(np.float64)), TypeError, "weight"),
    (lambda a: prelu_backward(a, dy=a.wide), TypeError, "x"),
    (lambda a: F.maxout(a.integers, 2), TypeError, "x"),
    (lambda a: F.maxout(a.x, 2.0), TypeError, "pieces"),
    (lambda a: maxout_backward(a, dy=a.wide), TypeError, "dy"),
    (lambda a: maxout_backward(a, saved=F.dropout(a.x)[1]), TypeError, "saved"),
    (lambda a: F.softmax_cross_entropy(a.half, a.labels), TypeError, "logits"),
    (lambda a: F.softmax_cross_entropy(a.x, a.labels.astype(np.float64)), TypeError, "labels"),
    (lambda a: F.softmax_cross_entropy(a.x, a.wide), TypeError, "labels"),
    (lambda a: F.softmax_cross_entropy(a.x, a.labels, a.c.astype(np.float64)), TypeError, "weight"),
    (lambda a: F.softmax_cross_entropy(a.x, a.labels, None, 0.5), TypeError, "ignore_index"),
    (lambda a: F.softmax_cross_entropy(a.x, a.labels, label_smoothing="much"), TypeError, "label_smoothing"),
    (lambda a: F.nll_loss(a.x, a.residual), TypeError, "labels"),
    (lambda a: F.softmax(a.integers), TypeError, "x"),
    (lambda a: F.softmax(a.x, 0.5), TypeError, "axis"),
    (lambda a: F.log_softmax(a.x, out=a.wide), TypeError, "out"),
    (lambda a: F.softmax_backward(a.dy, a.wide), TypeError, "y"),
    (lambda a: F.mse_loss(a.half, a.half), TypeError, "input"),
    (lambda a: F.mse_loss(a.x, a.wide), TypeError, "target"),
    (lambda a: F.binary_cross_entropy_with_logits(a.x, a.dy, pos_weight=a.c.astype(float)), TypeError, "pos_weight"),
    (lambda a: F.hinge_loss(a.x, a.x), TypeError, "labels"),
    (lambda a: tree_loss(a, weight=a.wide), TypeError, "weight"),
    (lambda a: tree_loss(a, path_nodes=a.c), TypeError, "path_nodes"),
    (lambda a: sgd(a, params=[a.half]), TypeError, "params"),
    (lambda a: sgd(a, grads=[a.wide]), TypeError, "grads"),
    (lambda a: adam(a, exp_avgs=[a.wide]), TypeError, "exp_avgs"),
    (lambda a: F.relu(a.x, out=np.ma.array(a.out)), TypeError, "out"),
    (lambda a: batch_norm(a, running_mean=np.ma.array(a.c), running_var=a.running_var), TypeError, "running_mean"),
    (lambda a: sgd(a, params=[np.ma.array(a.x)]), TypeError, "params"),
    # wrong shape
    (lambda a: F.relu(a.x, out=a.small), ValueError, "out"),
    (lambda a: F.relu_backward(a.dy, a.small), ValueError, "x"),
    (lambda a: F.leaky_relu_backward(a.dy, a.small), ValueError, "x"),
    (lambda a: F.bias_act(a.x, a.short), ValueError, "bias"),
    (lambda a: F.bias_act(a.x, a.row), ValueError, "bias"),
    (lambda a: F.bias_act(a.x, residual=a.small), ValueError, "residual"),
    (lambda a: F.bias_act(a.x, a.bias, channel_axis=0), ValueError, "bias"),
    (lambda a: F.bias_act(a.x, a.bias, channel_axis=2), ValueError, "channel_axis"),
    (lambda a: F.bias_act(a.x, a.bias, channel_axis=-3), ValueError, "channel_axis"),
    (lambda a: bias_act_backward(a, dy=a.small), ValueError, "dy"),
    (lambda a: bias_act_backward(a, dy=a.small, dropout=0.5), ValueError, "dy"),
    (lambda a: bias_act_backward(a, dy=a.small, activation="relu"), ValueError, ""),
    (lambda a: batch_norm(a, x=a.big), ValueError, "x"),
    (lambda a: batch_norm(a, weight=a.short), ValueError, "weight"),
    (lambda a: batch_norm(a, bias=a.short), ValueError, "bias"),
    (lambda a: batch_norm(a, pre_bias=a.short), ValueError, "pre_bias"),
    (lambda a: batch_norm(a, running_mean=a.short, running_var=a.running_var), ValueError, "running_mean"),
    (lambda a: batch_norm(a, running_mean=a.running_mean, running_var=a.short), ValueError, "running_var"),
    (lambda a: batch_norm(a, residual=a.small), ValueError, "residual"),
    (lambda a: batch_norm(a, out=a.small), ValueError, "out"),
    (lambda a: batch_norm(a, channel_axis=2), ValueError, "channel_axis"),
    (lambda a: batch_norm_backward(a, dy=a.small), ValueError, "dy"),
    *((lambda a, n=n: layer_norm(a, normalized_shape=n), ValueError, "normalized_shape") for n in (3, (), (4, 6), -4)),
    (lambda a: layer_norm(a, normalized_shape=[1, 6, 4]), ValueError, "normalized_shape"),
    (lambda a: layer_norm(a, weight=a.short), ValueError, "weight"),
    (lambda a: layer_norm(a, bias=a.row), ValueError, "bias"),
    (lambda a: layer_norm(a, normalized_shape=(6, 4), weight=a.weight), ValueError, "weight"),
    (lambda a: layer_norm(a, residual=a.small), ValueError, "residual"),
    (lambda a: layer_norm_backward(a, dy=a.small), ValueError, "dy"),
    *((lambda a, n=n: group_norm(a, num_groups=n), ValueError, "num_groups") for n in (3, 8, 0, -2)),
    *((lambda a, n=n: group_norm(a, channel_axis=n), ValueError, "channel_axis") for n in (0, 2, -3)),
    (lambda a: group_norm(a, x=a.big), ValueError, "x"),
    (lambda a: group_norm(a, weight=a.short), ValueError, "weight"),
    (lambda a: F.dropout(a.x, out=a.small), ValueError, "out"),
    (lambda a: dropout_backward(a, dy=a.small), ValueError, "dy"),
    (lambda a: F.channel_sum(a.x, out=a.short), ValueError, "out"),
    (lambda a: F.channel_sum(a.x, channel_axis=5), ValueError, "channel_axis"),
    (lambda a: F.prelu(a.x, a.short), ValueError, "weight"),
    (lambda a: F.prelu(a.x, a.row), ValueError, "weight"),
    (lambda a: F.prelu(a.x, a.weight, channel_axis=2), ValueError, "channel_axis"),
    (lambda a: prelu_backward(a, x=a.small), ValueError, "x"),
    (lambda a: F.maxout(a.x, 3), ValueError, "x"),
    (lambda a: F.maxout(a.x, 2, 2), ValueError, "axis"),
    (lambda a: F.maxout(a.x, 2, out=a.out), ValueError, "out"),
    (lambda a: maxout_backward(a, dy=a.dy), ValueError, "dy"),
    (lambda a: F.softmax_cross_entropy(a.c, a.labels), ValueError, "logits"),
    (lambda a: F.softmax_cross_entropy(a.x, a.labels[:5]), ValueError, "labels"),
    (lambda a: F.softmax_cross_entropy(a.x, a.residual[:5]), ValueError, "labels"),
    (lambda a: F.softmax_cross_entropy(a.x, a.labels, a.short), ValueError, "weight"),
    (lambda a: F.nll_loss(a.c, a.labels), ValueError, "log_probs"),
    (lambda a: F.nll_loss(a.x, a.labels, a.short), ValueError, "weight"),
    (lambda a: F.softmax(a.x, 2), ValueError, "axis"),
    (lambda a: F.log_softmax_backward(a.dy, a.small), ValueError, "y"),
    (lambda a: F.l1_loss(a.x, a.small), ValueError, "target"),
    (lambda a: F.l1_loss(a.x, a.dy, out=a.small), ValueError, "out"),
    (lambda a: F.binary_cross_entropy_with_logits(a.x, a.dy, a.short), ValueError, "weight"),
    (lambda a: F.binary_cross_entropy_with_logits(a.x, a.dy, pos_weight=a.small), ValueError, "pos_weight"),
    (lambda a: F.hinge_loss(a.c, a.labels), ValueError, "scores"),
    (lambda a: F.hinge_loss(a.x, a.labels[:5]), ValueError, "labels"),
    (lambda a: F.hinge_loss(a.x, a.labels, weight=a.short), ValueError, "weight"),
    (lambda a: tree_loss(a, bias=a.x), ValueError, "bias"),
    (lambda a: tree_loss(a, h=a.c), ValueError, "h"),
    (lambda a: tree_loss(a, labels=a.labels[:5]), ValueError, "labels"),
    (lambda a: tree_loss(a, path_offsets=a.labels[:0]), ValueError, "labels"),
    (lambda a: sgd(a, grads=[a.small]), ValueError, "grads"),
    (lambda a: sgd(a, grads=[]), ValueError, "grads"),
    (lambda a: sgd(a, momentum=0.9, momentum_buffers=[a.small]), ValueError, "momentum_buffers"),
    (lambda a: sgd(a, momentum=0.9, momentum_buffers=[]), ValueError, "momentum_buffers"),
    (lambda a: adam(a, exp_avg_sqs=[a.small]), ValueError, "exp_avg_sqs"),
    # outputs that cannot be written, or that lie across an input
    (lambda a: F.relu(a.x, out=a.locked), ValueError, "out"),
    (lambda a: F.relu(a.x, out=a.fortran), ValueError, "out"),
    (lambda a: F.relu(a.head, out=a.tail), ValueError, "out"),
    (lambda a: F.relu_backward(a.head, a.x, out=a.tail), ValueError, "out"),
    (lambda a: F.relu_backward(a.x, a.head, out=a.tail), ValueError, "out"),
    (lambda a: F.prelu(a.head, a.weight, out=a.tail), ValueError, "out"),
    (lambda a: prelu_backward(a, dy=a.head, out=a.tail), ValueError, "out"),
    (lambda a: F.maxout(a.x, 1, out=a.x), ValueError, "out"),
    (lambda a: F.bias_act(a.head, out=a.tail), ValueError, "out"),
    (lambda a: F.bias_act(a.x, residual=a.head, out=a.tail), ValueError, "out"),
    (lambda a: F.bias_act(a.head, a.big[:4], out=a.head), ValueError, "out"),
    (lambda a: F.bias_act(a.x, out=a.locked), ValueError, "out"),
    (lambda a: F.bias_act(a.x, activation=act.leaky_relu(-0.5), out=a.x), ValueError, "out"),
    (lambda a: F.bias_act(a.x, residual=a.out, activation=act.leaky_relu(0.0), out=a.out), ValueError, "out"),
    (lambda a: bias_act_backward(a, dy=a.head, out=a.tail, activation="relu"), ValueError, "out"),
    (lambda a: batch_norm(a, out=a.locked), ValueError, "out"),
    (lambda a: batch_norm(a, out=a.x), ValueError, "out"),
    (lambda a: batch_norm(a, residual=a.residual, out=a.residual), ValueError, "out"),
    (lambda a: batch_norm(a, x=a.head, out=a.tail), ValueError, "out"),
    (lambda a: batch_norm(a, running_mean=a.c_locked, running_var=a.running_var), ValueError, "running_mean"),
    (lambda a: batch_norm(a, running_mean=a.c, running_var=a.c), ValueError, "running_mean"),
    (lambda a: batch_norm_backward(a, out=a.x), ValueError, "out"),
    (lambda a: batch_norm_backward(a, dy=a.head, out=a.tail), ValueError, "out"),
    (lambda a: layer_norm(a, out=a.x), ValueError, "out"),
    (lambda a: layer_norm(a, out=a.locked), ValueError, "out"),
    (lambda a: layer_norm(a, residual=a.residual, out=a.residual), ValueError, "out"),
    (lambda a: layer_norm(a, weight=a.head[0], out=a.head), ValueError, "out"),
    (lambda a: layer_norm_backward(a, out=a.x), ValueError, "out"),
    (lambda a: layer_norm_backward(a, dy=a.head, out=a.tail), ValueError, "out"),
    (lambda a: group_norm(a, x=a.head, out=a.tail), ValueError, "out"),
    (lambda a: F.dropout(a.head, out=a.tail), ValueError, "out"),
    (lambda a: dropout_backward(a, out=a.locked), ValueError, "out"),
    (lambda a: F.channel_sum(a.head, out=a.big[:4]), ValueError, "out"),
    (lambda a: F.softmax_cross_entropy(a.head, a.labels, out=a.tail), ValueError, "out"),
    (lambda a: F.softmax_cross_entropy(a.x, a.residual, out=a.residual), ValueError, "out"),
    (lambda a: F.softmax(a.head, out=a.tail), ValueError, "out"),
    (lambda a: F.softmax_backward(a.dy, a.head, out=a.tail), ValueError, "out"),
    (lambda a: F.softmax(a.x, out=a.locked), ValueError, "out"),
    (lambda a: F.mse_loss(a.head, a.x, out=a.tail), ValueError, "out"),
    (lambda a: F.mse_loss(a.x, a.head, out=a.tail), ValueError, "out"),
    (lambda a: F.binary_cross_entropy_with_logits(a.x, a.dy, a.out, out=a.out), ValueError, "out"),
    (lambda a: F.hinge_loss(a.head, a.labels, out=a.tail), ValueError, "out"),
    (lambda a: tree_loss(a, out=a.x), ValueError, "out"),
    (lambda a: sgd(a, params=[a.locked]), ValueError, "params"),
    (lambda a: sgd(a, params=[a.fortran]), ValueError, "params"),
    (lambda a: sgd(a, params=[a.x, a.x], grads=[a.dy, a.dy], momentum_buffers=None), ValueError, "params"),
    (lambda a: sgd(a, params=[a.head], grads=[a.tail]), ValueError, ""),
    (lambda a: sgd(a, momentum=0.9, momentum_buffers=[a.x]), ValueError, ""),
    (lambda a: adam(a, exp_avgs=[a.m], exp_avg_sqs=[a.m]), ValueError, ""),
    (
        lambda a: F.bias_act_backward(a.dy, F.bias_act(a.x, activation=act.leaky_relu(0.0))[1], out=a.x),
        ValueError,
        "out",
    ),
    (lambda a: F.batch_norm_backward(a.dy, batch_norm(a, residual=a.out)[1], out=a.out), ValueError, "out"),
    (lambda a: F.bias_act_backward(a.dy, F.dropout(a.x)[1]), TypeError, "saved"),
    (lambda a: F.rms_norm_backward(a.dy, layer_norm(a)[1]), TypeError, "saved"),
    (lambda a: F.layer_norm_backward(a.dy, reference.layer_norm(a.x, 4)[1]), TypeError, "saved"),
    (lambda a: F.batch_norm_backward(a.dy, reference.batch_norm(a.x, training=True)[1]), TypeError, "saved"),
    (lambda a: reference.dropout_backward(a.dy, F.dropout(a.x)[1]), TypeError, "saved"),
    # scalars
    *((lambda a, p=p: F.dropout(a.x, p), TypeError, "p") for p in (None, "a")),
    (lambda a: batch_norm(a, momentum=None), TypeError, "momentum"),
    (lambda a: batch_norm(a, eps="small"), TypeError, "eps"),
    (lambda a: batch_norm(a, running_ddof=0.5), TypeError, "running_ddof"),
    (lambda a: batch_norm(a, channel_axis=1.5), TypeError, "channel_axis"),
    (lambda a: F.bias_act(a.x, channel_axis=1.5), TypeError, "channel_axis"),
    (lambda a: F.dropout(a.x, first=1.5), TypeError, "first"),
    *((lambda a, n=n: F.dropout(a.x, first=n), ValueError, "first") for n in (1 << 63, (1 << 63) - 24)),
    (lambda a: act.leaky_relu(0.1, negative_slope=0.2), TypeError, "leaky_relu"),
    (lambda a: sgd(a, dampening=np.nan), ValueError, "dampening"),
    (lambda a: sgd(a, lr="fast"), TypeError, "lr"),
    *((lambda a, p=p: F.dropout(a.x, p), ValueError, "p") for p in (-0.1, 1.1, np.nan)),
    (lambda a: F.dropout(a.x, -0.1, False), ValueError, "p"),
    (lambda a: F.dropout2d(a.x), ValueError, "x"),
    (lambda a: F.dropout1d(a.x.reshape(6, 2, 2), channel_axis=0), ValueError, "channel_axis"),
    (lambda a: F.dropout1d(a.x.reshape(6, 2, 2), channel_axis=3), ValueError, "channel_axis"),
    (lambda a: F.dropout1d(a.x.reshape(6, 2, 2), 1.5), ValueError, "p"),
    (lambda a: F.dropout1d(a.x.reshape(6, 2, 2), first=(1 << 63) - 12), ValueError, "first"),
    (lambda a: F.dropout1d(a.head.reshape(6, 2, 2), out=a.tail.reshape(6, 2, 2)), ValueError, "out"),
    (lambda a: F.alpha_dropout(a.x, np.nan), ValueError, "p"),
    (lambda a: F.alpha_dropout(a.head, out=a.tail), ValueError, "out"),
    (lambda a: F.alpha_dropout(a.half), TypeError, "x"),
    *((lambda a, s=s: F.gaussian_noise(a.x, s), ValueError, "std") for s in (-0.1, np.inf, np.nan)),
    (lambda a: F.gaussian_noise(a.x, mean=np.inf), ValueError, "mean"),
    (lambda a: F.gaussian_noise(a.x, "wide"), TypeError, "std"),
    (lambda a: F.gaussian_noise(a.head, out=a.tail), ValueError, "out"),
    (lambda a: F.gaussian_noise(a.integers), TypeError, "x"),
    *((lambda a, p=p: F.bias_act(a.x, dropout=p), ValueError, "dropout") for p in (-0.1, 1.1, np.nan)),
    *((lambda a, p=p: batch_norm(a, dropout=p), ValueError, "dropout") for p in (-0.1, 1.1, np.nan)),
    *((lambda a, eps=eps: batch_norm(a, eps=eps), ValueError, "eps") for eps in (0.0, -1e-5, np.nan)),
    *((lambda a, eps=eps: layer_norm(a, eps=eps), ValueError, "eps") for eps in (0.0, -1e-5, np.nan)),
    *((lambda a, p=p: layer_norm(a, dropout=p), ValueError, "dropout") for p in (-0.1, 1.1, np.nan)),
    (lambda a: layer_norm(a, activation="rellu"), ValueError, "activation"),
    (lambda a: layer_norm(a, first=-1), ValueError, "first"),
    *((lambda a, m=m: batch_norm(a, momentum=m), ValueError, "momentum") for m in (-0.1, 1.1, np.nan)),
    (lambda a: batch_norm(a, nonfinite="ignore"), ValueError, "nonfinite"),
    *((lambda a, n=n: batch_norm(a, running_ddof=n), ValueError, "running_ddof") for n in (-1, 2)),
    *((lambda a, c=c: batch_norm(a, momentum_convention=c), ValueError, "momentum_convention") for c in ("tf", None)),
    (lambda a: batch_norm(a, frozen=True), ValueError, "running_mean, running_var"),
    (lambda a: batch_norm(a, running_mean=a.c, running_var=a.c, out=a.x, frozen=True), ValueError, "out"),
    (lambda a: batch_norm(a, activation="rellu"), ValueError, "activation"),
    (lambda a: F.bias_act(a.x, activation=3), ValueError, "activation"),
    (lambda a: F.bias_act(a.x, first=-1), ValueError, "first"),
    (lambda a: batch_norm(a, running_mean=a.running_mean), ValueError, "running_mean, running_var"),
    (lambda a: F.batch_norm(a.x), ValueError, "running_mean, running_var"),
    (lambda a: batch_norm(a, x=a.row), ValueError, "x"),
    (lambda a: batch_norm(a, x=a.empty), ValueError, "x"),
    (
        lambda a: batch_norm(a, x=a.nan, running_mean=a.running_mean, running_var=a.running_var),
        ValueError,
        "x",
    ),
    (lambda a: F.leaky_relu_backward(a.dy, a.x, 0.0, output=True), ValueError, "negative_slope"),
    (lambda a: F.leaky_relu_backward(a.dy, a.x, -1.0, output=True), ValueError, "negative_slope"),
    (lambda a: F.maxout(a.x, 0), ValueError, "pieces"),
    (lambda a: F.maxout(a.x, 257), ValueError, "pieces"),
    (lambda a: F.softmax_cross_entropy(a.x, a.labels + 1), ValueError, "labels"),
    (lambda a: F.softmax_cross_entropy(a.x, a.labels - 1), ValueError, "labels"),
    (lambda a: F.softmax_cross_entropy(a.x, (a.labels - 1).astype(np.uint64)), ValueError, "labels"),
    (lambda a: F.softmax_cross_entropy(a.x, a.labels, ignore_index=1 << 70), ValueError, "ignore_index"),
    (lambda a: F.softmax_cross_entropy(a.x, a.residual, ignore_index=1), ValueError, "ignore_index"),
    *(
        (lambda a, s=s: F.softmax_cross_entropy(a.x, a.labels, label_smoothing=s), ValueError, "label_smoothing")
        for s in (-0.1, 1.1, np.nan)
    ),
    (lambda a: F.softmax_cross_entropy(a.x, a.labels, reduction="average"), ValueError, "reduction"),
    (lambda a: F.hinge_loss(a.x, a.labels, margin=np.nan), ValueError, "margin"),
    (lambda a: F.nll_loss(a.x, a.labels, reduction=None), ValueError, "reduction"),
    (lambda a: F.nll_loss(a.x, a.labels + 1), ValueError, "labels"),
    (lambda a: F.nll_loss(a.x, a.labels - 101), ValueError, "labels"),
    *((lambda a, f=f: f(a.x, a.dy, reduction="max"), ValueError, "reduction") for f in (F.mse_loss, F.huber_loss)),
    *((lambda a, b=b: F.smooth_l1_loss(a.x, a.dy, beta=b), ValueError, "beta") for b in (-1.0, np.nan)),
    *((lambda a, d=d: F.huber_loss(a.x, a.dy, delta=d), ValueError, "delta") for d in (0.0, -1.0, np.nan)),
    (lambda a: F.hinge_loss(a.x, a.labels + 1), ValueError, "labels"),
    (lambda a: F.hinge_loss(a.x, a.labels, 3), ValueError, "p"),
    (lambda a: F.hinge_loss(a.x, a.labels, 1.0), TypeError, "p"),
    (lambda a: F.hinge_loss(a.x, a.labels, margin="wide"), TypeError, "margin"),
    (lambda a: F.hinge_loss(a.x, a.labels, over_classes="none"), ValueError, "over_classes"),
    (lambda a: tree_loss(a, labels=a.labels + 1), ValueError, "labels"),
    (lambda a: tree_loss(a, path_codes=a.codes + 1), ValueError, "path_codes"),
    (lambda a: tree_loss(a, path_nodes=a.codes + 7), ValueError, "path_nodes"),
    (lambda a: tree_loss(a, path_offsets=a.offsets + 9), ValueError, "path_offsets"),
    (lambda a: sgd(a, lr=-1.0), ValueError, "lr"),
    (lambda a: sgd(a, lr=np.nan), ValueError, "lr"),
    (lambda a: sgd(a, momentum=-1.0), ValueError, "momentum"),
    (lambda a: sgd(a, weight_decay=-1.0), ValueError, "weight_decay"),
    (lambda a: sgd(a, nesterov=True), ValueError, "nesterov"),
    (lambda a: sgd(a, nesterov=True, momentum=0.9, dampening=0.1), ValueError, "nesterov"),
    (lambda a: sgd(a, momentum=0.9, momentum_buffers=None), ValueError, "momentum_buffers"),
    (lambda a: sgd(a, clip_norm=0.0), ValueError, "clip_norm"),
    (lambda a: adam(a, beta1=1.0), ValueError, "beta1"),
    (lambda a: adam(a, beta2=-0.1), ValueError, "beta1, beta2"),
    (lambda a: adam(a, eps=0.0), ValueError, "eps"),
    (lambda a: adam(a, bias_correction1=0.0), ValueError, "bias_correction1"),
    (lambda a: adam(a, clip_norm=-1.0), ValueError, "clip_norm"),
]


@pytest.mark.parametrize("number", range(len(ROWS)))
def test_bad_input(number: int) -> None:
    call, exception, name = ROWS[number]
    arrays = Arrays()
    before = {key: array.copy() for key, array in arrays.items()}
    with pytest.raises(exception) as caught:
        call(arrays)
    message = str(caught.value)
    assert message.startswith(name), message
    assert "expected" in message, message
    for key, array in arrays.items():
        assert np.array_equal(array, before[key], equal_nan=array.dtype.kind == "f"), f"{key} has changed"


def test_second_tensor_is_checked_before_the_first_is_written() -> None:
    for step, state in ((F.sgd_step, [None]), (F.adam_step, [[np.zeros(3), np.zeros(3)], [np.zeros(3), np.zeros(3)]])):
        good, bad = np.ones(3), np.ones(3)
        bad.flags.writeable = False
        with pytest.raises(ValueError, match=r"params\[1\]"):
            step([good, bad], [np.ones(3), np.ones(3)], *state, lr=0.1)
        assert (good == 1).all()


def test_message_has_expected_and_got() -> None:
    with pytest.raises(ValueError, match=r"bias: expected shape \(4,\), got \(3,\)"):
        F.bias_act(np.ones((2, 4)), np.ones(3))
    with pytest.raises(TypeError, match=r"x: expected .*float32.*float64.*, got .*float16"):
        F.relu(np.ones(3, np.float16))
    with pytest.raises(ValueError, match=r"labels: expected .* 4, got 7 at index 1"):
        F.softmax_cross_entropy(np.ones((2, 4)), np.array([0, 7]))
    with pytest.raises(ValueError, match="two values per channel in training, got 1"):
        F.batch_norm(np.ones((1, 4)), training=True)
    with pytest.raises(ValueError, match="nonfinite: expected 'error', 'skip' or 'allow', got 'ignore'"):
        F.batch_norm(np.ones((3, 4)), training=True, nonfinite="ignore")
    with pytest.raises(ValueError, match="momentum_convention: expected 'torch' or 'keras', got 'caffe'"):
        F.batch_norm(np.ones((3, 4)), training=True, momentum_convention="caffe")
    with pytest.raises(ValueError, match="'relu', 'leaky_relu'"):
        F.bias_act(np.ones((1, 4)), activation="swish9")
    with pytest.raises(TypeError, match="negative_slope"):
        act.leaky_relu(alpha=1.0)
    with pytest.raises(AttributeError, match="swish9"):
        _ = act.swish9


@pytest.mark.parametrize("kind", "bBhHiIlLqQ")
def test_every_integer_type_is_a_label(kind: str) -> None:
    logits = np.random.default_rng(0).standard_normal((3, 4))
    labels = np.array([3, 0, 2])
    for loss in (F.softmax_cross_entropy, F.nll_loss, F.hinge_loss):
        assert loss(logits, labels.astype(kind))[0] == loss(logits, labels)[0]


def test_large_unsigned_labels_do_not_wrap_around() -> None:
    labels = np.array([0, 2**64 - 100], np.uint64)  # the second is -100 as int64: ignored
    for loss in (F.softmax_cross_entropy, F.nll_loss, F.hinge_loss):
        with pytest.raises(ValueError, match=r"labels: expected integers below 2\*\*63, got larger ones"):
            loss(np.zeros((2, 4)), labels)


def test_one_image_is_enough_for_batch_norm() -> None:
    y, _ = F.batch_norm(np.random.default_rng(0).standard_normal((1, 3, 2, 2)), training=True)
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-12)
