"""Run every example and keep its picture, if it draws one, and what it prints for the pages.

python docs/examples.py [NAME ...]
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

DOCS = Path(__file__).resolve().parent


def names():
    """Examples that a page shows."""
    return sorted(path.stem for path in (DOCS / "output").glob("*.txt"))


def main(chosen):
    for name in chosen or names():
        (example,) = (DOCS.parent / "examples").rglob(f"{name}.py")
        command = [sys.executable, str(example)]
        if '"--out"' in example.read_text(encoding="utf-8"):
            command += ["--out", str(DOCS / "images" / f"{name}.png")]
        with TemporaryDirectory() as directory:
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=directory).stdout
        (DOCS / "output" / f"{name}.txt").write_text(output, encoding="utf-8")
        print(output)


if __name__ == "__main__":
    main(sys.argv[1:])
