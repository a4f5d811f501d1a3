"""scikit-learn's MLPClassifier beside fastnn's on handwritten digits: accuracy in cross-validation, time to fit.

The first two are one network, with the same weights at first and the same batches; the third has what scikit-learn's
has not.  Each fold is given to all of them in turn.

Needs scikit-learn: pip install 'fastnn-kernels[sklearn]'
Run it with: python examples/estimators.py [--epochs N] [--folds N]
"""

import argparse
import math
import time
import warnings

import numpy as np
import sklearn.neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

import fastnn.sklearn
from fastnn.data import load_digits
from fastnn.schedules import cosine

BATCH = 64


def estimators(epochs, samples):
    """By name; `epochs` of them all, whatever becomes of the loss."""
    options = {"batch_size": BATCH, "max_iter": epochs, "n_iter_no_change": epochs, "random_state": 0}
    same = {"hidden_layer_sizes": (256,), **options}
    rate = cosine(1e-2, epochs * math.ceil(samples / BATCH))
    return {
        "scikit-learn": sklearn.neural_network.MLPClassifier(**same),
        "fastnn": fastnn.sklearn.MLPClassifier(**same),
        "fastnn, batch norm and dropout": fastnn.sklearn.MLPClassifier(
            (512,), learning_rate=rate, batch_norm=True, dropout=0.5, **options
        ),
    }


def compare(epochs=30, folds=5):
    """{name: (accuracy of each fold, seconds of each fit)}"""
    digits = load_digits()
    x = np.concatenate((digits.train_images, digits.test_images)).reshape(-1, 64).astype(np.float32)
    y = np.concatenate((digits.train_labels, digits.test_labels))
    results = {}
    for chosen, others in StratifiedKFold(folds, shuffle=True, random_state=0).split(x, y):
        for name, estimator in estimators(epochs, len(chosen)).items():
            model = make_pipeline(MinMaxScaler(), estimator)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs are what was asked for
                start = time.perf_counter()
                model.fit(x[chosen], y[chosen])
            seconds = time.perf_counter() - start
            accuracies, times = results.setdefault(name, ([], []))
            accuracies.append(model.score(x[others], y[others]))
            times.append(seconds)
    return results


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--folds", type=int, default=5)
    options = parser.parse_args(arguments)
    print(f"{options.epochs} epochs, {options.folds} folds".ljust(34) + "accuracy   fit")
    for name, (accuracies, times) in compare(options.epochs, options.folds).items():
        print(f"{name:34}{np.mean(accuracies):8.4f}{np.median(times):6.2f} s")


if __name__ == "__main__":
    main()
