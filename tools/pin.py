"""Make requirements.txt from pyproject.toml: all supported Pythons and systems in one file, pinned by hashes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEADER = """\
# Everything that Tickover needs, for Python 3.11 and later, each file pinned by its hash.
# Made from pyproject.toml with: make requirements
"""


def main() -> None:
    """Resolve with uv, which knows one resolution for all systems, and write the file."""
    root = Path(__file__).resolve().parents[1]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "uv"], check=True)
    made = subprocess.run(
        [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes",
         "--python-version", "3.11", "--no-annotate", "--no-header", "--all-extras", "pyproject.toml"],
        cwd=root, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    (root / "requirements.txt").write_text(HEADER + made.stdout)


if __name__ == "__main__":
    main()
