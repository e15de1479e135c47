"""When the server believes its clock and removes what is old: after an hour in which both of its clocks agreed.

The test says what the clocks show; the last tests run a server, in virtual time.
"""

import random
from functools import partial

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.bare_server import A, B, credentials_of, identity_of
from trio_chat.protocol.records import RETENTION, Entry, EntryKind, Record
from trio_chat.server.retention import AGREEMENT, TOLERANCE, RetentionClock
from trio_chat.server.server import serve_chat
from trio_chat.storage.server_memory import MemoryServerStore

NOON = 1_750_000_000.0
MINUTE = 60.0
YEAR = 365 * 24 * 3600.0


class Looks:
    """Looks at both clocks each minute, as the server does. `set_by`: how far the wall clock was set, in seconds."""

    def __init__(self, wall: float = NOON) -> None:
        self.now = 5000.0
        self.set_by = 0.0
        self._start = wall - self.now
        self.clock = RetentionClock(wall, self.now)

    @property
    def wall(self) -> float:
        return self._start + self.now + self.set_by

    def look(self, seconds: float = MINUTE) -> float | None:
        self.now += seconds
        return self.clock.oldest_kept(self.wall, self.now)

    def pass_time(self, seconds: float) -> list[float | None]:
        """What was too old at each look, for so many seconds."""
        return [self.look() for _ in range(int(seconds / MINUTE))]


def test_nothing_is_too_old_in_the_first_hour():
    looks = Looks()
    assert looks.pass_time(AGREEMENT - MINUTE) == [None] * 59
    assert looks.look() == looks.wall - RETENTION


def test_retention_is_30_days_of_the_servers_wall_clock():
    looks = Looks()
    looks.pass_time(AGREEMENT)
    assert all(looks.look() == looks.wall - 30 * 24 * 3600 for _ in range(100))


@pytest.mark.parametrize("jump", [-YEAR, -3600.0, -TOLERANCE - 1, TOLERANCE + 1, 3600.0, YEAR, 50 * YEAR])
def test_after_the_wall_clock_was_set_nothing_is_removed_for_an_hour(jump):
    looks = Looks()
    looks.pass_time(2 * AGREEMENT)
    looks.set_by = jump
    assert looks.look() is None
    assert looks.pass_time(AGREEMENT - MINUTE) == [None] * 59
    assert looks.look() == looks.wall - RETENTION


def test_one_second_at_50_years_from_now_removes_nothing():
    looks = Looks()
    looks.pass_time(2 * AGREEMENT)
    before = looks.wall
    looks.set_by = 50 * YEAR
    assert looks.look(1.0) is None
    looks.set_by = 0.0
    found = looks.pass_time(3 * AGREEMENT)
    assert all(one is None for one in found[:60])
    assert all(one is not None and one <= looks.wall - RETENTION for one in found[61:])
    assert max(filter(None, found)) < before + 4 * AGREEMENT - RETENTION


def test_a_clock_that_is_wrong_for_a_moment_between_two_looks_is_not_noticed_and_does_no_harm():
    looks = Looks()
    looks.pass_time(2 * AGREEMENT)
    looks.set_by = 50 * YEAR
    looks.set_by = 0.0
    assert looks.look() == looks.wall - RETENTION


@pytest.mark.parametrize("drift", [-0.1, -0.001, 0.001, 0.1])
def test_a_clock_that_is_corrected_little_by_little_is_believed(drift):
    looks = Looks()
    found = []
    for _ in range(600):
        looks.set_by += drift * MINUTE
        found.append(looks.look())
    assert all(found[60:]), "a clock that runs fast or slow is not one that was set"


def test_a_machine_that_slept_may_have_stopped_its_monotonic_clock():
    looks = Looks()
    looks.pass_time(2 * AGREEMENT)
    looks.set_by += 8 * 3600.0
    assert looks.look() is None
    looks.pass_time(AGREEMENT)
    assert looks.look() == looks.wall - RETENTION


def test_a_clock_that_is_set_again_and_again_removes_nothing():
    looks, dice = Looks(), random.Random(1)
    looks.pass_time(2 * AGREEMENT)
    for _ in range(20):
        looks.set_by = dice.uniform(0, 50 * YEAR)
        assert looks.pass_time(AGREEMENT / 2) == [None] * 30


@given(seed=st.integers(0, 2**64))
def test_only_what_is_30_days_old_by_a_clock_that_was_right_for_an_hour_is_removed(seed):
    dice, looks = random.Random(seed), Looks()
    set_at = looks.now
    for _ in range(300):
        if dice.random() < 0.02:
            jump = dice.choice((-YEAR, -20.0, 20.0, YEAR, 50 * YEAR))
            looks.set_by, set_at = looks.set_by + jump, looks.now + MINUTE
        before = looks.look()
        assert (before is not None) == (looks.now - set_at >= AGREEMENT)
        assert before is None or before == looks.wall - RETENTION


# --- the server ---


async def store_with_letters(*ages: float) -> MemoryServerStore:
    """A letter of alice to bob for each of these ages in seconds."""
    store = MemoryServerStore()
    for name, peer in (("alice", A), ("bob", B)):
        await store.save_name(Record(name, *peer.address, True, NOON, credentials_of(peer, name)))
    key = identity_of(A).public.signing
    for number, age in enumerate(ages):
        id_ = number.to_bytes(16, "big")
        await store.append([Entry(0, EntryKind.DIRECT, id_, "alice", key, "bob", NOON - age, b"sealed")])
    return store


def wall_clock() -> float:
    return NOON + trio.current_time()


async def kinds_for(store, name) -> list[str]:
    return [entry.kind for entry in (await store.read(name, 0)).entries]


async def test_a_server_removes_what_is_too_old_after_an_hour_and_tells_the_sender(network, nursery, autojump_clock):
    store = await store_with_letters(RETENTION + 1, RETENTION - 2 * AGREEMENT)
    await nursery.start(partial(serve_chat, 5000, store=store, network=network, clock=wall_clock))
    await trio.sleep(AGREEMENT - 1)
    assert await kinds_for(store, "bob") == [EntryKind.DIRECT, EntryKind.DIRECT]
    await trio.sleep(2 * MINUTE)
    assert await kinds_for(store, "bob") == [EntryKind.DIRECT]
    (failed,) = (await store.read("alice", 0)).entries
    assert (failed.kind, failed.id) == (EntryKind.FAILED, bytes(16))


async def test_a_server_whose_clock_shows_another_year_for_a_while_removes_nothing(network, nursery, autojump_clock):
    store = await store_with_letters(100.0, 0.0)
    wrong_from = 2 * AGREEMENT

    def clock() -> float:
        now = trio.current_time()
        return NOON + now + (50 * YEAR if wrong_from < now < wrong_from + AGREEMENT / 2 else 0.0)

    await nursery.start(partial(serve_chat, 5000, store=store, network=network, clock=clock))
    await trio.sleep(3.5 * AGREEMENT)
    assert await kinds_for(store, "bob") == [EntryKind.DIRECT, EntryKind.DIRECT]
