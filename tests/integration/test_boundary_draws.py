"""Clock, randomness and identifiers: noted in record mode, derived on copies."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections.abc import Iterator

import pytest

from tests.integration.boundary_support import SAMPLES, Probe
from tickover.boundary import Mode
from tickover.boundary.child import LegacyProcess
from tickover.draws import DerivedDraws, RecordedDraws

AT = dt.datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    home = tmp_path_factory.mktemp("draws") / "home"
    with LegacyProcess("probe:probe", home, {"TZ": "America/New_York"}, project=[SAMPLES]) as process:
        yield Probe(process)


NUMBERS = """
import random
def draw():
    deck = list(range(9)); random.shuffle(deck)
    return [random.random(), random.randint(1, 6), random.choice("abc"), random.sample(range(99), 3), deck,
            random.gauss(0, 1), random.gauss(0, 1), random.uniform(1, 2), random.getrandbits(70),
            random.choices("xyz", k=3), random.betavariate(1, 2), random.randbytes(3).hex()]
"""


def draw(random: random.Random) -> list[object]:
    """The same as in NUMBERS, from a generator."""
    deck = list(range(9))
    random.shuffle(deck)
    return [
        random.random(),
        random.randint(1, 6),
        random.choice("abc"),
        random.sample(range(99), 3),
        deck,
        random.gauss(0, 1),
        random.gauss(0, 1),
        random.uniform(1, 2),
        random.getrandbits(70),
        random.choices("xyz", k=3),
        random.betavariate(1, 2),
        random.randbytes(3).hex(),
    ]


def test_recorded_numbers_replay_through_the_contract(probe: Probe) -> None:
    """A candidate that makes the same calls on the record draws the very values the control drew."""
    seen = probe(NUMBERS + "return probe.one(draw)")
    replayed = RecordedDraws(seen.draws["one"], DerivedDraws("other", 99, "one"))
    assert draw(replayed.random) == seen.result
    assert replayed.diverged == set()


def test_the_control_draws_what_it_would_draw_alone(probe: Probe) -> None:
    """With a seed, record mode gives legacy the same numbers as an unwatched Python."""
    seen = probe(NUMBERS + "random.seed(7); return probe.one(draw)")
    assert seen.result == draw(random.Random(7))


def test_a_copy_draws_what_the_context_derives(probe: Probe) -> None:
    """On a copy each step has the numbers and identifiers that the port's context has in that step."""
    code = NUMBERS + "import uuid; return [probe.one(draw), probe.two(draw), str(probe.two(uuid.uuid4))]"
    seen = probe(code, mode=Mode.COPY, tick=5)
    one, two = DerivedDraws("r", 5, "one"), DerivedDraws("r", 5, "two")
    assert seen.result == [draw(one.random), draw(two.random), str(two.new_id())]


def test_recorded_draws_are_given_back_to_a_reference(probe: Probe) -> None:
    """A reference gets the control's clock, numbers and identifiers; what it draws beyond them is named."""
    code = NUMBERS + (
        "import uuid; from datetime import datetime\n"
        "return probe.one(lambda: [draw(), str(uuid.uuid4()), str(uuid.uuid1()), datetime.now().isoformat()])"
    )
    seen = probe(code)
    again = probe(code, mode=Mode.REFERENCE, draws=seen.draws)
    assert again.result == seen.result
    assert again.diverged == {}
    beyond = probe(
        code.replace("return", "import random; probe.two(random.random); return"),
        mode=Mode.REFERENCE,
        draws=seen.draws,
    )
    assert beyond.diverged == {"two": ("random",)}


def test_every_reading_of_the_clock_is_noted_as_an_instant(probe: Probe) -> None:
    """Local, UTC and aware readings, dates and seconds are all noted in UTC, in order."""
    seen = probe(
        """
import time
from datetime import datetime, date, timezone
def read():
    return [datetime.now().timestamp(), datetime.utcnow().replace(tzinfo=timezone.utc).timestamp(),
            datetime.now(timezone.utc).timestamp(), datetime.today().timestamp(), time.time(), time.time_ns() / 1e9]
return [probe.one(read), date.today().isoformat(), time.localtime()[:3]]
"""
    )
    noted = [dt.datetime.fromisoformat(text).timestamp() for text in seen.draws["one"]["now"]]
    assert noted == pytest.approx(seen.result[0], abs=2e-6)
    assert len(seen.draws[""]["now"]) == 2


def test_a_copy_reads_the_ticks_instant_in_every_form(probe: Probe) -> None:
    """On a copy every clock shows the tick's instant, in the process's time zone where it is local."""
    seen = probe(
        """
import time
from datetime import datetime, date, timezone
return [datetime.now().isoformat(), datetime.utcnow().isoformat(), datetime.now(timezone.utc).isoformat(),
        date.today().isoformat(), time.time(), time.time_ns(), time.strftime("%H:%M:%S"), time.localtime().tm_hour,
        time.gmtime().tm_hour]
""",
        mode=Mode.COPY,
        started_at=AT,
    )
    assert seen.result == [
        "2031-05-06T03:08:09.123456",
        "2031-05-06T07:08:09.123456",
        "2031-05-06T07:08:09.123456+00:00",
        "2031-05-06",
        AT.timestamp(),
        round(AT.timestamp() * 1_000_000) * 1000,
        "03:08:09",
        3,
        7,
    ]


def test_datetime_stays_the_type_it_is(probe: Probe) -> None:
    """Types, pickles, comparison, subclasses and singledispatch see nothing of the adapter."""
    seen = probe(
        """
import datetime, pickle, copy, functools, sqlite3
from datetime import datetime as D
class Mine(D):
    pass
@functools.singledispatch
def kind(value): return "other"
kind.register(D, lambda value: "datetime")
now = D.now()
return [type(now) is D, isinstance(D(2020, 1, 1), D), pickle.loads(pickle.dumps(now)) == now, kind(now),
        type(Mine.now()) is Mine, type(Mine.utcnow()) is Mine, D.now() >= now, repr(D), copy.deepcopy(now) == now,
        D.strptime("2020", "%Y") < now, isinstance(now, datetime.date), D.now(tz=datetime.timezone.utc).tzname()]
"""
    )
    expected = [
        True,
        True,
        True,
        "datetime",
        True,
        True,
        True,
        "<class 'datetime.datetime'>",
        True,
        True,
        True,
        "UTC",
    ]
    assert seen.result == expected


def test_libraries_do_not_draw_for_a_step(probe: Probe) -> None:
    """A log line, a request for a temporary name and other draws of libraries are not in the record."""
    seen = probe(
        """
import logging, tempfile, email.utils, random
logging.getLogger("x").warning("hello")
email.utils.formatdate()
tempfile.mktemp()  # holds a lock while it tries the directory: an adapter must not ask for it there
return random.random()
"""
    )
    assert seen.draws[""] == {"now": [], "random": [["random", None, seen.result]], "ids": []}


def test_chance_beside_the_adapters_is_named(probe: Probe) -> None:
    """Entropy of the system and generators without a seed are listed as unobserved; seeded ones are none."""
    seen = probe(
        "import os, secrets, random; os.urandom(2); secrets.token_hex(); random.Random(3); random.Random(); "
        "random.SystemRandom()"
    )
    assert set(seen.unobserved) == {"os.urandom", "secrets", "random.Random() without a seed"}


def test_identifiers_are_noted(probe: Probe) -> None:
    """uuid1 and uuid4 are noted in order."""
    seen = probe("import uuid; return probe.one(lambda: [str(uuid.uuid4()), str(uuid.uuid1())])")
    assert seen.draws["one"]["ids"] == seen.result
    assert uuid.UUID(seen.result[0]).version == 4


def test_a_loop_that_waits_for_the_clock_ends_on_a_copy(probe: Probe) -> None:
    """A copy's clock stands still, but not for a loop that waits for it to move."""
    seen = probe(
        """
import time
begun = time.time()
while time.time() < begun + 0.05:
    time.sleep(0.0001)
return "ended"
""",
        mode=Mode.COPY,
    )
    assert seen.result == "ended"
