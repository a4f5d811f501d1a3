# Runtime part.
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from numpy.typing import DTypeLike, NDArray

__version__: str

def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def explicit_num_threads() -> int: ...
def thread_source() -> str: ...
def set_isa(name: str) -> None: ...
def get_isa() -> str: ...
def available_isas() -> list[str]: ...
def config() -> dict[str, Any]: ...
def empty_cache() -> None: ...
def cache_stats() -> dict[str, int]: ...
def empty(shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]: ...
def _set_spin_bounded(bounded: bool) -> None: ...
def _set_grain(ns: float) -> None: ...
def _last_team() -> int: ...
def _largest_team() -> int: ...
def _set_cache_bytes(l2: int, llc: int) -> None: ...
def _cgroup_limits(root: str) -> dict[str, float]: ...

# Kernel part: what fastnn.functional calls.  A tail is (activation, p0, p1, threshold, seed, position, first).
Array: TypeAlias = NDArray[Any]

def activation_names() -> tuple[str, ...]: ...
def activation_builtins(
    name: str, defaults: dict[str, float], from_output: Callable[..., bool] | None, doc: str, backward_doc: str
) -> tuple[Callable[..., Array], Callable[..., Array]]: ...
def bias_act(
    x: Array,
    bias: Array | None,
    residual: Array | None,
    out: Array | None,
    channel_axis: int,
    activation: int,
    p0: float,
    p1: float,
    threshold: int,
    seed: int,
    position: int,
    first: int,
    /,
) -> Array: ...
def bias_act_backward(
    dy: Array,
    kept: Array | None,
    kept_is_output: bool,
    bias: Array | None,
    residual: Array | None,
    dx: Array | None,
    want_dbias: bool,
    channel_axis: int,
    activation: int,
    p0: float,
    p1: float,
    threshold: int,
    seed: int,
    position: int,
    first: int,
    /,
) -> tuple[Array, Array | None]: ...
def batch_norm_train(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    pre_bias: Array | None,
    residual: Array | None,
    out: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    momentum: float,
    eps: float,
    nonfinite: int,
    channel_axis: int,
    activation: int,
    p0: float,
    p1: float,
    threshold: int,
    seed: int,
    position: int,
    first: int,
    /,
) -> tuple[Array, Array, Array]: ...
def batch_norm_infer(
    x: Array,
    running_mean: Array,
    running_var: Array,
    weight: Array | None,
    bias: Array | None,
    pre_bias: Array | None,
    residual: Array | None,
    out: Array | None,
    eps: float,
    channel_axis: int,
    activation: int,
    p0: float,
    p1: float,
    /,
) -> Array: ...
def batch_norm_backward(
    dy: Array,
    x: Array,
    mean: Array,
    invstd: Array,
    weight: Array | None,
    bias: Array | None,
    pre_bias: Array | None,
    residual: Array | None,
    dx: Array | None,
    channel_axis: int,
    activation: int,
    p0: float,
    p1: float,
    threshold: int,
    seed: int,
    position: int,
    first: int,
    /,
) -> tuple[Array, Array, Array, Array | None, Array | None]: ...
def channel_sum(x: Array, out: Array | None, channel_axis: int, /) -> Array: ...
def softmax_cross_entropy(logits: Array, labels: Array, out: Array | None, /) -> tuple[float, Array]: ...
def optimizer_names() -> tuple[str, ...]: ...
def optimizer_step(
    name: str,
    params: Sequence[Array],
    grads: Sequence[Array],
    states: Sequence[Sequence[Array] | None],
    scalars: Sequence[float],
    clip_norm: float | None,
    /,
) -> float | None: ...

# What fastnn.kernels publishes: capsules of C functions by name.
capsules: dict[str, object]

# Benchmark part.
def _bench_copy(dst: NDArray[Any], src: NDArray[Any], streaming: bool, repeats: int, threads: int) -> float: ...
def _bench_triad(
    a: NDArray[Any], b: NDArray[Any], c: NDArray[Any], streaming: bool, repeats: int, threads: int
) -> float: ...
def _bench_read(src: NDArray[Any], repeats: int, threads: int) -> float: ...
def _bench_region(repeats: int, gap: float) -> float: ...
def _bench_arithmetic(operation: str, level: str, repeats: int) -> float: ...
def _bench_capsule_call(elements: int, repeats: int) -> tuple[float, float]: ...
def _cache_bytes() -> tuple[int, int]: ...
