"""The table of sessions: strangers cannot fill it for others, nor can somebody known.

Pure: sessions with invented keys, the time is a number.
"""

import itertools

import pytest

from trio_chat.link.handshake import SessionKeys
from trio_chat.link.session import LinkSession, Peer
from trio_chat.link.sessions import MAX_PER_KEY, SESSION_LIFETIME, SessionTable
from trio_chat.protocol.limits import Limits

KEYS = SessionKeys(bytes(32), bytes(32), bytes(32))


class Table:
    """A table with few places, and who is known."""

    def __init__(self, **limits):
        self.known = set()
        self.asked = 0
        self.sessions = SessionTable(self._is_known, Limits(**limits))
        self._numbers = itertools.count()

    def _is_known(self, key):
        self.asked += 1
        return key in self.known

    def begin(self, key, *, port=1, now=0.0):
        """A new session of this key, in use."""
        number = next(self._numbers).to_bytes(4, "big")
        peer = Peer((f"10.0.0.{len(key)}", port), key)
        session = LinkSession(KEYS, peer, number, number, initiated=False, born=now)
        self.sessions.add(session)
        self.sessions.make_current(session, now)
        return session

    def begin_known(self, key):
        """The same of somebody who is known by the time when another session begins."""
        self.known.add(key)
        return self.begin(key)

    def has(self, session):
        return session.index in self.sessions


def strangers(count):
    return (b"stranger %d" % n for n in range(count))


def test_10000_strangers_end_no_session_of_somebody_known():
    table = Table(sessions_of_strangers=100)
    known = [table.begin(b"known %d" % n) for n in range(50)]
    table.known.update(session.peer.key for session in known)
    for key in strangers(10_000):
        table.begin(key)
    assert all(map(table.has, known))
    assert all(table.sessions.current(session.peer) is session for session in known)
    assert len(table.sessions) == 150
    assert table.sessions.ended == {"sessions_of_strangers": 10_000 - 100}


def test_the_newest_strangers_are_kept_so_that_they_can_register():
    table = Table(sessions_of_strangers=5)
    sessions = [table.begin(key) for key in strangers(12)]
    assert [table.has(session) for session in sessions] == [False] * 7 + [True] * 5


def test_those_who_were_known_end_when_their_places_are_needed():
    table = Table(sessions_of_strangers=1, sessions_of_peers=10)
    gone = [table.begin_known(b"gone %d" % n) for n in range(9)]
    assert all(map(table.has, gone))
    table.known.clear()
    here = [table.begin_known(b"here %d" % n) for n in range(10)]
    table.begin(b"a stranger")
    assert all(map(table.has, here))
    assert not any(map(table.has, gone))
    assert table.sessions.ended.keys() == {"sessions_of_strangers", "sessions_of_peers"}


def test_nobody_known_ends_for_lack_of_places_and_each_datagram_costs_little():
    table = Table(sessions_of_strangers=1, sessions_of_peers=10)
    here = []
    for n in range(100):
        table.asked = 0
        here.append(table.begin_known(b"here %d" % n))
        assert table.asked <= 10
    assert all(map(table.has, here))


def test_one_key_has_few_sessions_whoever_it_is():
    table = Table()
    table.known.add(b"known")
    sessions = [table.begin(b"known", port=1 + n) for n in range(20)]
    other = table.begin(b"other")
    assert [table.has(session) for session in sessions] == [False] * (20 - MAX_PER_KEY) + [True] * MAX_PER_KEY
    assert table.has(other)


def test_an_address_is_that_of_a_peer_while_somebody_known_has_a_session_there():
    table = Table()
    session = table.begin(b"key")
    address = session.peer.address
    assert not table.sessions.is_known_at(address)
    table.known.add(b"key")
    assert table.sessions.is_known_at(address)
    assert not table.sessions.is_known_at((address[0], 2))
    table.sessions.sweep(SESSION_LIFETIME)
    assert not table.sessions.is_known_at(address)


def test_a_table_that_was_given_no_limits_has_some():
    table = Table()
    gone = [table.begin_known(b"gone %d" % n) for n in range(21_000)]
    assert all(map(table.has, gone))
    table.known.clear()
    for key in strangers(5000):
        table.begin(key)
    assert len(table.sessions) == 4096 + 16_384


@pytest.mark.parametrize("end", [SessionTable.drop, lambda sessions, session: sessions.sweep(SESSION_LIFETIME)])
def test_nothing_is_left_of_a_session_that_ended(end):
    table = Table(sessions_of_strangers=1)
    table.known.add(b"known")
    for key in (b"known", b"stranger", b"other"):
        end(table.sessions, table.begin(key))
    for session in [table.begin(b"known") for _ in range(3)]:
        end(table.sessions, session)
    for name, value in vars(table.sessions).items():
        if isinstance(value, dict) and name != "ended":
            assert not value, name
