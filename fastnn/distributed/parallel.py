"""Each process trains on its share of the batch; gradients are summed while backward goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from fastnn import _backend
from fastnn._checks import check_array, check_size
from fastnn.distributed.norm import SyncBatchNorm
from fastnn.distributed.world import World, refuse_differences, world
from fastnn.layers.dropout import Stochastic
from fastnn.layers.module import Module, Parameter

__all__ = ["DataParallel"]


class DataParallel(Module):
    """A network whose batches are shared out among processes.

    It is used as the network is.  Its states and the names of its parameters are those of the network, so checkpoints
    are the same, too.  On one process it does nothing of its own.

    - At first all processes take over the state of rank 0.
    - In training, `x` is this process's share of the batch, rank after rank; dropout and noise draw its part of what
      one process would draw for the whole batch.
    - ``backward(dy)`` takes the gradient of the mean loss of the share, and weighs it by the share's part of the
      samples.  The gradients, that of `x` too, are then those of the mean loss of the whole batch; those of parameters
      are the same in all processes.  A loss that is no mean over samples (``reduction="sum"``, class weights,
      ``ignore_index``) takes ``reduction="sum"`` here as well, and `dy` divided by what the whole batch counts.
    - `SyncBatchNorm` layers without a `World` of their own get this one.

    Parameters
    ----------
    net : Module
    among : World, optional
        Default: `world()`.
    parameters : iterable of Parameter, optional
        Those of `net` that are trained: the gradients of others stay those of the share.  Default: all.
    reduction : {"mean", "sum"}, default "mean"
        Whether `backward` is given the gradient of the mean over the share's samples, or of a sum.
    bucket_bytes : int, default 1 MB
        Gradients are gathered, those of the last layers first, and sent off when they are so many bytes together.

    Raises
    ------
    TypeError
        For arguments of another type.
    ValueError
        In all processes, if they differ in parameters, or in training in the shapes of samples or in the positions of
        generators, or if a share is empty.  For `parameters` that `net` does not have, and for a `DataParallel` in it.
    TimeoutError, RuntimeError
        Where a process does not answer: see `World.wait`.  RuntimeError, too, if a layer sets gradients by itself.

    Examples
    --------
    >>> model = DataParallel(net)
    >>> mine = world().share(len(x))
    >>> loss = loss_fn(model(x[mine]), y[mine])
    >>> model.backward(loss_fn.backward(), need_dx=False)
    """

    _fresh_dx = True

    def __init__(
        self,
        net: Module,
        *,
        among: World | None = None,
        parameters: Iterable[Parameter] | None = None,
        reduction: Literal["mean", "sum"] = "mean",
        bucket_bytes: int = 1 << 20,
    ) -> None:
        check_size("bucket_bytes", bucket_bytes)
        if not isinstance(net, Module):
            raise TypeError(f"net: expected a Module, got {type(net).__name__}")
        if among is not None and not isinstance(among, World):
            raise TypeError(f"among: expected a World, got {type(among).__name__}")
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction: expected 'mean' or 'sum', got {reduction!r}")
        if any(isinstance(module, DataParallel) for module in net.modules()):
            raise ValueError("net: expected a network without a DataParallel in it")
        self.net = net
        self.among = among or world()
        self.reduction = reduction
        self._trained = _trained(net, parameters)
        self._bucket_bytes = bucket_bytes
        for norm in net.modules():
            if isinstance(norm, SyncBatchNorm):
                norm.among = norm.among or self.among
        self.among.check_same("parameters", _described(self._trained))
        self.among.check_same("state", [(k, a.shape, str(a.dtype)) for k, a in net.state_dict().items()])
        self.among.broadcast(net=net)

    def _forward(self, x: NDArray[Any], training: bool) -> tuple[NDArray[Any], Any]:
        if not training or self.among.size == 1:
            return self.net._forward(x, training)
        check_array("x", x)
        summed = self._summed()
        part = self._share_out(x, summed)
        y, kept = self.net._forward(x, True)
        return y, (part, summed, kept)

    def _summed(self) -> list[Parameter]:
        """Parameters whose gradients a backward pass has to sum: not those that are sums over all processes already."""
        norms = [m for m in self.net.modules() if isinstance(m, SyncBatchNorm) and m.synchronised]
        done = {id(p) for norm in norms for p in (norm.weight, norm.bias)}
        return [p for p in self._trained if id(p) not in done]

    def _share_out(self, x: NDArray[Any], summed: list[Parameter]) -> float:
        """Tell random layers which part of the batch `x` is; the part of its samples that it has."""
        if not x.ndim:
            raise ValueError("x: expected samples along the first axis, got a number")
        random = [module for module in self.net.modules() if isinstance(module, Stochastic)]
        states = [module._state()["rng"].tolist() for module in random]
        described = (x.shape[1:], str(x.dtype), states, _described(summed))
        rows = self.among.gather(np.array([len(x), crc32(repr(described).encode())], np.int64))
        refuse_differences(self.among, "x, positions of generators, parameters", rows[:, 1], described)
        samples = rows[:, 0]
        if not samples.all():
            raise ValueError(f"x: expected at least one sample in every process, got {samples.tolist()}")
        for module in random:
            module._shard = int(samples[: self.among.rank].sum()), len(x)
        return len(x) / int(samples.sum()) if self.reduction == "mean" else 1.0

    def _backward(self, dy: NDArray[Any], saved: Any, *, accumulate: bool, need_dx: bool, reuse: bool) -> Any:
        if self.among.size == 1:
            return self.net._backward(dy, saved, accumulate=accumulate, need_dx=need_dx, reuse=reuse)
        part, summed, kept = saved
        sums = _Sums(self.among, summed, self._bucket_bytes)
        try:
            for parameter in summed:
                parameter._take = sums.take
            dx = self.net._backward(dy * dy.dtype.type(part), kept, accumulate=accumulate, need_dx=need_dx, reuse=True)
        finally:
            for parameter in summed:
                parameter._take = None
        sums.finish(accumulate)
        return dx

    # The wrapper adds no level to names.

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        return self.net.named_parameters(prefix)

    def _named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        return self.net._named_modules(prefix)

    def __repr__(self) -> str:
        return f"DataParallel({self.net!r})"


def _trained(net: Module, parameters: Iterable[Parameter] | None) -> list[Parameter]:
    own = net.parameters()
    if parameters is None:
        return own
    trained = list(parameters)
    for parameter in trained:
        if not isinstance(parameter, Parameter):
            raise TypeError(f"parameters: expected parameters of net, got {type(parameter).__name__}")
    known, numbers = {id(p) for p in own}, [id(p) for p in trained]
    if not known.issuperset(numbers) or len(set(numbers)) < len(numbers):
        raise ValueError(
            "parameters: expected parameters of net, each once; sum the gradients of others, such as those of a loss, "
            "with World.start_sum"
        )
    return trained


def _described(parameters: list[Parameter]) -> list[tuple[str, tuple[int, ...], str]]:
    return [(p.name, p.data.shape, str(p.data.dtype)) for p in parameters]


@dataclass
class _Bucket:
    """Gradients that are summed together, one after the other in one array."""

    dtype: np.dtype[Any]
    size: int = 0
    places: list[tuple[Parameter, slice]] = field(default_factory=list)
    missing: int = 0
    sums: Any = None
    request: Any = None

    def add(self, parameter: Parameter) -> None:
        size = parameter.data.size
        self.places.append((parameter, slice(self.size, self.size + size)))
        self.size += size
        self.missing += 1


class _Sums:
    """The sums of one backward pass. All processes start them in the same order, that of the buckets."""

    def __init__(self, among: World, parameters: list[Parameter], bucket_bytes: int) -> None:
        self.among = among
        self.buckets: list[_Bucket] = []
        self.place_of: dict[int, tuple[_Bucket, slice]] = {}
        self.before = [(parameter, parameter.grad) for parameter in parameters]
        self.started = 0
        for parameter in reversed(parameters):
            data = parameter.data
            last = self.buckets[-1] if self.buckets else None
            if last is None or last.dtype != data.dtype or (last.size + data.size) * data.itemsize > bucket_bytes:
                self.buckets.append(_Bucket(data.dtype))
            bucket = self.buckets[-1]
            bucket.add(parameter)
            self.place_of[id(parameter)] = bucket, bucket.places[-1][1]

    def take(self, parameter: Parameter, grad: NDArray[Any], accumulate: bool) -> None:
        """What `Parameter.set_grad` is given in a backward pass."""
        if id(parameter) not in self.place_of:
            raise RuntimeError(f"{parameter.name}: expected one gradient in a backward pass, got another one")
        bucket, place = self.place_of.pop(id(parameter))
        self._allocated(bucket)[place] = grad.reshape(-1)
        bucket.missing -= 1
        self._start_complete()
        self.among.progress()

    def finish(self, accumulate: bool) -> None:
        """Wait for the sums, which become the gradients; what the pass has not reached in any process has zeros."""
        for parameter, grad in self.before:
            if id(parameter) in self.place_of and not (parameter.grad is None or parameter.grad is grad):
                raise RuntimeError(f"{parameter.name}: expected its gradient through Parameter.set_grad, got it set")
        for bucket, place in self.place_of.values():
            self._allocated(bucket)[place] = 0
            bucket.missing -= 1
        self._start_complete()
        for bucket in self.buckets:
            self.among.wait(bucket.request)
            for parameter, place in bucket.places:
                parameter.set_grad(bucket.sums[place].reshape(parameter.data.shape), accumulate)

    def _allocated(self, bucket: _Bucket) -> NDArray[Any]:
        if bucket.sums is None:
            bucket.sums = _backend.empty((bucket.size,), bucket.dtype)
        array: NDArray[Any] = bucket.sums
        return array

    def _start_complete(self) -> None:
        while self.started < len(self.buckets) and not self.buckets[self.started].missing:
            bucket = self.buckets[self.started]
            bucket.request = self.among.start_sum(bucket.sums)
            self.started += 1
