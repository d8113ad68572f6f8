"""Set up the virtual environment: `install.py VENV STAMP`. Two at once do it one after the other; done is done."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import venv
from pathlib import Path


def main(directory: Path, stamp: Path) -> int:
    """Make the environment and install what requirements.txt pins; 0 if it stands."""
    directory.mkdir(exist_ok=True)
    with (directory / ".install.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists():
            return 0
        python = directory / "bin" / "python"
        if not python.exists():
            venv.create(directory, with_pip=True)
        print("installing what Tickover needs into .venv (once)", file=sys.stderr, flush=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        # What setuptools says of editable installations would look like a failure to who sees it first.
        quiet = {**os.environ, "PIP_NO_INPUT": "1", "PYTHONWARNINGS": "ignore"}
        for arguments in (
            ["--require-hashes", "--only-binary=:all:", "-r", "requirements.txt"],
            ["--no-deps", "--no-build-isolation", "-e", "."],
        ):
            done = subprocess.run([*pip, *arguments], env=quiet, check=False)
            if done.returncode != 0:
                print(f"pip could not install ({' '.join(arguments)}); see its message above", file=sys.stderr)
                return done.returncode
        stamp.touch()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
