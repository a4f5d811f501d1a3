# cython: language_level=3
"""An integrand for SciPy: what an activation makes of a standard normal number."""

from libc.math cimport M_PI, exp, sqrt

from fastnn.kernels cimport activation_f64, activation_id


# What SciPy hands on to each call; `Activation` in gains.py.
cdef struct Activation:
    int number
    double p0, p1


cdef api double second_moment(double z, void *data) noexcept nogil:
    """f(z)^2 times the density at z."""
    cdef Activation *f = <Activation *>data
    cdef double y
    activation_f64(f.number, f.p0, f.p1, &z, &y, 1)
    return y * y * exp(-z * z / 2) / sqrt(2 * M_PI)


def number_of(str name):
    """The kernels' number of an activation, or -1."""
    return activation_id(name.encode())
