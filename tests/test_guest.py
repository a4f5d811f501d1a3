"""fastnn leaves the process as it found it: modules, environment, random state, floating-point mode."""

from __future__ import annotations

import ctypes
import platform
import sys

import numpy as np
import pytest

import fastnn
import fastnn.functional as F

IMPORTS = """
import sys
import numpy
before = set(sys.modules)
import fastnn
import fastnn.functional
import fastnn.layers, fastnn.losses, fastnn.optim, fastnn.reference, fastnn.random, fastnn.cases
import fastnn.monitor, fastnn.train
fastnn.CrossEntropyLoss, fastnn.Linear, fastnn.manual_seed
for name in sorted(set(sys.modules) - before):
    print(name)
"""


def test_imports_only_numpy_and_the_standard_library(run_python) -> None:
    roots = {name.partition(".")[0] for name in run_python(IMPORTS).stdout.split()}
    assert "fastnn" in roots
    foreign = {name for name in roots if not name.startswith("_")} - {"fastnn", "numpy", *sys.stdlib_module_names}
    assert foreign == set()


def test_import_alone_loads_no_heavy_part(run_python) -> None:
    loaded = run_python("import sys, fastnn\nprint(*sys.modules)").stdout.split()
    heavy = {"fastnn.cases", "fastnn.reference", "fastnn.layers", "fastnn.cli", "fastnn.bench", "argparse", "gzip"}
    heavy |= {"fastnn.functional", "fastnn.data", "fastnn.losses", "fastnn.train", "fastnn.monitor"}
    assert heavy.isdisjoint(loaded)


def test_environment_is_left_alone(run_python) -> None:
    script = """
import ctypes, os
before = dict(os.environ)
import fastnn
assert dict(os.environ) == before
getenv = ctypes.CDLL(None).getenv
getenv.restype = ctypes.c_char_p
print(getenv(b"GOMP_SPINCOUNT"))
"""
    assert run_python(script).stdout.strip() == "None"


def use_everything() -> None:
    fastnn.manual_seed(7)
    x = np.random.default_rng(0).standard_normal((64, 48), dtype=np.float32)
    y, saved = F.dropout(x, 0.5)
    F.dropout_backward(y, saved)
    y, saved = F.bias_act(x.copy(), np.ones(48, np.float32), activation="relu", dropout=0.25)
    F.bias_act_backward(np.ones_like(y), saved)
    y, saved = F.batch_norm(x, training=True, activation="relu", dropout=0.25)
    F.batch_norm_backward(np.ones_like(y), saved)
    F.softmax_cross_entropy(x, np.zeros(64, np.int64))
    F.sgd_step([x], [x.copy()], None, lr=0.1)


def test_numpy_random_state_is_untouched() -> None:
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    keys = keys.copy()
    use_everything()
    name_after, keys_after, *rest_after = np.random.get_state()  # noqa: NPY002
    assert (name_after, rest_after) == (name, rest)
    np.testing.assert_array_equal(keys_after, keys)


# (offset of the control word in fenv_t, bits that are settings rather than sticky flags, flush-to-zero bits)
CONTROL_WORD = {"x86_64": (28, 0xFFC0, 0x8040), "aarch64": (0, 0xFFFFFFFF, 1 << 24)}

FLOAT_MODE = """
import ctypes, ctypes.util, sys
import numpy as np

OFFSET, SETTINGS, FLUSH = {word}
libm = ctypes.CDLL(ctypes.util.find_library("m"))
def get():
    env = (ctypes.c_ubyte * 64)()
    assert libm.fegetenv(env) == 0
    return env
def control(env):
    return ctypes.c_uint32.from_buffer(env, OFFSET).value & SETTINGS
def flushing():
    return not (np.full(4, 1e-40, np.float32) * np.float32(0.5)).any()
"""


def float_mode_script() -> str:
    word = CONTROL_WORD.get(platform.machine())
    if word is None:
        pytest.skip("the layout of fenv_t is not known for this platform")
    return FLOAT_MODE.format(word=word)


def test_floating_point_mode_survives_the_import_and_calls(run_python) -> None:
    script = (
        float_mode_script()
        + """
before = control(get())
import fastnn, fastnn.functional as F
from fastnn import _core
assert control(get()) == before
x = np.ones((128, 4096), np.float32)
for grain in (-1, 0):
    _core._set_grain(grain)
    F.relu(x)
    F.batch_norm(x, training=True)
    assert control(get()) == before
assert not flushing()
"""
    )
    run_python(script)


def test_foreign_flush_to_zero_changes_no_bit_and_is_kept(run_python) -> None:
    """Libraries linked with -ffast-math turn it on for the process; threads born afterwards inherit it."""
    script = (
        float_mode_script()
        + """
import fastnn, fastnn.functional as F
from fastnn import _core
x = np.full(100_000, -1e-40, np.float32)
half = x * np.float32(0.5)
assert half.all()
half_bits = half.view(np.uint32)
env = get()
ctypes.c_uint32.from_buffer(env, OFFSET).value |= FLUSH
assert libm.fesetenv(env) == 0
assert flushing()
foreign = control(get())
for grain, threads in ((-1, 1), (0, 1), (0, 3)):
    _core._set_grain(grain)
    fastnn.set_num_threads(threads)
    y = F.leaky_relu(x, 0.5)
    assert np.array_equal(y.view(np.uint32), half_bits), (grain, threads)
    assert control(get()) == foreign
assert flushing()
"""
    )
    run_python(script)


def test_rounding_mode_is_put_back(run_python) -> None:
    script = (
        float_mode_script()
        + """
import fastnn, fastnn.functional as F
x = np.random.default_rng(0).standard_normal(1000, dtype=np.float32)
expected = F.leaky_relu(x, 0.1).view(np.uint32)
upward = {upward}
assert libm.fesetround(upward) == 0
assert np.array_equal(F.leaky_relu(x, 0.1).view(np.uint32), expected)
assert libm.fegetround() == upward
""".replace("{upward}", "0x800" if platform.machine() == "x86_64" else "0x400000")
    )
    run_python(script)


@pytest.mark.parametrize("mode", ["flush", "upward"])
def test_no_op_computes_in_a_foreign_mode(run_python, mode: str) -> None:
    """Every case: statistics, finishing touches and scalars included, on one thread and on three."""
    script = (
        float_mode_script()
        + """
import fastnn, fastnn.functional as F
from fastnn import _core
from fastnn.cases import CASES

def bits(case, inputs):
    outputs, saved = case.forward(F, inputs)
    gradients = case.backward(F, inputs, saved) if case.backward else None
    outputs |= gradients or {}
    if "losses" in outputs:
        del outputs["loss"]  # added by the case, in Python
    return {name: np.asarray(value).tobytes() for name, value in outputs.items()}

# Optimizers combine their numbers in Python, in whatever mode Python computes.
cases = [case for case in CASES if {flush} or case.family != "optimizer"]
inputs = [[case.inputs(case.shapes[-1], np.float32) for case in cases] for _ in range(3)]
_core._set_grain(0)
expected = [bits(case, values) for case, values in zip(cases, inputs[0])]
env = get()
if {flush}:
    ctypes.c_uint32.from_buffer(env, OFFSET).value |= FLUSH
    assert libm.fesetenv(env) == 0
else:
    assert libm.fesetround({upward}) == 0
for threads, values in ((1, inputs[1]), (3, inputs[2])):
    fastnn.set_num_threads(threads)
    for case, wanted, one in zip(cases, expected, values):
        assert bits(case, one) == wanted, (case.name, threads)
""".replace("{flush}", str(mode == "flush")).replace(
            "{upward}", "0x800" if platform.machine() == "x86_64" else "0x400000"
        )
    )
    run_python(script)


def test_no_symbol_of_ours_is_exported() -> None:
    """Hidden visibility: nothing of fastnn can be bound to, or replaced, by another library's symbol."""
    library = ctypes.CDLL(fastnn._core.__file__)
    assert hasattr(library, "PyInit__core")
    assert not hasattr(library, "fastnn_kernels_baseline")
