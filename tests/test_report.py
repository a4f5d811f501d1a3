"""The page, its plots and README's performance section, from small reports made here."""

from __future__ import annotations

import copy
import importlib.util
import itertools
import json
import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fastnn.bench import digest, page, plots

ROOT = Path(__file__).resolve().parents[1]
PNG = b"\x89PNG\r\n\x1a\n"
PLOTS = ("roofline", "speedup", "scaling_size", "scaling_threads", "scaling_tensors")
VOID = {"meta", "img", "input", "source", "br", "link"}

Report = dict[str, Any]


def row(name: str, isa: str, seconds: float, peers: dict[str, float], **changes: Any) -> dict[str, Any]:
    """A row with a floor of 1 us, a roof of 2 us and a limit of 1.5 x roof."""
    best = min(peers, key=lambda label: peers[label]) if peers else None
    ratio = peers[best] / seconds if best else None
    return {
        "group": "activation",
        "name": name,
        "kind": "case",
        "case": "relu",
        "direction": "backward" if "backward" in name else "forward",
        "shape": [1024, 1024],
        "elements": 1 << 20,
        "isa": isa,
        "threads": 2,
        "unit": "s",
        "value": seconds,
        "low": 0.9 * seconds,
        "high": 1.1 * seconds,
        "spread": 0.05,
        "noisy": False,
        "bytes": 100_000,
        "gbps": 1e-4 / seconds,
        "floor": 1e-6,
        "roof": 2e-6,
        "over_floor": seconds / 1e-6,
        "over_roof": seconds / 2e-6,
        "peers": {label: {"value": t, "low": t, "high": t, "ratio": t / seconds} for label, t in peers.items()},
        "best_peer": best,
        "speedup": ratio,
        "tie": False,
        "after_matmul": 2 * seconds,
        "kept": 4096,
        "bound": {"of": "roof", "limit": 1.5},
        "verdict": "met" if seconds <= 3e-6 else "missed",
        "notes": [],
        **changes,
    }


def report(rows: list[dict[str, Any]] | None = None, isas: tuple[str, ...] = ("v4", "v3")) -> Report:
    """A complete report of a few rows, two peers, and curves of every kind."""
    if rows is None:
        rows = [
            row("relu forward 1M", isa, seconds, {"NumPy": 8e-6, "torch eager": 5e-6})
            for isa, seconds in zip(isas, (2e-6, 4e-6), strict=True)
        ]
        rows.append(row("relu backward 1M", isas[0], 7e-6, {"NumPy": 4.2e-6}, noisy=True, notes=["a note"]))
        rows.append(row("adam 161 tensors", isas[0], 2.5e-6, {"torch eager": 5e-6}, group="optimizer"))
        rows.append(row("wheel", "", 3e6, {}, kind="footprint", unit="B", bound={"of": "value", "limit": 2e6}))
    points = [
        {"at": at, "seconds": at * 2e-9, "floor": at * 1e-9, "roof": at * 1.5e-9, "peers": {"NumPy": at * 4e-9}}
        for at in (1, 2, 1024)
    ]
    labels = {"NumPy": "numpy", "torch eager": "torch"}
    level = {
        "rows": 3,
        "faster_than_every_peer": 2,
        "ties": 0,
        "slower": 1,
        "geomean_best_peer": 1.26,
        "geomean": {"NumPy": 1.55, "torch eager": 2.24},
        "bounds_met": 2,
        "bounds": 3,
    }
    return {
        "format": 1,
        "complete": True,
        "command": "fastnn bench",
        "started": "2025-02-03T04:05:06",
        "seconds": 61.0,
        "machine": {
            "cpu": "A CPU",
            "platform": "Linux",
            "cores": 2,
            "memory_bytes": 8 << 30,
            "l2_bytes": 1 << 20,
            "llc_bytes": 32 << 20,
            "python": "3.11",
            "numpy": "2.4",
            "blas": "OpenBLAS",
            "fastnn": {"version": "0.1.0", "levels": ["v4", "v3"]},
        },
        "settings": {"threads": 2, "isa": list(isas), "quick": False},
        "peers": [
            {
                "name": name,
                "label": label,
                "version": f"{name} 2.0",
                "state": "measured",
                "reason": "",
                "capped": {"v4": True, "v3": name == "numpy"},
            }
            for label, name in labels.items()
        ]
        + [
            {"name": "jax", "label": "jax.jit", "version": "", "state": "absent", "reason": "no jax here", "capped": {}}
        ],
        "ceilings": {
            "bandwidth": [
                {
                    "bytes": n,
                    "threads": t,
                    "copy": 90.0,
                    "copy_stream": 50.0,
                    "triad": 95.0,
                    "triad_stream": 55.0,
                    "read": 99.0,
                }
                for n in (8192, 1 << 20)
                for t in (1, 2)
            ],
            "cost_ns": {isa: {"div": 0.25, "random_bits": 0.125} for isa in isas},
            "region": {"hot": 5e-7, "cold": 9e-6},
            "call": 1.1e-7,
        },
        "rows": rows,
        "curves": [
            {"name": "relu forward", "family": "activation", "over": over, "isa": "v4", "points": points}
            for over in ("elements", "threads", "tensors")
        ],
        "summary": dict.fromkeys(isas, level),
    }


class Checker(HTMLParser):
    """Balanced tags, no markup errors; collects texts, tags and what the page refers to."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"{tag}: an attribute twice"
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text += data


def written(content: Report, directory: Path) -> Checker:
    """The page of a report, parsed."""
    files = page.write(content, directory)
    assert files[0] == directory / "report.html" and all(file.exists() for file in files)
    text = files[0].read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    assert all(reference.startswith("data:image/png;base64,") for reference in checker.references)
    assert not re.search(r"@import|url\(|\bfetch\(|XMLHttpRequest", text)
    return checker


@pytest.fixture
def no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)


needs_matplotlib = pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib")


@pytest.mark.usefixtures("no_matplotlib")
def test_page_shows_everything(tmp_path: Path) -> None:
    got = written(report(), tmp_path)
    headings = ["Misses", "Against the alternatives", "Machine and versions", "What the machine can do", "All rows"]
    for words in [
        *headings,
        "x86-64-v4 (AVX-512)",
        "1.26 x",
        "2 of 3",
        "A CPU",
        "OpenBLAS",
        "numpy 2.0",
        "absent: no jax here",
        "not held to v3",
        "8 KB",
        "500 ns",
        "random bits",
        "relu forward 1M",
        "a note",
        "noisy",
        "2.86 MB",
    ]:
        assert words in got.text, words
    assert "interrupted" not in got.text and "quick run" not in got.text.lower()
    assert "nan" not in got.text.lower() and "None" not in got.text


@pytest.mark.usefixtures("no_matplotlib")
def test_misses_are_listed_worst_first(tmp_path: Path) -> None:
    text = written(report(), tmp_path).text
    misses = text[text.index("Misses") : text.index("Against the alternatives")]
    above, _, behind = misses.partition("rows slower than a peer")
    order = [above.index(name) for name in ("relu backward 1M (v4)", "wheel", "relu forward 1M (v3)")]
    assert order == sorted(order)
    assert "133 %" in above and "33 %" in above and "relu forward 1M (v4)" not in misses
    assert "relu backward 1M (v4)" in behind and "67 %" in behind


@pytest.mark.usefixtures("no_matplotlib")
def test_no_misses(tmp_path: Path) -> None:
    text = written(report([row("relu", "v4", 2e-6, {"NumPy": 4e-6})]), tmp_path).text
    assert "no row is above its limit or slower than a peer" in text


@pytest.mark.usefixtures("no_matplotlib")
def test_partial_and_quick_runs_say_so(tmp_path: Path) -> None:
    content = report()
    content["complete"] = False
    content["settings"]["quick"] = True
    content["errors"] = ["adam of numba differs from the reference"]
    text = written(content, tmp_path).text
    assert "interrupted" in text and "A quick run" in text and "adam of numba differs" in text


@pytest.mark.usefixtures("no_matplotlib")
@pytest.mark.parametrize("kept", ["rows", "curves", "summary", "ceilings", ""])
def test_a_run_interrupted_early(tmp_path: Path, kept: str) -> None:
    content = report()
    empty = {"rows": [], "curves": [], "summary": {}, "ceilings": {}}
    content.update({key: value for key, value in empty.items() if key != kept}, complete=False)
    assert "interrupted" in written(content, tmp_path).text


@needs_matplotlib
def test_plots_of_a_run_interrupted_early() -> None:
    content = {**report(), "rows": [], "curves": [], "summary": {}, "ceilings": {}}
    assert plots.render(content) == {}
    assert set(plots.render({**report(), "ceilings": {}, "curves": []}) or {}) == {"roofline", "speedup"}


def test_everything_is_escaped(tmp_path: Path, no_matplotlib: None) -> None:
    evil = "</td><script>alert(1)</script>\"'&"
    content = report([row(evil, "v4", 7e-6, {evil: 4e-6}, group=evil, notes=[evil])])
    content["command"] = content["machine"]["cpu"] = content["machine"]["fastnn"]["version"] = evil
    content["peers"][0].update(label=evil, version=evil)
    content["peers"][2].update(reason=evil)
    content["errors"], content["settings"]["environment"] = [evil], {"OMP_X": evil}
    content["summary"] = {evil: {**content["summary"]["v4"], "geomean": {evil: 1.5}}}
    got = written(content, tmp_path)
    assert got.tags.count("script") == 1
    assert got.text.count(evil) >= 10


@pytest.mark.usefixtures("no_matplotlib")
def test_without_matplotlib(tmp_path: Path) -> None:
    got = written(report(), tmp_path)
    assert "pip install 'fastnn-kernels[bench]'" in got.text
    assert "img" not in got.tags
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


@needs_matplotlib
def test_with_matplotlib(tmp_path: Path) -> None:
    content = report()
    got = written(content, tmp_path)
    assert got.tags.count("img") == got.tags.count("source") == len(PLOTS)
    assert "fastnn-kernels[bench]" not in got.text
    for name in PLOTS:
        assert (tmp_path / f"{name}.png").read_bytes().startswith(PNG)


def without_numbers(content: Report, missing: float | None) -> Report:
    """A report in which every measurement that may be missing is."""
    content = copy.deepcopy(content)
    first = content["rows"][0]
    for key in ("low", "high", "spread", "gbps", "floor", "roof", "over_floor", "over_roof", "speedup", "after_matmul"):
        first[key] = missing
    first["value"] = first["peers"]["NumPy"]["value"] = first["peers"]["NumPy"]["ratio"] = missing
    for level in content["summary"].values():
        level["geomean_best_peer"] = level["geomean"]["NumPy"] = missing
    content["ceilings"]["bandwidth"][0]["copy"] = content["ceilings"]["cost_ns"]["v4"]["div"] = missing
    content["ceilings"]["region"]["cold"] = content["machine"]["llc_bytes"] = missing
    for curve in content["curves"]:
        curve["points"][0].update(seconds=missing, floor=missing, peers={"NumPy": missing})
    return content


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_missing_numbers(tmp_path: Path, missing: float | None, no_matplotlib: None) -> None:
    text = written(without_numbers(report(), missing), tmp_path).text
    assert not re.search(r"\bnan\b|\binf\b|None", text)


@needs_matplotlib
def test_plots_with_missing_numbers() -> None:
    assert set(plots.render(without_numbers(report(), math.nan)) or {}) == set(PLOTS)


def test_only_numpy(tmp_path: Path) -> None:
    content = report([row("relu forward", "v3", 2e-6, {"NumPy": 4e-6})], isas=("v3",))
    content["peers"] = content["peers"][:1]
    assert "torch" not in written(content, tmp_path).text.replace("torch eager", "")


def test_nothing_to_compare_with(tmp_path: Path) -> None:
    content = report([row("relu forward", "v3", 2e-6, {})], isas=("v3",))
    content.update(peers=[], curves=[])
    assert "relu forward" in written(content, tmp_path).text


def test_numbers_as_people_read_them() -> None:
    assert [digest.seconds(s) for s in (2.5, 1.234e-2, 46.14e-6, 9.999e-7, 0.0, None, math.nan)] == [
        "2.50 s",
        "12.3 ms",
        "46.1 µs",
        "1.00 µs",
        "-",
        "-",
        "-",
    ]
    assert [digest.size(n) for n in (12, 8192, 3 << 19, 32 << 30)] == ["12 B", "8 KB", "1.5 MB", "32 GB"]
    assert [digest.count(n) for n in (1, 1 << 10, 1 << 16, 1 << 24)] == ["1", "1K", "64K", "16M"]
    assert [digest.times(x) for x in (0.682, 1.5, 12.34, 345.6, None)] == ["0.68 x", "1.50 x", "12.3 x", "346 x", "-"]


def test_means_are_over_the_rows_a_peer_has() -> None:
    rows = [row("a", "v4", 1e-6, {"NumPy": 8e-6, "numba": 2e-6}), row("b", "v4", 1e-6, {"NumPy": 2e-6})]
    means = digest.speedups(rows)
    assert means["NumPy"] == (pytest.approx(4.0), 2)
    assert means["numba"] == (pytest.approx(2.0), 1)
    assert means[digest.BEST] == (pytest.approx(2.0), 2)


def test_labels_never_touch() -> None:
    wanted = [0.1, 0.1, 0.12, 0.5, 0.9, 0.91]
    heights = plots._apart(wanted, 0.07)
    assert all(b - a >= 0.07 - 1e-12 for a, b in itertools.pairwise(heights))
    assert heights[3] == 0.5
    assert max(abs(a - b) for a, b in zip(heights, wanted, strict=True)) < 0.08


# ------------------------------------------------------------------------------------------------ README


def load_readme_script() -> Any:
    spec = importlib.util.spec_from_file_location("readme_script", ROOT / "bench" / "readme.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A small source tree with a README and one committed run."""
    (tmp_path / "README.md").write_text(
        "# before\n\n<!-- performance: begin -->\n<!-- performance: end -->\n\nafter\n", encoding="utf-8"
    )
    (tmp_path / "bench" / "results").mkdir(parents=True)
    (tmp_path / "bench" / "results" / "a-machine.json").write_text(json.dumps(report()), encoding="utf-8")
    return tmp_path


def test_readme_section_round_trip(copied: Path) -> None:
    script = load_readme_script()
    root = ["--root", str(copied)]
    assert script.main(["--check", *root]) == 1
    assert script.main(root) == 0
    assert script.main(["--check", *root]) == 0
    text = (copied / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# before\n\n<!-- performance: begin") and text.endswith(
        "<!-- performance: end -->\n\nafter\n"
    )
    for words in ("A CPU", "**1.26 x**", "| relu forward 1M | 2.00 µs | 50 | 1.00 | torch eager | 2.50 x |", "2 of 3"):
        assert words in text, words
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (copied / target).read_bytes().startswith(PNG)
    (copied / "README.md").write_text(text.replace("2.50 x", "9.50 x"), encoding="utf-8")
    assert script.main(["--check", *root]) == 1


@needs_matplotlib
def test_readme_shows_the_chart(copied: Path) -> None:
    assert load_readme_script().main(["--root", str(copied)]) == 0
    assert "](docs/images/a-machine-speedup.png)" in (copied / "README.md").read_text(encoding="utf-8")


def test_readme_without_markers_is_left_alone(copied: Path) -> None:
    (copied / "README.md").write_text("nothing here\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="markers"):
        load_readme_script().main(["--root", str(copied)])
    assert (copied / "README.md").read_text(encoding="utf-8") == "nothing here\n"


def test_committed_readme_is_what_the_script_writes() -> None:
    has_section = "<!-- performance: begin" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert has_section == bool([*(ROOT / "bench" / "results").glob("*.json")])
    assert not has_section or load_readme_script().main(["--check"]) == 0
