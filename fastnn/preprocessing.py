"""Preprocessing of images with scikit-learn: what is learned from the training data alone, and applied to all.

Each function makes a transformer that takes images, (N, H, W), (N, C, H, W) or (N, H, W, C), or rows of numbers,
(N, D).  It goes into a scikit-learn pipeline, or stands alone::

    prepare = preprocessing.mean_image().fit(digits.train_images)
    x, x_test = prepare.transform(digits.train_images), prepare.transform(digits.test_images)

    make_pipeline(preprocessing.whitening(40), MLPClassifier()).fit(images, labels)

Fitting it to test or validation images as well would tell the network about them: fit it to the training images.

The arithmetic is scikit-learn's: `StandardScaler` (mean image, per-channel mean, standardising), `MinMaxScaler` (range
[-1, 1]), `PCA` (components, whitening).  What it lacks is `Images`, which gives them rows: an image each, or a pixel
each.  Install it with ``pip install 'fastnn-kernels[sklearn]'``.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

try:
    from sklearn.base import BaseEstimator, TransformerMixin, clone
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import MinMaxScaler, StandardScaler
    from sklearn.utils.validation import check_array, check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        "fastnn.preprocessing: expected scikit-learn >= 1.6, which is not installed; "
        "pip install 'fastnn-kernels[sklearn]'"
    ) from error

__all__ = ["Images", "channel_mean", "mean_image", "min_max", "pca", "standardise", "whitening"]

Array: TypeAlias = NDArray[Any]


class Images(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A transformer of rows, for images.

    Parameters
    ----------
    transformer : transformer, optional
        Takes (n, features) arrays; a clone of it is fitted.  Default: ``StandardScaler(with_std=False)``, which
        subtracts the mean.
    per : {"pixel", "channel"}, default "pixel"
        What a feature is.  "pixel": each pixel of each channel, an image is a row: the mean is the mean image.
        "channel": each channel, a pixel is a row: the mean is one number for each channel.
    channel_axis : int, default 1
        Of (N, C, H, W); -1 for (N, H, W, C).  Used with ``per="channel"`` alone.
    flatten : bool, default False
        Leave the result in rows, (N, k), since its features are no pixels any more.  Used with ``per="pixel"`` alone.

    Attributes
    ----------
    transformer_ : transformer
        The fitted clone.
    shape_ : tuple of int
        What images must have in common with those of `fit`: their shape, or with ``per="channel"`` (channels,).
    n_features_in_ : int
        Length of the second axis.

    Notes
    -----
    float32 and float64 stay what they are, integers become float32, which is what layers take.  A transformer that
    changes the number of features, as `PCA` does, gives rows per pixel, and images of as many channels per channel.
    """

    def __init__(
        self, transformer: Any = None, per: str = "pixel", channel_axis: int = 1, flatten: bool = False
    ) -> None:
        self.transformer = transformer
        self.per = per
        self.channel_axis = channel_axis
        self.flatten = flatten

    def _validated(self, X: Any, reset: bool) -> Array:
        options: dict[str, Any] = {"dtype": [np.float32, np.float64], "allow_nd": True}
        if not reset and getattr(X, "ndim", 2) > 2:  # the second axis may be rows of pixels
            return check_array(X, **options)  # type: ignore[no-any-return]
        return validate_data(self, X, reset=reset, **options)  # type: ignore[no-any-return]

    def _rows(self, images: Array) -> Array:
        if self.per == "pixel":
            return images.reshape(len(images), -1)
        last = np.moveaxis(images, self.channel_axis, -1)
        return last.reshape(-1, last.shape[-1])

    def _images(self, rows: Array, shape: tuple[int, ...]) -> Array:
        """The inverse of `_rows`, for images that were of `shape`."""
        if self.per == "pixel":
            return rows.reshape(shape) if rows.shape[1] == np.prod(shape[1:]) else rows
        axis = self.channel_axis % len(shape)
        others = shape[:axis] + shape[axis + 1 :]
        return np.ascontiguousarray(np.moveaxis(rows.reshape(*others, -1), -1, axis))

    def fit(self, X: Any, y: Any = None) -> Images:
        """Fit the transformer.

        Parameters
        ----------
        X : array (N, D), (N, H, W), (N, C, H, W) or (N, H, W, C)
        y : optional
            Handed on.

        Returns
        -------
        Images
            This one.

        Raises
        ------
        ValueError
            For another word for `per`, or a `channel_axis` that is not there.
        """
        images = self._validated(X, reset=True)
        if self.per not in ("pixel", "channel"):
            raise ValueError(f"per: expected 'pixel' or 'channel', got {self.per!r}")
        if self.per == "channel" and not (1 - images.ndim <= self.channel_axis < images.ndim and self.channel_axis):
            raise ValueError(
                f"channel_axis: expected an axis behind that of the samples of shape {images.shape}, "
                f"got {self.channel_axis}"
            )
        transformer = StandardScaler(with_std=False) if self.transformer is None else clone(self.transformer)
        self.transformer_ = transformer.fit(self._rows(images), None if self.per == "channel" else y)
        self.shape_ = self._fixed(images.shape)
        return self

    def _fixed(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """What has to be the same of all images."""
        return shape[1:] if self.per == "pixel" else (shape[self.channel_axis],)

    def transform(self, X: Any) -> Array:
        """The images, transformed.

        Parameters
        ----------
        X : array of images like those of `fit`

        Returns
        -------
        array
            A new one.

        Raises
        ------
        ValueError
            For images of another shape.
        """
        check_is_fitted(self)
        images = self._validated(X, reset=False)
        if self._fixed(images.shape) != self.shape_:
            raise ValueError(f"X: expected images of shape {self.shape_}, got {images.shape}")
        rows = self.transformer_.transform(self._rows(images))
        return rows if self.flatten and self.per == "pixel" else self._images(rows, images.shape)

    def inverse_transform(self, X: Any) -> Array:
        """The images that `transform` has made `X` of, as far as the transformer can tell; to look at them.

        Parameters
        ----------
        X : array, as `transform` returns it

        Returns
        -------
        array
        """
        check_is_fitted(self)
        images = np.asarray(X)
        rows = self.transformer_.inverse_transform(self._rows(images))
        return self._images(rows, (len(images), *self.shape_) if self.per == "pixel" else images.shape)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def mean_image() -> Images:
    """Subtracts the mean image of the training data: `StandardScaler` without scaling, pixel by pixel.

    A. Krizhevsky et al. (2012).

    Returns
    -------
    Images
    """
    return Images(StandardScaler(with_std=False))


def channel_mean(channel_axis: int = 1, with_std: bool = False) -> Images:
    """Subtracts one number from each channel, its mean over all pixels of the training data: `StandardScaler`.

    K. Simonyan, A. Zisserman (2015).

    Parameters
    ----------
    channel_axis : int, default 1
        Of (N, C, H, W); -1 for (N, H, W, C).
    with_std : bool, default False
        Also divide by the standard deviation of each channel.

    Returns
    -------
    Images
    """
    return Images(StandardScaler(with_std=with_std), "channel", channel_axis)


def standardise() -> Images:
    """Mean 0 and variance 1 of every pixel: `StandardScaler`.

    Pixels that never change become 0.

    Returns
    -------
    Images
    """
    return Images(StandardScaler())


def min_max(low: float = -1.0, high: float = 1.0) -> Images:
    """Every pixel within [low, high], the ends being its least and largest value in the training data: `MinMaxScaler`.

    Parameters
    ----------
    low, high : float, default -1 and 1

    Returns
    -------
    Images
    """
    return Images(MinMaxScaler((low, high)))


def pca(k: int | float | None = None) -> Images:
    """The k directions of the largest variance, decorrelated: `PCA`.

    Parameters
    ----------
    k : int or float, optional
        Number of components, or the share of the variance that they are to explain.  Default: all.

    Returns
    -------
    Images
        Its results are rows, (N, k).
    """
    return Images(PCA(k, svd_solver="full"), flatten=True)


def whitening(k: int | float | None = None) -> Images:
    """`pca`, each component divided by its standard deviation: uncorrelated numbers of variance 1.

    Directions of little variance are mostly noise, which this makes as large as the rest: leave them out by `k`.

    Parameters
    ----------
    k : int or float, optional
        As in `pca`.

    Returns
    -------
    Images
        Its results are rows, (N, k).
    """
    return Images(PCA(k, whiten=True, svd_solver="full"), flatten=True)
