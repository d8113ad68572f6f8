"""The legacy process: its life, its death, and a whole tick of an old job through it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.boundary_support import SAMPLES, Probe, Service, effects, wait_for
from tickover.boundary import LegacyObservation, LegacyRequest, Mode, Outcome
from tickover.boundary.child import LegacyProcess, LegacyProcessError


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.close()


@pytest.fixture
def process(tmp_path: Path, service: Service) -> Iterator[LegacyProcess]:
    with LegacyProcess("probe:probe", tmp_path / "home", {"SERVICE_URL": service.url}, project=[SAMPLES]) as made:
        yield made


def job(home: Path, service: Service, **env: str) -> LegacyProcess:
    return LegacyProcess(
        "sample_workload:old_job", home, {"SERVICE_URL": service.url, "TZ": "UTC", **env}, project=[SAMPLES]
    )


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_tick_of_an_old_job_is_seen_whole(tmp_path: Path, service: Service) -> None:
    """Steps, results, calls, effects, draws and states of an unedited job are observed; a copy repeats them."""
    with job(tmp_path / "home", service) as control:
        seen = control.run_tick(LegacyRequest(run="r", tick=0))
    assert (seen.outcome, seen.harness_errors, seen.unobserved) == (Outcome.DONE, (), ())
    assert list(seen.steps) == ["gather", "decide", "store", "slow"]
    assert seen.steps["gather"].result["answer"] == "hi hello"
    assert [(call.step, call.port, call.method) for call in seen.calls] == [
        ("gather", "service", "ask"),
        ("gather", "http", "GET"),
    ]
    assert [(one.effect.step, one.effect.kind, one.effect.key) for one in seen.effects] == [
        ("store", "memories", "0/store/memories/0"),
        ("store", "memories.update", "0/store/memories.update/0"),
        ("store", "file:notes/0.txt", "0/store/file:notes/0.txt/0"),
        ("store", "file:outbox.jsonl.append", "0/store/file:outbox.jsonl.append/0"),
        ("slow", "file:late.txt.append", "0/slow/file:late.txt.append/0"),
    ]
    assert seen.state_before == {"total": 0}
    assert seen.state_after == {"total": sum(seen.steps["decide"].result["sample"])}
    assert LegacyObservation.from_json(json.loads(json.dumps(seen.to_json()))) == seen
    with job(tmp_path / "copy", service) as copy:
        again = copy.run_tick(
            LegacyRequest(run="r", tick=0, mode=Mode.REFERENCE, tape=seen.calls, draws=seen.draws, on_miss="fail")
        )
    results, repeated = ({name: step.result for name, step in one.steps.items()} for one in (seen, again))
    # An instant of a record has microseconds; `time.time()` has a little more.
    assert repeated["decide"].pop("t") == pytest.approx(results["decide"].pop("t"), abs=1e-6)
    assert repeated == results
    assert effects(again) == effects(seen)
    assert again.result == seen.result


def test_two_copies_of_a_tick_are_equal(tmp_path: Path, service: Service) -> None:
    """Two runs of one tick on copies draw the same, and have the same results, effects and state."""
    with job(tmp_path / "record", service) as control:
        tape = control.run_tick(LegacyRequest(run="r", tick=3)).calls
    found = []
    for name in ("first", "second"):
        with job(tmp_path / name, service) as copy:
            seen = copy.run_tick(LegacyRequest(run="r", tick=3, mode=Mode.COPY, tape=tape))
            results = {step: one.result for step, one in seen.steps.items()}
            found.append((results, effects(seen), seen.state_after))
    assert found[0] == found[1]


def test_a_killed_process_loses_its_tick_and_is_replaced(process: LegacyProcess) -> None:
    """kill -9 in mid-tick: the outcome is lost, what had ended is kept, and the next tick runs in a new process."""
    probe = Probe(process)
    process.start()
    first = process.pid
    mark = process.home / "begun"
    killer = threading.Thread(target=lambda: (wait_for(mark.exists), process.kill()))
    killer.start()
    lost = probe(
        """
import time, urllib.request, os
probe.one(lambda: urllib.request.urlopen(os.environ["SERVICE_URL"] + "/plain").read().decode())
time.sleep(0.1)
open("begun", "w").close()
time.sleep(30)
"""
    )
    killer.join()
    assert (lost.outcome, lost.pid) == (Outcome.LOST, first)
    assert "-9" in str(lost.error)
    assert lost.steps["one"].result == "abcde"
    assert [call.step for call in lost.calls] == ["one"]
    after = probe("return 'again'")
    assert (after.result, process.starts) == ("again", 2)
    assert after.pid != first


def test_a_process_that_dies_before_it_begins_a_tick_loses_nothing(process: LegacyProcess) -> None:
    """It was killed, and nobody had noticed: the tick goes to another process, as nothing of it had happened. One
    whose parent kills it is not replaced."""
    probe = Probe(process)
    process.start()
    for kill in (lambda pid: os.kill(pid, signal.SIGKILL), lambda pid: process.kill()):
        pid = process.pid
        assert pid is not None
        # What stands still is given the tick, and dies with it unread.
        os.kill(pid, signal.SIGSTOP)
        killer = threading.Timer(0.2, kill, (pid,))
        killer.start()
        seen = probe("return 'whole'")
        killer.join()
        if process.starts == 2 and seen.outcome is not Outcome.LOST:
            assert seen.result == "whole" and seen.pid != pid
    assert (seen.outcome, process.starts) == (Outcome.LOST, 2)


def test_a_tick_over_the_given_limit_is_lost(process: LegacyProcess) -> None:
    """A process that does not answer in time is killed, and says so."""
    seen = Probe(process)("import time; time.sleep(30)", timeout_s=0.3)
    assert seen.outcome is Outcome.LOST
    assert "within 0.3 s" in str(seen.error)


def test_the_process_ends_with_its_parent(tmp_path: Path) -> None:
    """When the parent is killed, the legacy process ends too, in the middle of a tick."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "tick.py").write_text("def tick(n):\n    import time, os\n    open('pid', 'w').write(str(os.getpid()))\n"
                                  "    os.rename('pid', 'begun')\n    time.sleep(60)\n")  # fmt: skip
    code = f"""
from tickover.boundary.child import LegacyProcess
from tickover.boundary import LegacyRequest
LegacyProcess("probe:probe", {str(home)!r}, project=[{str(SAMPLES)!r}]).run_tick(LegacyRequest(run="r", tick=0))
"""
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        wait_for((home / "begun").exists)
        child = int((home / "begun").read_text())
        assert alive(child)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    wait_for(lambda: not alive(child))


def test_what_legacy_raises_is_its_outcome(process: LegacyProcess) -> None:
    """An exception, also SystemExit, fails the tick and not the process; a step that failed is named."""
    probe = Probe(process)
    seen = probe("probe.one(lambda: 1 / 0)")
    assert (seen.outcome, seen.error) == (Outcome.FAILED, "ZeroDivisionError: division by zero")
    assert seen.steps["one"].error == "ZeroDivisionError: division by zero"
    assert probe("raise SystemExit(3)").error == "SystemExit: 3"
    assert probe("return 1").result == 1
    assert process.starts == 1


def test_results_without_json_form_are_named_never_altered(process: LegacyProcess) -> None:
    """A set or a naive datetime is refused by name; legacy itself gets its own value back."""
    seen = Probe(process)("found = probe.one(lambda: {'a': {1, 2}}); return [type(found['a']).__name__]")
    assert seen.result == ["set"]
    assert seen.steps["one"].result is None
    assert "a: set has no JSON form" in str(seen.steps["one"].not_canonical)
    whole = Probe(process)("return {1, 2}")
    assert whole.result is None
    assert "set has no JSON form" in str(whole.not_canonical)
    assert (whole.outcome, whole.harness_errors) == (Outcome.DONE, ())


def test_steps_in_futures_coroutines_and_loops(process: LegacyProcess) -> None:
    """A step in a pool, in a coroutine, and one entered three times are seen; a future given up is marked."""
    seen = Probe(process)(
        """
import asyncio, time
from concurrent.futures import ThreadPoolExecutor, TimeoutError
async def answer(x):
    await asyncio.sleep(0)
    open(f"async{x}", "w").close()
    return x
said = [asyncio.run(probe.three(answer, 3))]
for n in range(3):
    said.append(probe.two(lambda: n))
pool = ThreadPoolExecutor(1)
future = pool.submit(probe.one, lambda: time.sleep(0.2))
try:
    future.result(timeout=0.01)
except TimeoutError:
    said.append("gave up")
pool.shutdown()
return said
"""
    )
    assert seen.result == [3, 0, 1, 2, "gave up"]
    assert seen.steps["three"].result == 3
    assert (seen.steps["two"].calls, seen.steps["two"].result) == (3, 2)
    assert seen.steps["one"].gave_up
    assert not seen.steps["two"].gave_up
    assert [(step, kind) for step, kind, _ in effects(seen)] == [("three", "file:async3")]


def test_waiting_in_turns_is_not_giving_up(process: LegacyProcess) -> None:
    """A caller that polls with short joins until the step ends has not given it up."""
    seen = Probe(process)(
        """
import threading, time
thread = threading.Thread(target=probe.one, args=(time.sleep, 0.1))
thread.start()
while thread.is_alive():
    thread.join(0.01)
"""
    )
    assert not seen.steps["one"].gave_up
    assert seen.steps["one"].duration_ms is not None


def test_a_need_that_is_still_running_was_given_up(process: LegacyProcess) -> None:
    """A step that begins while one of its needs runs shows that its caller went on without it, however it waited."""
    seen = Probe(process)(
        """
import threading
go = threading.Event()
thread = threading.Thread(target=probe.one, args=(go.wait, 5))
thread.start()
probe.two(lambda: None)
go.set()
thread.join()
"""
    )
    assert seen.steps["one"].gave_up
    assert seen.steps["one"].result is True


def test_state_is_read_written_and_survives(tmp_path: Path, service: Service) -> None:
    """write_state replaces what legacy starts from, also what it holds in memory; the round trip is checked aside."""
    with job(tmp_path / "home", service) as process:
        first = process.run_tick(LegacyRequest(run="r", tick=0))
        assert process.read_state() == first.state_after
        assert process.check_round_trip().holds
        process.write_state({"total": 5000})
        assert process.read_state() == {"total": 5000}
        second = process.run_tick(LegacyRequest(run="r", tick=1))
        assert second.pid != first.pid
        assert second.state_before == {"total": 5000}


def test_output_of_legacy_goes_to_a_log(process: LegacyProcess, capfd: pytest.CaptureFixture[str]) -> None:
    """What legacy prints lands in the log file, and not on our standard output."""
    Probe(process)("import sys; print('printed'); print('complained', file=sys.stderr)")
    wait_for(lambda: "printed" in process.log.read_text())
    assert "complained" in process.log.read_text()
    assert capfd.readouterr().out == ""


def test_mistakes_are_told_with_what_to_do(tmp_path: Path) -> None:
    """An unknown workload, and a workload without legacy state functions, are clear errors."""
    with LegacyProcess("nowhere:x", tmp_path / "a") as process:
        with pytest.raises(LegacyProcessError, match="there is no module 'nowhere'"):
            process.start()
    with LegacyProcess("probe:probe", tmp_path / "b", project=[SAMPLES]) as process:
        with pytest.raises(LegacyProcessError, match="give it `read_state`"):
            process.read_state()


def test_packages_of_the_user_never_collide_with_ours(tmp_path: Path) -> None:
    """A project with modules named legacy, reports, services, shadow, async_tick and cli.py runs its own."""
    project = tmp_path / "project"
    for package in ("legacy", "reports", "services", "shadow", "async_tick", "digital_being"):
        (project / package).mkdir(parents=True)
        (project / package / "__init__.py").write_text(f"NAME = 'my {package}'\n")
    (project / "cli.py").write_text("NAME = 'my cli'\n")
    (project / "work.py").write_text(
        textwrap.dedent(
            """
            from tickover import Step, Workflow
            def run(tick):
                import async_tick, cli, digital_being, legacy, reports, services, shadow
                modules = [async_tick, cli, digital_being, legacy, reports, services, shadow]
                return [module.NAME for module in modules]
            job = Workflow(name="job", version="1", steps=[Step(name="a", run=lambda c: None)], legacy=run)
            """
        )
    )
    with LegacyProcess("work:job", tmp_path / "home", project=[project]) as process:
        seen = process.run_tick(LegacyRequest(run="r", tick=0))
    names = ["async_tick", "cli", "digital_being", "legacy", "reports", "services", "shadow"]
    assert seen.result == [f"my {name}" for name in names]


def test_the_host_imports_nothing_but_the_contract(tmp_path: Path) -> None:
    """Beside the user's code the legacy process holds only the standard library and `tickover`, not its ground."""
    with LegacyProcess("probe:probe", tmp_path / "home", project=[SAMPLES]) as process:
        seen = Probe(process)(
            """
import sys
from pathlib import Path
ours = ("shadow", "reports", "async_tick", "legacy", "digital_being")
files = {m: getattr(v, "__file__", None) or "" for m, v in list(sys.modules.items())}
return sorted({m.partition(".")[0] for m, f in files.items() if "site-packages" in f or "tickover.ground" in m
               or m.partition(".")[0] in ours})
"""
        )
    assert [name for name in seen.result if not name.startswith(("_", "distutils"))] == []
