"""The demonstration: a scaled shadow run of a port with one planted defect, then its report.

It ends with 0 only if the story holds: most ticks match, some are improved, and all that differs is the planted
defect, named by its step.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

TICKS = 150
PLANTED = "meta"
ROOT = Path(__file__).resolve().parents[1]


def tickover(*arguments: str, codes: tuple[int, ...] = (0,)) -> str:
    """The standard output of a command; its messages go where ours do. Ends the demonstration if the command ends
    with another exit code than these."""
    print(f"\n$ python cli.py {' '.join(arguments)}", flush=True)
    done = subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *arguments], stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT
    )
    if done.returncode not in codes:
        sys.exit(f"`{' '.join(arguments)}` ended with {done.returncode}")
    return done.stdout


def main() -> int:
    """Run the story and say whether it held."""
    text = tickover(
        "shadow", "--workload", "examples.planted:heavy_tick", "--ticks", str(TICKS), "--every", "0s",
        "--time-scale", "0.01", "--json",
    )  # fmt: skip
    run: dict[str, Any] = json.loads(text)
    # A planted defect: the verdict is 1 (not ready), or 4 (keep running) as long as it is not proven.
    print(tickover("report", run["run"], codes=(1, 4)))
    findings = json.loads(tickover("findings", run["run"], "--json"))
    counts: dict[str, int] = run["counts"]
    claims = {
        "most ticks match": counts.get("match", 0) > TICKS / 2,
        "some ticks are improved: legacy gave up or failed, the new system did not": counts.get("improved", 0) > 0,
        f"all that differs is found in step {PLANTED!r}": {found["step"] for found in findings} == {PLANTED},
        "every tick has exactly one comparison": sum(counts.values()) == TICKS,
    }
    for claim, holds in claims.items():
        print(f"{'ok    ' if holds else 'FAILED'}  {claim}")
    return 0 if all(claims.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
