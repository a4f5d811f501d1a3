"""What the monitor sees, what it warns of, that it changes nothing, and its report."""

import base64
import importlib.util
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import fastnn as fnn
from fastnn.layers import watch
from fastnn.monitor import Monitor
from fastnn.train import fit, load_checkpoint, save_checkpoint

X = np.random.default_rng(0).standard_normal((96, 16)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)

needs_matplotlib = pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is optional")


def build(activation=fnn.ReLU, seed=0):
    fnn.manual_seed(seed)
    return fnn.Sequential(
        *(fnn.Linear(16, 12), fnn.BatchNorm1d(12), activation(), fnn.Dropout(0.2)),
        fnn.Sequential(fnn.Linear(12, 8), fnn.Tanh()),
        fnn.Linear(8, 3),
    )


def train(net, *callbacks, lr=0.05, epochs=4, **options):
    opt = fnn.optim.Adam(net.parameters(), lr)
    options = {"batch_size": 16, "progress": False, "validation": (X, Y)} | options
    return opt, fit(net, fnn.CrossEntropyLoss(), opt, X, Y, epochs=epochs, callbacks=callbacks, **options)


def bits(net, opt):
    return [array.tobytes() for each in (net, opt) for array in each.state_dict().values()]


LAYERS = ["0 Linear", "1 BatchNorm1d", "2 ReLU", "4.0 Linear", "4.1 Tanh", "5 Linear"]
WEIGHTS = ["0.weight", "4.0.weight", "5.weight"]


def test_watching_changes_no_bit():
    monitor, alone = Monitor(every=3), build()
    opt, run = train(alone)
    watched = build()
    watched_opt, watched_run = train(watched, monitor)
    assert bits(alone, opt) == bits(watched, watched_opt)
    assert run.history == watched_run.history
    assert len(monitor.losses) == 24
    assert monitor.records["mean"]["0 Linear"].steps == list(range(0, 24, 3))


def test_watch_shows_what_each_layer_gives_and_leaves_no_trace():
    net, seen = build(), {}
    steps = net._steps
    expected = net.predict(X)
    before = [dict(vars(module)) for module in net.modules()]
    with watch(net, lambda name, layer, y: seen.setdefault(name, y.copy())):
        assert net.predict(X).tobytes() == expected.tobytes()
    assert [name for name in seen if "Dropout" not in name] == LAYERS
    assert seen["5 Linear"].tobytes() == expected.tobytes()
    np.testing.assert_allclose(seen["0 Linear"], X @ net[0].weight.data.T + net[0].bias.data, rtol=1e-5, atol=1e-6)
    assert [dict(vars(module)) for module in net.modules()] == before
    assert net._steps is steps


def test_watches_within_each_other_and_errors_within():
    net, outer, inner = build(), [], []
    with watch(net, lambda name, *_: outer.append(name)):
        with pytest.raises(KeyError), watch(net, lambda name, *_: inner.append(name)):
            net.predict(X)
            raise KeyError
        net.predict(X)
    net.predict(X)
    assert (len(inner), len(outer)) == (7, 14)


def test_numbers_are_those_of_the_layers():
    net = build(fnn.Sigmoid)
    outputs = {}
    monitor = Monitor(net)
    assert monitor.begin()
    with watch(net, lambda name, layer, y: outputs.setdefault(name, y.copy())):
        loss_fn = fnn.CrossEntropyLoss()
        loss = loss_fn(net(X), Y)
        net.backward(loss_fn.backward(), need_dx=False)
    grads = {name: parameter.grad for name, parameter in net.named_parameters()}
    before = {name: parameter.data.copy() for name, parameter in net.named_parameters()}
    monitor.end(loss, fnn.optim.SGD(net.parameters(), 0.1).step(stats=True))
    records = {kind: {name: trace.values[0] for name, trace in of.items()} for kind, of in monitor.records.items()}
    names = [name.replace("ReLU", "Sigmoid") for name in LAYERS]
    assert list(records["mean"]) == list(records["std"]) == list(records["histogram"]) == names
    for name in names:
        y = outputs[name].astype(np.float64)
        low, high, *counts = records["histogram"][name]
        assert records["mean"][name] == pytest.approx(y.mean(), rel=1e-6, abs=1e-9)
        assert records["std"][name] == pytest.approx(y.std(), rel=1e-6)
        assert (low, high) == (y.min(), y.max())
        np.testing.assert_array_equal(counts, np.histogram(outputs[name], 48, (low, high))[0])
    assert set(records["saturated"]) == {"2 Sigmoid", "4.1 Tanh"}
    y = outputs["2 Sigmoid"]
    assert records["saturated"]["2 Sigmoid"] == np.mean(4 * y * (1 - y) < 0.05)
    assert list(records["ratio"]) == list(records["gradient"]) == WEIGHTS
    for name in WEIGHTS:
        norm = np.linalg.norm(grads[name].astype(np.float64))
        assert records["gradient"][name] == pytest.approx(norm, rel=1e-6)
        assert records["ratio"][name] == pytest.approx(0.1 * norm / np.linalg.norm(before[name]), rel=1e-4)
        assert sum(records["gradient_histogram"][name]) == np.count_nonzero(grads[name])


@pytest.mark.parametrize("axis", [1, -1])
def test_units_of_images_are_channels(axis):
    images = np.abs(np.random.default_rng(0).standard_normal((4, 1, 6, 6) if axis == 1 else (4, 6, 6, 1))).astype("f4")
    net = fnn.Sequential(fnn.Conv2d(1, 5, 3, channel_axis=axis), fnn.ReLU(), fnn.GlobalAvgPool2d(channel_axis=axis))
    net[0].weight.data[...] = 1
    net[0].bias.data[...] = [1, -1e3, 1, -1e3, 1]
    monitor = Monitor(net)
    monitor.begin()
    net(images)
    monitor.end(0.0)
    assert monitor.records["active"]["1 ReLU"].values[0].tolist() == [True, False, True, False, True]
    assert monitor.dead("1 ReLU").tolist() == [0.4]


def told(monitor, about):
    return [warned.text for warned in monitor.warnings if warned.about == about]


def test_dead_units_are_counted_over_the_window():
    net = fnn.Sequential(fnn.Linear(2, 4), fnn.ReLU())
    net[0].weight.data[...] = [[1, 0], [-1, 0], [0, 0], [0, 0]]
    net[0].bias.data[...] = [0, 0, -1, -1]
    monitor = Monitor(net, every=1, window=2)
    for sign in (1, -1, -1):
        monitor.begin()
        net(np.full((3, 2), sign, np.float32))
        net.train()
        monitor.end(0.0)
    # the first two units are active by turns, the others never
    assert monitor.dead("1 ReLU").tolist() == [0.75, 0.5, 0.75]
    assert told(monitor, "dead 1 ReLU") == [
        "1 ReLU: 50% of 4 units are dead, active for no sample of the last 2 batches watched; a smaller learning rate "
        "or LeakyReLU may help"
    ]


@pytest.mark.parametrize(("lr", "word"), [(1e-7, "too small"), (1.0, "too large"), (1e-3, None)])
def test_rates_that_do_not_suit_the_weights(lr, word):
    monitor = Monitor(every=2)
    train(build(), monitor, lr=lr, explosion=None)
    texts = told(monitor, "ratio 0.weight")
    assert len(texts) == (word is not None)
    assert not texts or word in texts[0]


def test_saturation():
    net = build()
    net[4][0].weight.data[...] *= 1000
    monitor = Monitor(every=2)
    train(net, monitor, lr=1e-4)
    assert "4.1 Tanh" in told(monitor, "saturated 4.1 Tanh")[0]


def test_gaps_and_flat_losses():
    monitor = Monitor(build(), flat_epochs=2)
    assert monitor.epoch({"loss": 1.0, "accuracy": 0.8, "val_accuracy": 0.75}) == []
    assert monitor.epoch({"loss": 0.995, "accuracy": 0.8, "val_accuracy": 0.75}) == []
    new = monitor.epoch({"loss": 0.998, "accuracy": 0.95, "val_accuracy": 0.75})
    assert len(new) == 2
    assert new[0].startswith("training accuracy 0.950, validation accuracy 0.750, 0.200 apart")
    assert new[1] == "the training loss has been flat for 2 epochs, at 0.995"
    assert monitor.epoch({"loss": 0.998, "accuracy": 0.95, "val_accuracy": 0.75}) == []  # once is enough
    falling = Monitor(build(), flat_epochs=2)
    assert [falling.epoch({"loss": loss}) for loss in (1.0, 0.9, 0.95, 0.89)] == [[], [], [], []]


def test_warnings_are_shown_by_the_run(capsys):
    train(build(), Monitor(every=2), lr=1e-7, progress=True)
    assert "0.weight: a step changes it by" in capsys.readouterr().out


def test_what_it_saw_is_part_of_a_checkpoint(tmp_path):
    whole, part, rest = Monitor(every=4), Monitor(every=4), Monitor(every=4)
    train(build(), whole, lr=1e-7)
    train(build(), part, lr=1e-7, epochs=2, checkpoint=tmp_path / "c.npz")
    train(build(), rest, lr=1e-7, checkpoint=tmp_path / "c.npz", resume=True)
    assert len(part.losses) == 12
    expected, state = whole.state_dict(), rest.state_dict()
    assert list(state) == list(expected)
    assert all(np.array_equal(state[name], expected[name]) for name in expected)
    assert whole.warnings == rest.warnings != []
    save_checkpoint(tmp_path / "m.npz", monitor=whole)
    load_checkpoint(tmp_path / "m.npz", monitor=part)
    assert part.records["ratio"] == whole.records["ratio"]


def test_bad_arguments(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="every: expected at least 1, got 0"):
        Monitor(every=0)
    with pytest.raises(ValueError, match=r"net: expected Monitor\(net\) outside fit, got None"):
        Monitor().begin()
    with pytest.raises(ValueError, match=r"image_shape: expected 16 pixels, the inputs of 0.weight, got \(3, 3\)"):
        train(build(), Monitor(image_shape=(3, 3)))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    with pytest.raises(FileNotFoundError, match=r"report: expected a file in a directory that is there, got .*none/r"):
        Monitor(report=tmp_path / "none" / "r.html")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'fastnn-kernels\[monitor\]'"):
        Monitor(report=tmp_path / "r.html")


def test_matplotlib_is_asked_for_only_by_the_report(run_python):
    script = """
import sys
sys.modules["matplotlib"] = sys.modules["tqdm"] = None
import numpy as np, fastnn as fnn
from fastnn.monitor import Monitor
from fastnn.train import fit
net = fnn.Sequential(fnn.Linear(4, 3))
x, y, monitor = np.eye(4, dtype=np.float32), np.arange(4) % 3, Monitor()
fit(net, fnn.CrossEntropyLoss(), fnn.optim.SGD(net.parameters(), 0.1), x, y, epochs=1, callbacks=[monitor])
try:
    monitor.write("r.html")
except ImportError as error:
    print(error)
"""
    assert "pip install 'fastnn-kernels[monitor]'" in run_python(script).stdout


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.words, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("src", "srcset", "href")]
        if tag not in ("meta", "img", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@needs_matplotlib
def test_report_is_one_page_with_everything_inside(tmp_path):
    monitor = Monitor(report=tmp_path / "r.html", every=3, title="Small & quick")
    train(build(), monitor, lr=1e-7)
    text = (tmp_path / "r.html").read_text()
    page = Page(text)
    assert not page.open
    assert "Small &amp; quick" in text
    assert len(page.links) == 12  # six pictures, light and dark
    for link in page.links:
        assert base64.b64decode(link.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG\r\n\x1a\n")
    assert not re.search(r"https?://", text)
    words = " ".join(page.words)
    for each in (
        "Step 12: 0.weight: a step changes it",
        "val_accuracy",
        "best",
        *LAYERS,
        *WEIGHTS,
        "0.weight: 12 of 12",
    ):
        assert each in words


@needs_matplotlib
def test_report_of_a_run_that_exploded_and_of_little(tmp_path):
    net = fnn.Sequential(fnn.Linear(16, 3))
    with pytest.raises(FloatingPointError):
        train(net, Monitor(report=tmp_path / "r.html", every=1), lr=1e6)
    assert (tmp_path / "r.html").exists()
    monitor = Monitor(net)
    monitor.begin()
    net(X)
    monitor.end(float("nan"))
    monitor.write(tmp_path / "one.html")
    assert "1 steps" in (tmp_path / "one.html").read_text()


@needs_matplotlib
@pytest.mark.parametrize(("shape", "images"), [(None, (12, 4, 4)), ((2, 8), (12, 2, 8))])
def test_first_weights_are_images(shape, images):
    from fastnn.monitor.figures import first_weights

    name, found = first_weights(Monitor(build(), image_shape=shape))
    assert (name, found.shape) == ("0.weight", images)
    colours = fnn.Sequential(fnn.Conv2d(3, 7, 5))
    assert first_weights(Monitor(colours))[1].shape == (7, 5, 5, 3)
    with pytest.raises(ValueError, match="image_shape: expected 16 pixels"):
        first_weights(Monitor(build(), image_shape=(3, 3)))
