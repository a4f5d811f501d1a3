"""What initial weights do to the signal: the activations of ten layers, for each scheme of fastnn.init.

Run it with: python examples/initialisation.py [--out initialisation.png]
"""

import argparse
from functools import partial

import numpy as np

import fastnn as fnn
from fastnn import init

LAYERS = 10
SCHEMES = {
    "normal, std 0.01": partial(init.normal, std=0.01),
    "normal, std 1": init.normal,
    "1 / sqrt(n_in)": init.lecun_normal,
    "Xavier": init.xavier_uniform,
    "He / MSRA": init.kaiming_normal,
    "orthogonal": init.orthogonal,
}
ACTIVATIONS = {"tanh": fnn.Tanh, "relu": fnn.ReLU}
INK, MUTED, FILL = "#1f2933", "#7b8794", {"tanh": "#2f6db3", "relu": "#c4572b"}


def hidden(scheme, activation, units=500, samples=1000):
    """Outputs of each of the layers, for inputs of mean 0 and variance 1."""
    net = [fnn.Sequential(fnn.Linear(units, units), ACTIVATIONS[activation]()) for _ in range(LAYERS)]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((samples, units), dtype=np.float32)
    outputs = []
    for layer in net:
        x = layer.init(SCHEMES[scheme], bias=0, rng=rng).predict(x)
        outputs.append(x)
    return outputs


def verdict(activation, outputs):
    """What has become of the signal in the last layer."""
    last, first = outputs[-1], outputs[0]
    if activation == "tanh" and (np.abs(last) > 0.95).mean() > 0.5:
        return "saturates"
    ratio = last.std() / first.std()
    return "vanishes" if ratio < 1e-2 else "explodes" if ratio > 1e2 else "fades" if ratio < 0.25 else "holds"


def draw(results, path):
    """One panel for each activation and scheme: the histogram of every layer, lying on its side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        len(ACTIVATIONS), len(SCHEMES), figsize=(16, 6.4), sharex=True, sharey="row", layout="constrained"
    )
    figure.get_layout_engine().set(hspace=0.08, wspace=0.03, rect=(0, 0.0, 1, 0.9))
    figure.text(0.012, 0.955, "The same network, six ways to start it", fontsize=17, weight="bold", color=INK)
    units = results["relu", "Xavier"][0].shape[1]
    note = f"Distribution of the outputs of each of ten layers of {units} units, before any training"
    figure.text(0.012, 0.915, note, fontsize=11, color=MUTED)
    for row, activation in zip(axes, ACTIVATIONS, strict=True):
        edges = np.linspace(-1, 1, 61) if activation == "tanh" else np.logspace(-12, 14, 105)
        for panel, scheme in zip(row, SCHEMES, strict=True):
            outputs = results[activation, scheme]
            for number, values in enumerate(outputs, start=1):
                counts = np.histogram(values, edges)[0]
                widths = np.append(0.9 * counts / max(counts.max(), 1), 0)
                panel.fill_betweenx(
                    edges, number - 0.45, number - 0.45 + widths, step="post", color=FILL[activation], linewidth=0
                )
            if activation == "relu":
                panel.set_yscale("log")
                panel.set_yticks([1e-10, 1e-5, 1, 1e5, 1e10])
                panel.minorticks_off()
            panel.set_title(scheme, fontsize=11, color=INK, loc="left")
            fate = verdict(activation, outputs)
            panel.set_title(fate, fontsize=11, color=MUTED if fate == "holds" else "#b3261e", loc="right")
            panel.set_xticks(range(1, LAYERS + 1))
            panel.set_xlim(0.4, LAYERS + 0.6)
            panel.set_ylim(edges[0], edges[-1])
            panel.tick_params(length=0, labelsize=9, colors=MUTED)
            panel.grid(axis="y", color="#e4e7eb", linewidth=0.8)
            panel.set_axisbelow(True)
            for side in panel.spines.values():
                side.set_visible(False)
    figure.align_ylabels(axes[:, 0])
    axes[0, 0].set_ylabel("tanh", fontsize=12, color=INK)
    axes[1, 0].set_ylabel("ReLU, values above 0", fontsize=12, color=INK)
    for panel in axes[-1]:
        panel.set_xlabel("layer", fontsize=10, color=MUTED)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="initialisation.png", help="the picture")
    parser.add_argument("--quick", action="store_true", help="few units")
    options = parser.parse_args(argv)
    units = 100 if options.quick else 500
    results = {(a, s): hidden(s, a, units) for a in ACTIVATIONS for s in SCHEMES}
    print(f"{'standard deviation of layer':34}" + "".join(f"{n:9d}" for n in range(1, LAYERS + 1)))
    for (activation, scheme), outputs in results.items():
        stds = "".join(f"{values.std():9.1e}" for values in outputs)
        print(f"{activation:6}{scheme:18}{verdict(activation, outputs):10}{stds}")
    draw(results, options.out)


if __name__ == "__main__":
    main()
