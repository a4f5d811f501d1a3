"""Windows over images: the columns of a convolution, and pooling."""

from __future__ import annotations

from typing import TypeAlias

from fastnn._core import Saved
from fastnn.functional._arrays import Array
from fastnn.functional._builtin import builtin

__all__ = [
    "avg_pool2d",
    "avg_pool2d_backward",
    "col2im",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "im2col",
    "max_pool2d",
    "max_pool2d_backward",
]

Pair: TypeAlias = int | tuple[int, int]
"""Of height and width; one integer stands for both."""


@builtin
def im2col(
    x: Array,
    kernel_size: Pair,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    *,
    channel_axis: int = 1,
    out: Array | None = None,
) -> Array:
    """The pixels under each position of a window, as one matrix: a convolution is its product with the weights.

    With channels first it is (C * kh * kw, N * oh * ow), a column for each output pixel, and
    ``weight.reshape(O, -1) @ columns`` gives (O, N * oh * ow).  With channels last it is (N * oh * ow, kh * kw * C), a
    row for each output pixel.  Either way the product is a single one, forward and for both gradients.
    (`torch.nn.functional.unfold` gives a matrix for each sample, (N, C * kh * kw, oh * ow).)  There are
    ``oh = (H + 2 * padding - dilation * (kh - 1) - 1) // stride + 1`` positions; what is outside the image is 0.

    Parameters
    ----------
    x : array, float32 or float64
        (N, C, H, W), or (N, H, W, C).
    kernel_size : int or (kh, kw)
    stride, padding, dilation : int or pair, default 1, 0, 1
    channel_axis : int, default 1
        1 for (N, C, H, W), -1 for (N, H, W, C).
    out : array of the type of `x`, optional
        C-contiguous; receives the matrix.

    Returns
    -------
    array, two-dimensional

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64, or sizes that are not integers.
    ValueError
        For sizes out of range, a window that is larger than the padded image, or an unsuitable `out`.
    """


@builtin
def col2im(
    columns: Array,
    input_size: Pair,
    kernel_size: Pair,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    *,
    channel_axis: int = 1,
    out: Array | None = None,
) -> Array:
    """Adjoint of `im2col`, its gradient: each pixel is the sum of what it has given to `columns`, in a fixed order.

    Parameters
    ----------
    columns : array, float32 or float64
        Like what `im2col` returns.
    input_size : (H, W)
        Of the images.
    kernel_size : int or (kh, kw)
    stride, padding, dilation : int or pair, default 1, 0, 1
    channel_axis : int, default 1
    out : array of the type of `columns`, optional
        C-contiguous; receives the images.

    Returns
    -------
    (N, C, H, W) array, or (N, H, W, C)

    Raises
    ------
    TypeError, ValueError
        As for `im2col`, and for `columns` of another shape.
    """


@builtin
def max_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    *,
    channel_axis: int = 1,
    out: Array | None = None,
) -> tuple[Array, Saved]:
    """The maximum of each window, as `torch.nn.functional.max_pool2d`.

    NaN is larger than everything.  Kept for backward is one byte for each output: which position of the window its
    maximum had, the first one of equal ones (two bytes for windows of more than 256 pixels).

    Parameters
    ----------
    x : array, float32 or float64
        (N, C, H, W), or (N, H, W, C).
    kernel_size : int or (kh, kw)
    stride : int or pair, optional
        Default: `kernel_size`.
    padding : int or pair, default 0
        With -inf, at most half of `kernel_size`.
    channel_axis : int, default 1
        1 for (N, C, H, W), -1 for (N, H, W, C).
    out : array of the type of `x`, optional
        C-contiguous; receives y.

    Returns
    -------
    y : (N, C, oh, ow) array, or (N, oh, ow, C)
        With ``oh = (H + 2 * padding - kh) // stride + 1``.
    saved : Saved

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64, or sizes that are not integers.
    ValueError
        For sizes out of range, a window that is larger than the padded image, or an unsuitable `out`.
    """


@builtin
def max_pool2d_backward(dy: Array, saved: Saved, *, out: Array | None = None) -> Array:
    """Gradient of `max_pool2d`: each output's goes to the pixel that was its maximum, in the order of the outputs.

    Parameters
    ----------
    dy : array like the output of `max_pool2d`
    saved : Saved
    out : array like the input of `max_pool2d`, optional
        C-contiguous; receives dx.

    Returns
    -------
    array like the input of `max_pool2d`

    Raises
    ------
    TypeError, ValueError
        For a `dy` that is not like the output, or an unsuitable `out`.
    """


@builtin
def avg_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    *,
    count_include_pad: bool = True,
    channel_axis: int = 1,
    out: Array | None = None,
) -> Array:
    """The mean of each window, as `torch.nn.functional.avg_pool2d`.

    Parameters
    ----------
    x : array, float32 or float64
        (N, C, H, W), or (N, H, W, C).
    kernel_size : int or (kh, kw)
    stride : int or pair, optional
        Default: `kernel_size`.
    padding : int or pair, default 0
        With zeros, at most half of `kernel_size`.
    count_include_pad : bool, default True
        Whether the sum is divided by the size of the window, or by the number of its pixels inside the image.
    channel_axis : int, default 1
        1 for (N, C, H, W), -1 for (N, H, W, C).
    out : array of the type of `x`, optional
        C-contiguous; receives y.

    Returns
    -------
    (N, C, oh, ow) array, or (N, oh, ow, C)

    Raises
    ------
    TypeError, ValueError
        As for `max_pool2d`.
    """


@builtin
def avg_pool2d_backward(
    dy: Array,
    input_size: Pair,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    *,
    count_include_pad: bool = True,
    channel_axis: int = 1,
    out: Array | None = None,
) -> Array:
    """Gradient of `avg_pool2d`: each pixel sums its shares of the windows that it is in, in a fixed order.

    Parameters
    ----------
    dy : array like the output of `avg_pool2d`
    input_size : (H, W)
        Of the images.
    kernel_size : int or (kh, kw)
    stride, padding : int or pair
    count_include_pad : bool, default True
    channel_axis : int, default 1
        As in the forward pass.
    out : array like the input of `avg_pool2d`, optional
        C-contiguous; receives dx.

    Returns
    -------
    array like the input of `avg_pool2d`

    Raises
    ------
    TypeError, ValueError
        As for `max_pool2d`, and for a `dy` of another shape.
    """


@builtin
def global_avg_pool2d(x: Array, *, channel_axis: int = 1, out: Array | None = None) -> Array:
    """The mean of each channel of each image.

    Parameters
    ----------
    x : array, float32 or float64
        (N, C, H, W), or (N, H, W, C).
    channel_axis : int, default 1
        1 for (N, C, H, W), -1 for (N, H, W, C).
    out : (N, C) array of the type of `x`, optional
        Receives the means.

    Returns
    -------
    (N, C) array

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64.
    ValueError
        For images without pixels, another number of dimensions, or an unsuitable `out`.
    """


@builtin
def global_avg_pool2d_backward(
    dy: Array, input_size: Pair, *, channel_axis: int = 1, out: Array | None = None
) -> Array:
    """Gradient of `global_avg_pool2d`: dy / (H * W) in each pixel.

    Parameters
    ----------
    dy : (N, C) array
    input_size : (H, W)
        Of the images.
    channel_axis : int, default 1
        As in the forward pass.
    out : array like the input of `global_avg_pool2d`, optional
        C-contiguous; receives dx.

    Returns
    -------
    (N, C, H, W) array, or (N, H, W, C)

    Raises
    ------
    TypeError, ValueError
        As for `global_avg_pool2d`.
    """
