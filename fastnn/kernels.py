"""The kernels as C functions, for Cython, C and C++ (and numba and SciPy): no GIL, no Python objects.

``from fastnn.kernels cimport ...`` in Cython (`kernels.pxd` declares them), ``fastnn.h`` in `fastnn.get_include()` in
C and C++.  Capsules are named after the C signature, which importers compare with what they were compiled for.
"""

from __future__ import annotations

from fastnn import _core

__pyx_capi__: dict[str, object] = _core.capsules
