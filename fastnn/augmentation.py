"""Random changes of images that leave their labels true: what a network should not mind, shown to it in training.

A transform is called with a batch and a generator, ``transform(x, rng)``, and returns a new batch of the same shape and
type::

    transform = Sometimes(0.5, Compose(Rotate(10), Shift(1), Noise(0.05)))
    for batch in batches:
        y = net(transform(x[batch], rng))

Images are moved by `scipy.ndimage`, which is loaded at the first call and installed by
``pip install 'fastnn-kernels[sklearn]'``.  Pixels from outside are 0, so zero-centre images afterwards, or let
``cval`` say what lies outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn._checks import check_array, check_number

__all__ = ["Compose", "Noise", "Rotate", "Shift", "Sometimes", "Transform"]

Array: TypeAlias = NDArray[Any]
Transform: TypeAlias = Callable[[Array, np.random.Generator], Array]


def _ndimage() -> Any:
    try:
        from scipy import ndimage
    except ImportError as error:
        raise ImportError(
            "fastnn.augmentation: expected scipy, which is not installed; pip install 'fastnn-kernels[sklearn]'"
        ) from error
    return ndimage


def _check_floats(x: Any) -> Array:
    array: Array = check_array("x", x)
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"x: expected float32 or float64, got {array.dtype}")
    return array


def _check_at_least_zero(name: str, value: Any) -> None:
    check_number(name, value)
    if not 0 <= value < math.inf:
        raise ValueError(f"{name}: expected a finite number >= 0, got {value}")


@dataclass(frozen=True)
class _Warp:
    """Images moved by a random affine map each, all channels of one alike."""

    def _maps(self, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Matrices (n, 2, 2), shifts (n, 2): from the centre, output pixel p shows input pixel matrix @ p + shift."""
        raise NotImplementedError

    def _warp(self, x: Array, rng: np.random.Generator, axes: tuple[int, int], order: int, cval: float) -> Array:
        x = _check_floats(x)
        if x.ndim < 3:
            raise ValueError(f"x: expected a batch of images, (N, H, W) or with channels, got shape {x.shape}")
        height, width = (axis % x.ndim for axis in axes)
        if 0 in (height, width) or height == width:
            raise ValueError(f"axes: expected those of rows and columns, behind the samples, got {axes}")
        ndimage = _ndimage()
        images = np.moveaxis(x, (height, width), (-2, -1))
        out = np.empty(images.shape, x.dtype)
        center = (np.array(images.shape[-2:]) - 1) / 2
        for image, result, matrix, shift in zip(images, out, *self._maps(len(x), rng), strict=True):
            offset = center + shift - matrix @ center
            for index in np.ndindex(image.shape[:-2]):
                ndimage.affine_transform(
                    image[index], matrix, offset, output=result[index], order=order, mode="grid-constant", cval=cval
                )
        return np.ascontiguousarray(np.moveaxis(out, (-2, -1), (height, width)))


@dataclass(frozen=True)
class Shift(_Warp):
    """Moves each image by a random number of pixels, along rows and columns.

    Parameters
    ----------
    pixels : float, default 1
        The most; uniform within +-pixels.  Parts of pixels are interpolated.
    axes : (int, int), default (-2, -1)
        Rows and columns: (1, 2) for (N, H, W, C).
    order : int, default 1
        Of the spline that interpolates, as in `scipy.ndimage`: 1 is linear, 0 nearest.
    cval : float, default 0
        What lies outside.

    Raises
    ------
    ValueError
        If `pixels` is negative.
    """

    pixels: float = 1.0
    axes: tuple[int, int] = (-2, -1)
    order: int = 1
    cval: float = 0.0

    def __post_init__(self) -> None:
        _check_at_least_zero("pixels", self.pixels)

    def _maps(self, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        return np.broadcast_to(np.eye(2), (n, 2, 2)), rng.uniform(-self.pixels, self.pixels, (n, 2))

    def __call__(self, x: Array, rng: np.random.Generator) -> Array:
        """The batch `x`, an array (N, ..., H, W) of float32 or float64, each image moved."""
        return self._warp(x, rng, self.axes, self.order, self.cval)


@dataclass(frozen=True)
class Rotate(_Warp):
    """Turns each image about its centre by a random angle.

    Parameters
    ----------
    degrees : float, default 10
        The most; uniform within +-degrees.
    axes, order, cval : as in `Shift`

    Raises
    ------
    ValueError
        If `degrees` is negative.
    """

    degrees: float = 10.0
    axes: tuple[int, int] = (-2, -1)
    order: int = 1
    cval: float = 0.0

    def __post_init__(self) -> None:
        _check_at_least_zero("degrees", self.degrees)

    def _maps(self, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        angles = np.deg2rad(rng.uniform(-self.degrees, self.degrees, n))
        cos, sin = np.cos(angles), np.sin(angles)
        return np.array([[cos, -sin], [sin, cos]]).transpose(2, 0, 1), np.zeros((n, 2))

    def __call__(self, x: Array, rng: np.random.Generator) -> Array:
        """The batch `x`, an array (N, ..., H, W) of float32 or float64, each image turned."""
        return self._warp(x, rng, self.axes, self.order, self.cval)


@dataclass(frozen=True)
class Noise:
    """Adds normally distributed numbers to every pixel.

    Parameters
    ----------
    std : float, default 0.1

    Raises
    ------
    ValueError
        If `std` is negative.

    Notes
    -----
    Within a network, `fastnn.GaussianNoise` does it faster.
    """

    std: float = 0.1

    def __post_init__(self) -> None:
        _check_at_least_zero("std", self.std)

    def __call__(self, x: Array, rng: np.random.Generator) -> Array:
        """The batch `x`, an array of float32 or float64 of any shape, with noise."""
        x = _check_floats(x)
        return (x + self.std * rng.standard_normal(x.shape)).astype(x.dtype)


class Compose:
    """One transform after the other.

    Parameters
    ----------
    *transforms : functions ``(x, rng) -> x``
    """

    def __init__(self, *transforms: Transform) -> None:
        for index, transform in enumerate(transforms):
            if not callable(transform):
                raise TypeError(f"transforms[{index}]: expected a function, got {type(transform).__name__}")
        self.transforms = transforms

    def __call__(self, x: Array, rng: np.random.Generator) -> Array:
        """The batch `x`, changed by all of them."""
        for transform in self.transforms:
            x = transform(x, rng)
        return x

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(repr, self.transforms))})"


class Sometimes:
    """Changes each image with probability `p`, and leaves the others: a network then sees images as they are, too.

    Parameters
    ----------
    p : float
        In [0, 1].
    transform : function ``(x, rng) -> x``
    """

    def __init__(self, p: float, transform: Transform) -> None:
        check_number("p", p)
        if not 0 <= p <= 1:
            raise ValueError(f"p: expected a probability in [0, 1], got {p}")
        if not callable(transform):
            raise TypeError(f"transform: expected a function, got {type(transform).__name__}")
        self.p = p
        self.transform = transform

    def __call__(self, x: Array, rng: np.random.Generator) -> Array:
        """The batch `x`, some of its images changed."""
        x = check_array("x", x)
        chosen = rng.random(len(x)) < self.p
        out: Array = x.copy()
        out[chosen] = self.transform(x[chosen], rng)
        return out

    def __repr__(self) -> str:
        return f"Sometimes({self.p:g}, {self.transform!r})"
