"""Files, and doors that no adapter watches, in a real legacy process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.integration.boundary_support import SAMPLES, Probe, effects, wait_for
from tickover.boundary.child import LegacyProcess


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LegacyProcess]:
    with LegacyProcess("probe:probe", tmp_path_factory.mktemp("files") / "home", project=[SAMPLES]) as process:
        yield process


@pytest.fixture
def probe(shared: LegacyProcess) -> Probe:
    for left in shared.home.glob("*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    return Probe(shared)


def test_what_is_written_is_one_effect_per_write(probe: Probe) -> None:
    """A file written anew, one appended to twice, and bytes are effects with what was written, in order."""
    seen = probe(
        """
from pathlib import Path
open("a.txt", "w").write("one")
for line in ("x", "y"):
    with open("log", "a") as file:
        file.write(line)
Path("b.bin").write_bytes(b"\\xff\\xfe")
with open("a.txt", "r+") as file:
    file.seek(3); file.write("!")
open("a.txt").read()
"""
    )
    assert [(kind, payload) for _, kind, payload in effects(seen)] == [
        ("file:a.txt", {"text": "one"}),
        ("file:log.append", {"text": "x"}),
        ("file:log.append", {"text": "y"}),
        ("file:b.bin", {"base64": "//4="}),
        ("file:a.txt", {"text": "one!"}),
    ]
    assert seen.unobserved == ()


def test_a_file_moved_into_place_is_one_write_of_its_final_name(probe: Probe) -> None:
    """Temporary file and os.replace, Path.rename, or a named temporary file in the home: one effect each."""
    seen = probe(
        """
import os, tempfile
from pathlib import Path
open("a.tmp", "w").write("A"); os.replace("a.tmp", "a")
Path("b.tmp").write_text("B"); Path("b.tmp").rename("b")
with tempfile.NamedTemporaryFile("w", dir=".", delete=False) as file:
    file.write("C")
os.replace(file.name, "c")
"""
    )
    assert [(kind, payload) for _, kind, payload in effects(seen)] == [
        ("file:a", {"text": "A"}),
        ("file:b", {"text": "B"}),
        ("file:c", {"text": "C"}),
    ]


def test_removals_and_moves_of_old_files(probe: Probe) -> None:
    """Removing what was there is an effect; a scratch file that comes and goes is none; a move is two."""
    (probe.process.home / "old").write_text("old")
    (probe.process.home / "older").write_text("older")
    seen = probe(
        """
import os
os.remove("old")
open("lock", "w").close(); os.unlink("lock")
os.rename("older", "newer")
try:
    os.remove("nothing")
except FileNotFoundError:
    return "as always"
"""
    )
    assert seen.result == "as always"
    assert [(kind, payload) for _, kind, payload in effects(seen)] == [
        ("file:old.remove", None),
        ("file:newer", {"text": "older"}),
        ("file:older.remove", None),
    ]


def test_a_file_kept_open_is_seen_when_its_content_reaches_the_disk(probe: Probe) -> None:
    """What a step appends to a file that stays open belongs to the tick in which it was flushed."""
    first = probe("import builtins; builtins.kept = open('kept.log', 'a'); kept.write('one\\n'); kept.flush()")
    second = probe("kept.write('two\\n'); kept.flush()")
    third = probe("return kept.close()")
    assert [payload["text"] for _, _, payload in effects(first)] == ["one\n"]
    assert [payload["text"] for _, _, payload in effects(second)] == ["two\n"]
    assert effects(third) == []


def test_large_contents_stand_as_their_digest(probe: Probe) -> None:
    """A file over the limit is an effect with size and digest, not with its content."""
    seen = probe("open('big', 'w').write('x' * 300_000)")
    ((_, kind, payload),) = effects(seen)
    assert kind == "file:big"
    assert payload["size_bytes"] == 300_000
    assert len(payload["sha256"]) == 64


def test_a_write_belongs_to_its_step_also_when_it_comes_late(probe: Probe) -> None:
    """Effects stand in graph order of their steps; what an abandoned step writes later is late, and its own."""
    seen = probe(
        """
import threading
def later():
    go.wait(5)
    open("later.txt", "w").write("late")
go = threading.Event()
probe.two(lambda: open("two", "w").write("2"))
thread = threading.Thread(target=probe.one, args=(later,), daemon=True)
thread.start()
thread.join(0.01)
threading.Timer(0.1, go.set).start()
open("none", "w").write("0")
"""
    )
    assert [(step, kind) for step, kind, _ in effects(seen)] == [("two", "file:two"), ("", "file:none")]
    assert seen.steps["one"].gave_up
    (late,) = wait_for(lambda: [one for one in probe.process.late_effects() if one.effects])
    (effect,) = late.effects
    assert (late.tick, effect.late, effect.effect.step) == (seen.tick, True, "one")
    assert effect.effect.payload == {"text": "late"}


def test_doors_that_nobody_watches_are_named(probe: Probe, tmp_path: object) -> None:
    """A process, a raw socket and a write outside the home are listed by name; a read is not."""
    seen = probe(
        f"""
import subprocess, socket, os
subprocess.run(["true"]); os.system("true")
with socket.socket() as s:
    s.connect_ex(("127.0.0.1", 9))
open({str(tmp_path)!r} + "/x", "w").close()
open("/dev/null", "w").close()
open("/etc/hostname").close()
"""
    )
    assert seen.error is None
    assert set(seen.unobserved) == {"process true", "socket 127.0.0.1:9", f"files in {tmp_path}"}
