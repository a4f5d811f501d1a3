"""Arrays of other libraries: taken everywhere, with the same bits and without a copy, or refused in words."""

from __future__ import annotations

import array
import ctypes
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn
import fastnn.functional as F
from fastnn import reference
from fastnn.cases import CASES, Case

Array = np.ndarray[Any, Any]


class Exporter:
    """Another library's array: nothing but a protocol."""

    def __init__(self, values: Array) -> None:
        self.values = values


class DLPack(Exporter):
    def __dlpack__(self, **options: Any) -> Any:
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


class Interface(Exporter):
    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self.values.__array_interface__


class Converted(Exporter):
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self.values


class Tensor(DLPack):
    """What a tensor of torch does at the border, without torch."""

    requires_grad = False
    device = "cpu"


class OnGPU(Tensor):
    device = "cuda:0"

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)


class Meta(Tensor):
    def __dlpack_device__(self) -> tuple[int, int]:
        raise ValueError("Unknown device type meta for Dlpack")


class Sparse(Tensor):
    def __dlpack__(self, **options: Any) -> Any:
        raise BufferError("Can't export tensors with layout other than torch.strided")


class Recorded(Tensor):
    requires_grad = True


FORMS: list[Callable[[Array], Any]] = [memoryview, DLPack, Interface, Converted, Tensor]

WRITTEN = {"out", "params", "running_mean", "running_var"}
"""Arguments that stay NumPy arrays; the states of optimizers come in lists behind the gradients."""


class OfOthers:
    """A namespace of ops whose inputs come as arrays of another kind."""

    def __init__(self, ops: Any, form: Callable[[Array], Any]) -> None:
        self.ops, self.form = ops, form
        self.seen = 0

    def _other(self, name: str, value: Any) -> Any:
        if isinstance(value, np.ndarray) and name not in WRITTEN:
            self.seen += 1
            return self.form(value)
        return [self._other(name, item) for item in value] if name == "grads" else value

    def __getattr__(self, name: str) -> Any:
        op = getattr(self.ops, name)
        signature = inspect.signature(op)

        def called(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            bound.arguments.update({key: self._other(key, value) for key, value in bound.arguments.items()})
            return op(*bound.args, **bound.kwargs)

        return called


def run(case: Case, ops: Any, shape: Any) -> dict[str, Any]:
    inputs = case.inputs(shape, np.float32)
    outputs, saved = case.forward(ops, inputs)
    return outputs | (case.backward(ops, inputs, saved) or {})


def size(shape: Any) -> int:
    return sum(map(size, shape)) if shape and isinstance(shape[0], tuple) else int(np.prod(shape))


@pytest.mark.parametrize("ops", [F, reference], ids=["functional", "reference"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_op_takes_them_with_the_same_bits(case: Case, ops: Any) -> None:
    shape = min((shape for shape in case.shapes if size(shape) > 1), key=size)
    others = OfOthers(ops, FORMS[len(case.name) % len(FORMS)])
    got, want = run(case, others, shape), run(case, ops, shape)
    assert others.seen
    assert got.keys() == want.keys()
    for name, value in want.items():
        if isinstance(value, np.ndarray):
            assert isinstance(got[name], np.ndarray)
        np.testing.assert_array_equal(got[name], value, err_msg=name)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_memory_is_shared_and_results_are_numpy_arrays(form: Callable[[Array], Any]) -> None:
    x = np.linspace(-1, 1, 24, dtype=np.float32).reshape(6, 4)
    y, saved = F.batch_norm(form(x), training=True)
    assert type(y) is np.ndarray and type(saved.x) is np.ndarray
    assert np.shares_memory(saved.x, x)


def test_what_is_kept_keeps_its_source_alive() -> None:
    memory = bytearray(np.linspace(-1, 1, 24, dtype=np.float32).tobytes())
    x = memoryview(memory).cast("f", (6, 4))
    _, saved = F.layer_norm(x, 4)
    del x
    with pytest.raises(BufferError):  # somebody looks at it
        memory.clear()
    F.layer_norm_backward(np.ones((6, 4), np.float32), saved)
    del saved
    memory.clear()


def test_arrays_of_the_standard_library_and_files(tmp_path: Path) -> None:
    values = np.array([-1, 0.5, 2], np.float32)
    want = F.relu(values)
    values.tofile(tmp_path / "x")
    mapped = np.memmap(tmp_path / "x", np.float32, "r")
    read_only = memoryview(values.tobytes()).cast("f")
    for x in (array.array("f", values), (ctypes.c_float * 3)(*values), mapped, read_only):
        y = F.relu(x)
        assert type(y) is np.ndarray
        np.testing.assert_array_equal(y, want)


def test_strides_of_any_sign() -> None:
    x = np.arange(24, dtype=np.float32).reshape(4, 6) - 12
    np.testing.assert_array_equal(F.relu(memoryview(x)[::-1]), F.relu(x[::-1].copy()))
    np.testing.assert_array_equal(F.relu(DLPack(x[::-2, ::-1])), F.relu(x[::-2, ::-1].copy()))
    np.testing.assert_array_equal(F.relu(Converted(x.T)), F.relu(x.T.copy()))


def test_labels_and_probabilities() -> None:
    logits = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    labels = array.array("i", [0, 2, 1, 1])
    want, _ = F.softmax_cross_entropy(logits, np.array(labels))
    assert F.softmax_cross_entropy(Tensor(logits), labels)[0] == want
    shares = F.softmax(logits)
    assert F.softmax_cross_entropy(logits, Tensor(shares))[0] == F.softmax_cross_entropy(logits, shares)[0]


ONES = np.ones((3, 2), np.float32)

REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: OnGPU(ONES), "expected an array on the CPU, got OnGPU on cuda:0; copy it to the CPU"),
    (lambda: Meta(ONES), "expected an array that NumPy can read, got Meta: Unknown device type meta"),
    (lambda: Sparse(ONES), "expected an array that NumPy can read, got Sparse: Can't export"),
    (lambda: Recorded(ONES), "expected an array, got Recorded that requires grad; detach it"),
    (lambda: np.ma.masked_less(ONES, 2), "expected an array without a mask, got MaskedArray; fill it"),
]

WRONG_TYPES: list[tuple[Callable[[], Any], str]] = [
    (lambda: DLPack(ONES.astype(np.float16)), "got float16"),
    (lambda: Tensor(np.ones((3, 2), np.int64)), "got int64"),
    (lambda: memoryview(ONES.astype(">f4")), r"got >f4 \(not in native byte order\)"),
    (lambda: Converted(ONES.astype(object)), "got object"),
    (lambda: b"123456", "got uint8"),
    (lambda: ONES.tolist(), "got list"),
    (lambda: np.float32(1), "got numpy.float32"),
    (lambda: 1.0, "got float"),
    (lambda: None, "got NoneType"),
]


@pytest.mark.parametrize(
    ("make", "message"), REFUSED + WRONG_TYPES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_functions_say_what_is_wrong(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=f"^x: (expected .*)?{message}"):
        F.relu(make())
    with pytest.raises(TypeError, match=f"^dy: (expected .*)?{message}"):
        F.relu_backward(make(), ONES)


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_layers_losses_optimizers_and_the_reference_say_it_too(make: Callable[[], Any], message: str) -> None:
    layer = fastnn.Linear(2, 2)
    calls = [
        (lambda: layer.predict(make()), "x"),
        (lambda: fastnn.Dropout(0.5).eval()(make()), "x"),
        (lambda: fastnn.CrossEntropyLoss()(ONES, make()), "labels"),
        (lambda: fastnn.optim.SGD([ONES.copy()], lr=0.1).step([make()]), r"grads\[0\]"),
        (lambda: reference.relu(make()), "x"),
        (lambda: layer.load_state_dict({"weight": make(), "bias": ONES[0]}), "weight"),
        (lambda: F.conv2d(make(), ONES.reshape(3, 2, 1, 1)), "x"),
    ]
    for call, name in calls:
        with pytest.raises(TypeError, match=f"^{name}: {message}"):
            call()


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_what_is_written_stays_a_numpy_array(form: Callable[[Array], Any]) -> None:
    x, c = ONES.copy(), np.ones(2, np.float32)
    calls = [
        (lambda: F.relu(x, out=form(x)), "out"),
        (lambda: F.batch_norm(x, form(c), c.copy(), training=True), "running_mean"),
        (lambda: F.sgd_step([form(x)], [x], None, lr=0.1), r"params\[0\]"),
        (lambda: fastnn.optim.SGD([form(x)], lr=0.1), r"params\[0\]"),
        (lambda: F.conv2d(np.ones((1, 2, 3, 3), np.float32), np.ones((1, 2, 1, 1), np.float32), out=form(x)), "out"),
    ]
    for call, name in calls:
        with pytest.raises(TypeError, match=f"^{name}: expected a"):
            call()
    assert F.batch_norm(x, form(c), form(c))[0].shape == x.shape  # read alone, in inference


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "reference"])
@pytest.mark.parametrize("form", [memoryview, Tensor], ids=lambda form: form.__name__)
def test_networks_train_on_them(form: Callable[[Array], Any], kernels: bool) -> None:
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((64, 8)).astype(np.float32), rng.integers(0, 3, 64)

    def weights(convert: Callable[[Array], Any]) -> dict[str, Array]:
        fastnn.manual_seed(1)
        net = fastnn.Sequential(
            *(fastnn.Linear(8, 8), fastnn.BatchNorm1d(8), fastnn.GELU(), fastnn.Dropout(0.3), fastnn.Linear(8, 3))
        )
        loss_fn, opt = fastnn.CrossEntropyLoss(), fastnn.optim.Adam(net.parameters(), lr=0.01)
        for batch in np.arange(64).reshape(4, 16):
            loss_fn(net(convert(x[batch])), convert(labels[batch]))
            net.backward(convert(loss_fn.backward()))
            opt.step([convert(parameter.grad) for parameter in net.parameters()])
        assert type(net.predict(convert(x))) is np.ndarray
        assert net.mc_predict(convert(x), 2)[0].shape == (64, 3)
        fastnn.recalibrate(net, [convert(x)])
        fastnn.train.fit(net, loss_fn, opt, convert(x), convert(labels), epochs=1, progress=False)
        return net.state_dict()

    def trained(convert: Callable[[Array], Any]) -> dict[str, Array]:
        if kernels:
            return weights(convert)
        with fastnn.use_reference():
            return weights(convert)

    got, want = trained(form), trained(lambda values: values)
    for name in want:
        np.testing.assert_array_equal(got[name], want[name])


def test_what_is_no_array_is_left_to_the_layer() -> None:
    class Pair(fastnn.Module):
        def _forward(self, x: Any, training: bool) -> Any:
            return x[0] + x[1], None

    assert Pair().predict((1, 2)) == 3  # type: ignore[arg-type]


@pytest.mark.parametrize("library", ["torch", "jax.numpy"])
def test_arrays_of_libraries(library: str) -> None:
    module = pytest.importorskip(library)
    values = np.linspace(-2, 2, 40, dtype=np.float32).reshape(5, 8)
    x = module.asarray(values)
    want = F.gelu(values)
    for given, expected in ((x, want), (x.T, F.gelu(values.T.copy())), (x[1:, ::2], F.gelu(values[1:, ::2].copy()))):
        y = F.gelu(given)
        assert type(y) is np.ndarray
        np.testing.assert_array_equal(y, expected)
    labels = module.asarray([0, 3, 1, 2, 7])
    assert F.softmax_cross_entropy(x, labels)[0] == F.softmax_cross_entropy(values, np.array([0, 3, 1, 2, 7]))[0]
    half = x.astype(module.bfloat16) if library == "jax.numpy" else x.to(module.bfloat16)
    with pytest.raises(TypeError, match=r"^x: expected .*(bfloat16|BFloat16)"):
        F.gelu(half)


def test_tensors_of_torch_that_cannot_be_read() -> None:
    torch = pytest.importorskip("torch")
    for tensor, message in (
        (torch.ones(3, requires_grad=True), "got Tensor that requires grad; detach it"),
        (torch.nn.Parameter(torch.ones(3)), "got Parameter that requires grad; detach it"),
        (torch.ones(3, device="meta"), "(on meta|NumPy can read)"),
        (torch.ones(3).to_sparse(), "NumPy can read, got Tensor"),
        (torch.ones(3, dtype=torch.float16), "got float16"),
        (torch._neg_view(torch.ones(3)), r"got Tensor with its negative bit set; call resolve_neg\(\)"),
        (torch.complex(torch.ones(3), torch.ones(3)).conj().imag, "negative bit"),
        (torch.complex(torch.ones(3), torch.ones(3)).conj(), "NumPy can read, got Tensor: .*conj"),
        (torch._efficientzerotensor(3), "NumPy can read, got Tensor: it has no memory"),
        (torch.nn.parameter.UninitializedBuffer(), "NumPy can read, got UninitializedBuffer"),
    ):
        with pytest.raises(TypeError, match=f"^x: expected .*{message}"):
            F.relu(tensor)


def test_memory_that_torch_has_freed_is_not_read() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.ones(3)
    tensor.untyped_storage().resize_(0)
    with pytest.raises(TypeError, match=r"^x: expected .* it has no memory"):
        F.relu(tensor)
    assert F.relu(torch.ones(0, 3)).shape == (0, 3)


def test_deleted_arrays_of_jax_are_refused() -> None:
    array = pytest.importorskip("jax.numpy").ones(3)
    array.delete()
    with pytest.raises(TypeError, match=r"^x: expected an array, got ArrayImpl that has been deleted"):
        F.relu(array)


def test_tracers_of_jax_are_refused() -> None:
    jax = pytest.importorskip("jax")
    with pytest.raises(TypeError, match=r"^x: expected an array that NumPy can read"):
        jax.jit(F.relu)(np.ones(3, np.float32))


def test_import_loads_nothing_of_it(run_python: Callable[..., Any]) -> None:
    loaded = run_python("import sys, fastnn\nprint(*sys.modules)").stdout.split()
    assert not {"fastnn._convert", "fastnn.interop", "torch", "autograd", "safetensors"} & set(loaded)
