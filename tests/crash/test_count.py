"""The crash test finds what is wrong with messages that an outbox has accepted, and excuses what a kill may do.

Each test makes what three programs would leave behind: logs, and stores in files. No program runs, no time passes.
"""

import json
from contextlib import closing
from operator import itemgetter

import attrs
import pytest

from tests.crash.count import Count
from tests.crash.files import OUTBOX, Kill
from tests.storage.backends import inline
from trio_chat.crypto.receipts import hash_text
from trio_chat.protocol.records import EntryKind
from trio_chat.storage.client_interface import HistoryEntry, OpenedEntry
from trio_chat.storage.client_store import open_client_store
from trio_chat.storage.database import open_database
from trio_chat.storage.outgoing import Outgoing
from trio_chat.storage.sent_letters import SentLetter
from trio_chat.storage.server_schema import SERVER_SCHEMA

ANN, BOB = NAMES = ("ann", "bob")
SHOWN = 0.01
"""Seconds after a message was accepted in which it is shown, and its sender is told that it was received."""


@attrs.define
class Sent:
    """A message of Ann to Bob that was accepted, and everything that the crash test looks at."""

    text: str
    accepted: float
    states: list = attrs.field(factory=lambda: [(SHOWN, "received")])
    copies: int = 1
    kept_text: bool = True
    shown: list = attrs.field(factory=lambda: [SHOWN])
    in_history: int = 1
    in_outbox: bool = False
    in_doubt: bool = False
    at_server: bool = False
    is_marked: bool = True


class World:
    """Two messages, the second accepted after the first. All is well until a test changes it."""

    def __init__(self, folder):
        self.folder = folder
        self.first, self.second = Sent("first", 1.0), Sent("second", 2.0)
        self.kept = [self.first, self.second]
        self.kills = []

    def kill(self, name, at):
        self.kills.append(Kill(name, at, at))

    async def faults(self):
        """The kinds of what is wrong."""
        self._write_logs()
        await self._write_ann()
        await self._write_bob()
        with closing(open_database(self.folder / "server.db", SERVER_SCHEMA)):
            pass
        count = Count(self.folder, NAMES, self.kills)
        assert list(count.lines())
        return {fault.split(": ")[0] for fault in count.faults}

    def _write_logs(self):
        ann, bob = [], []
        for number, one in enumerate((self.first, self.second), start=1):
            ann += [(one.accepted, "puts", one.text, BOB), (one.accepted, "accepted", one.text, number, one.accepted)]
            for after, state in one.states:
                error = "TriedTooLong()" if state == "failed" else None
                ann.append((one.accepted + after, "told", number, OUTBOX + state, None, error))
            bob += [(one.accepted + after, "shows", one.text, False) for after in one.shown]
        for name, lines in ((ANN, ann), (BOB, bob)):
            text = "".join(json.dumps(line) + "\n" for line in [(0, "online"), *sorted(lines, key=itemgetter(0))])
            (self.folder / f"{name}.log").write_text(text)
            (self.folder / f"{name}.ticks").write_text("".join(f"[{n / 10}]\n" for n in range(100)))

    async def _write_ann(self):
        async with open_client_store(self.folder / "ann.db", inline) as store:
            for one in (self.first, self.second):
                for _ in range(one.in_history):
                    store.note(HistoryEntry(one.accepted, BOB, one.text, sent=True))
                if one.in_outbox:
                    await store.put_outgoing(Outgoing(0, one.text.encode(), BOB, "", one.text, one.accepted))
                if one.in_doubt:
                    id_ = one.text.encode().ljust(16)
                    letter = SentLetter(
                        id_, BOB, b"", hash_text(one.text), one.accepted, 5.0 if one.at_server else None
                    )
                    await store.will_send(letter)

    async def _write_bob(self):
        async with open_client_store(self.folder / "bob.db", inline) as store:
            for one in self.kept:
                for copy in range(one.copies):
                    id_, text = f"{one.text} {copy}".encode().ljust(16), one.text if one.kept_text else None
                    entry = OpenedEntry(0, EntryKind.DIRECT, id_, ANN, one.accepted, text, hash_text(one.text))
                    await store.keep([entry])
                    if one.is_marked:
                        store.shown(entry)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


async def test_all_is_well(world):
    assert await world.faults() == set()


async def test_a_message_that_is_missing_is_lost_whoever_was_killed(world):
    world.first.copies, world.first.shown = 0, []
    world.kill(BOB, 1.02)
    assert await world.faults() == {"lost to bob", "accepted, never shown"}


async def test_a_message_that_is_missing_is_lost_even_if_its_sender_was_told_nothing(world):
    world.first.copies, world.first.shown, world.first.states = 0, [], []
    world.kill(ANN, 1.02)
    assert await world.faults() == {"lost to bob", "accepted, never shown"}


async def test_two_copies(world):
    world.first.copies = 2
    assert await world.faults() == {"twice in the store of bob", "twice in the history", "history of what was accepted"}


async def test_what_is_left_in_the_outbox(world):
    world.first.in_outbox = True
    assert await world.faults() == {"left in the outbox"}


async def test_what_has_failed(world):
    world.first.states = [(SHOWN, "failed")]
    world.first.copies, world.first.shown, world.first.in_history = 0, [], 0
    assert await world.faults() == {"failed"}


@pytest.mark.parametrize(("victim", "faults"), [(None, {"never told"}), (BOB, {"never told"}), (ANN, set())])
async def test_a_sender_who_was_told_nothing(world, victim, faults):
    world.first.states = []
    if victim:
        world.kill(victim, 1.02)
    assert await world.faults() == faults


@pytest.mark.parametrize(("killed_at", "faults"), [(4.0, set()), (6.5, {"never told"})])
async def test_a_sender_who_was_told_nothing_of_what_arrived_late(world, killed_at, faults):
    world.second.states, world.second.shown = [], [3.0]
    world.kill(ANN, killed_at)
    assert await world.faults() == faults


@pytest.mark.parametrize(("victim", "faults"), [(None, {"told twice"}), (BOB, {"told twice"}), (ANN, set())])
async def test_a_sender_who_was_told_twice(world, victim, faults):
    world.first.states = [(SHOWN, "received"), (0.5, "relayed")]
    if victim:
        world.kill(victim, 1.02)
    assert await world.faults() == faults


@pytest.mark.parametrize("count", [0, 2])
async def test_the_history_of_the_sender_has_it_once(world, count):
    world.first.in_history = count
    world.kill(ANN, 1.02)
    assert "history of what was accepted" in await world.faults()


async def test_the_history_of_the_recipient_has_it(world):
    world.first.is_marked = False
    world.kill(BOB, 1.02)
    assert await world.faults() == {"history of what was accepted", "left unshown"}


async def test_what_was_kept_and_never_shown(world):
    world.first.shown = []
    world.kill(BOB, 1.0)
    assert await world.faults() == {"accepted, never shown", "never shown"}


async def test_a_text_that_is_lost(world):
    world.first.kept_text = False
    world.kill(BOB, 1.02)
    assert "accepted, text lost" in await world.faults()


@pytest.mark.parametrize(("victim", "faults"), [(None, {"shown twice"}), (ANN, {"shown twice"}), (BOB, set())])
async def test_what_is_shown_twice(world, victim, faults):
    world.first.shown = [SHOWN, 0.5]
    if victim:
        world.kill(victim, 1.02)
    assert await world.faults() == faults


async def test_the_order_in_which_they_are_kept(world):
    world.kept.reverse()
    assert await world.faults() == {"queue kept out of order"}


async def test_the_order_in_which_they_are_shown(world):
    world.first.shown = [1.5]
    assert await world.faults() == {"queue shown out of order"}


async def test_messages_that_were_put_at_the_same_time_have_no_order(world):
    world.second.accepted = world.first.accepted
    world.kept.reverse()
    world.first.shown = [2 * SHOWN]
    assert await world.faults() == set()


async def test_a_saved_message_without_its_receipt(world):
    world.first.states = [(SHOWN, "saved")]
    assert await world.faults() == {"receipt never shown"}


@pytest.mark.parametrize(("at_server", "faults"), [(False, set()), (True, {"not settled"})])
async def test_a_letter_without_a_receipt(world, at_server, faults):
    """It went directly in the end. Did the server keep it, too, its receipt would have come."""
    world.first.in_doubt, world.first.at_server = True, at_server
    assert await world.faults() == faults
