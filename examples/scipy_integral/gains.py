"""Gains of activations, 1 / sqrt(E[f(z)**2]) with z normal, by SciPy's quadrature of fastnn's kernels.

Run it with: python gains.py (after python setup.py build_ext --inplace)
"""

import ctypes
import math

import moments
from scipy import LowLevelCallable
from scipy.integrate import quad

from fastnn.init import calculate_gain


class Activation(ctypes.Structure):
    _fields_ = (("number", ctypes.c_int), ("p0", ctypes.c_double), ("p1", ctypes.c_double))


def gain(name, p0=0.0, p1=0.0):
    """Of an activation whose parameters are p0 and p1: no Python runs while SciPy integrates."""
    activation = Activation(moments.number_of(name), p0, p1)
    data = ctypes.cast(ctypes.pointer(activation), ctypes.c_void_p)
    integrand = LowLevelCallable.from_cython(moments, "second_moment", data)
    below, above = quad(integrand, -math.inf, 0)[0], quad(integrand, 0, math.inf)[0]
    return 1 / math.sqrt(below + above)


def main():
    print("activation   by quadrature   fastnn.init")
    for name in ("relu", "gelu", "silu", "mish", "softsign"):
        print(f"{name:<12} {gain(name):13.10f} {calculate_gain(name):13.10f}")
    print(f"leaky_relu   {gain('leaky_relu', 0.2):13.10f} {calculate_gain('leaky_relu', 0.2):13.10f}")


if __name__ == "__main__":
    main()
