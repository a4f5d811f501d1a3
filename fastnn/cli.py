"""The command ``fastnn``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import fastnn

__all__ = ["main"]


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {number}")
    return number


def _seed(text: str) -> int:
    number = int(text)
    if not 0 <= number < 1 << 64:
        raise argparse.ArgumentTypeError(f"expected an integer in [0, 2**64), got {number}")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fastnn", description="Training kernels for plain NumPy arrays.")
    parser.add_argument("--version", action="version", version=f"fastnn {fastnn.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser(
        "demo",
        help="train a network on real images, with the kernels and with the NumPy reference",
        description="Train a network with batch norm, ReLU and dropout on handwritten digits, then again on the NumPy "
        "reference with the same seed, and compare. The exit status is 1 if a promise is broken; promises are for the "
        "default epochs and seed.",
    )
    demo.add_argument("--data", metavar="DIR", help="directory with the four IDX(.gz) files of MNIST or Fashion-MNIST")
    demo.add_argument("--epochs", metavar="N", type=_positive, help="default: 20 for the digits, 10 with --data")
    demo.add_argument("--seed", metavar="N", type=_seed, default=0, help="default: 0")
    commands.add_parser(
        "bench", add_help=False, help="time every kernel beside NumPy, numba, torch, ... and what this machine allows"
    )
    commands.add_parser("info", help="print version, instruction set, threads, OpenMP and compiler")
    return parser


def _restart_with_bounded_spin() -> None:
    """Start the process again with a limit to how long idle OpenMP threads of the peers spin, unless there is one.

    By default they hold a core for milliseconds after every loop, which whoever is timed next would pay for. libgomp
    reads the limit once, when the first library that needs it is loaded.
    """
    if "GOMP_SPINCOUNT" not in os.environ and "OMP_WAIT_POLICY" not in os.environ:
        os.environ["GOMP_SPINCOUNT"] = "1000"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, by default that of the process; return the exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments[:1] == ["bench"]:  # has a parser of its own, imported when asked for
        if argv is None:
            _restart_with_bounded_spin()
        from fastnn.bench import run

        return run.main(arguments[1:])
    options = _parser().parse_args(arguments)
    if options.command == "info":
        fastnn.show_config()
        return 0
    from fastnn import demo

    try:
        return demo.run(options.data, options.epochs, options.seed)
    except (OSError, ValueError) as error:
        print(f"fastnn demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print()
        return 130
