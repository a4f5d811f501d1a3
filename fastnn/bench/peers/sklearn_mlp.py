"""scikit-learn: its multi-layer perceptron, for whole training steps."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.bench.peers.base import Direction, Job, Peer
from fastnn.bench.peers.common import NUMPY_CAP
from fastnn.bench.steps import Network, StepJob
from fastnn.cases import Case, Inputs


class ScikitLearn(Peer):
    """`MLPClassifier.partial_fit` on the batch: the same sizes, but it has no batch norm and no dropout.

    Its matrix products are NumPy's, in as many threads as those take.
    """

    name = "sklearn"
    label = "scikit-learn"
    library = "sklearn"
    distribution = "scikit-learn"
    cap = NUMPY_CAP

    def __init__(self, threads: int) -> None:
        self.classifier: Any = importlib.import_module("sklearn.neural_network").MLPClassifier

    def job(self, case: Case, inputs: Inputs, direction: Direction) -> Job | None:
        return None

    def train_step(self, network: Network, batch: int) -> StepJob | None:
        if network.sizes[-1] == 2:  # two classes have one output there: another network
            return None
        if network.activation not in _ACTIVATIONS:
            return None
        trained = network.without_extras()
        timed, checked = (_Training(self.classifier, trained, batch) for _ in range(2))
        return StepJob(timed.step, checked.step, checked.parameters, trained if trained != network else None)


_ACTIVATIONS = ("relu",)
"""Those of which the name means the same there."""


class _Training:
    def __init__(self, classifier: Any, network: Network, batch: int) -> None:
        self.x, self.labels = network.data(batch)
        self.model = classifier(
            network.sizes[1:-1],
            activation=network.activation,
            alpha=0.0,
            batch_size=batch,
            learning_rate_init=network.lr,
            epsilon=1e-8 * math.sqrt(1 - 0.999),  # bias correction scales it too: the usual 1e-8 at the first step
            shuffle=False,
        )
        self.model.partial_fit(self.x, self.labels, classes=np.arange(network.sizes[-1]))
        del self.model._optimizer  # its moments; what that first step made of the parameters is replaced as well
        values = network.parameters()
        for number, (weight, bias) in enumerate(zip(self.model.coefs_, self.model.intercepts_, strict=True), start=1):
            weight[...], bias[...] = values[f"W{number}"].T, values[f"b{number}"]

    def step(self) -> float:
        self.model.partial_fit(self.x, self.labels)
        return float(self.model.loss_)

    def parameters(self) -> dict[str, NDArray[Any]]:
        weights = {f"W{i}": weight.T.copy() for i, weight in enumerate(self.model.coefs_, start=1)}
        return weights | {f"b{i}": bias.copy() for i, bias in enumerate(self.model.intercepts_, start=1)}
