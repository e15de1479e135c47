"""A wake-up call of the server starts a handshake, as a RESET does, and nothing else, also if somebody has forged it.

No sockets or clock: each datagram waits until the test delivers it. What the server calls is in tests/server.
"""

import pytest

from tests.link.test_links import CALL, COOKIE, DATA, INIT, RESET, RESP, Wire
from trio_chat.link.events import ServerCalled, SessionReplaced
from trio_chat.link.packets import Reset, WakeUpCall
from trio_chat.link.session import Peer
from trio_chat.link.sessions import SESSION_LIFETIME
from trio_chat.protocol.wire import WireError

CALLED = WakeUpCall().encode()


@pytest.fixture
def wire():
    """The client (low) has a session with its server (high), which both use."""
    wire = Wire()
    wire.link()
    wire.low.events.clear()
    wire.kinds()
    return wire


def call(wire: Wire, source=None) -> None:
    """The client gets a call, and what follows is delivered."""
    wire.post(wire.low, wire.low.links.receive_untrusted(CALLED, source or wire.high.address, wire.now))
    wire.run()


def calls_heard(wire: Wire) -> int:
    return sum(isinstance(event, ServerCalled) for event in wire.low.events)


def test_a_call_is_the_smallest_of_datagrams():
    assert len(CALLED) == len(Reset(b"indx").encode()) == 8


def test_a_restarted_server_calls_and_the_client_has_a_new_session_and_knows_why(wire):
    wire.high.restart()
    call(wire)
    assert wire.kinds() == [INIT, COOKIE, INIT, RESP, DATA]
    assert wire.low.events == [SessionReplaced(wire.high.peer), ServerCalled(wire.high.peer)]
    wire.talk(wire.low, b"who am I?")
    assert wire.high.received[-1] == b"who am I?"
    assert wire.kinds() == [DATA]


def test_after_an_hour_of_silence_a_call_is_heard_too(wire):
    """Then the client has no session any more."""
    wire.high.restart()
    wire.now += 20 * SESSION_LIFETIME
    wire.low.links.sweep(wire.now)
    assert wire.low.sessions == []
    call(wire)
    assert calls_heard(wire) == 1
    assert len(wire.low.sessions) == 1


def test_only_the_server_can_call(wire):
    for source in (("10.9.9.9", 2222), (wire.high.address[0], 2223), wire.low.address):
        with pytest.raises(WireError, match="not our server"):
            call(wire, source)
    assert wire.kinds() == []


def test_a_party_without_a_server_is_not_called(wire):
    assert wire.high.server is None
    with pytest.raises(WireError, match="not our server"):
        wire.high.links.receive_untrusted(CALLED, wire.low.address, wire.now)


def test_forged_calls_start_at_most_one_handshake_a_second_and_change_nothing_else(wire):
    """Each handshake succeeds: this is a server that did not restart, and somebody who forges its address."""
    for number in range(1000):
        call(wire)
        wire.talk(wire.low, b"%d" % number)
        assert wire.high.received[-1] == b"%d" % number, "what is sent meanwhile arrives"
        wire.now += 0.01
    assert wire.kinds().count(RESP) == 10 == calls_heard(wire)
    assert len(wire.low.sessions) <= 3


def test_forged_calls_and_resets_together_start_at_most_one_handshake_a_second(wire):
    for number in range(1000):
        session = wire.low.links._sessions.current(wire.high.peer)
        forged = CALLED if number % 2 else Reset(session.remote_index).encode()
        wire.post(wire.low, wire.low.links.receive_untrusted(forged, wire.high.address, wire.now))
        wire.run()
        wire.now += 0.01
    assert wire.kinds().count(RESP) <= 11


def test_forged_calls_to_a_client_whose_server_is_silent_cost_one_init_a_second(wire):
    for _ in range(1000):
        wire.post(wire.low, wire.low.links.receive_untrusted(CALLED, wire.high.address, wire.now))
        wire.flying.clear()
        wire.now += 0.01
    assert wire.kinds() == [INIT] * 10


def test_a_call_with_a_lost_init_is_made_up_for_by_the_next_call(wire):
    wire.high.restart()
    wire.post(wire.low, wire.low.links.receive_untrusted(CALLED, wire.high.address, wire.now))
    wire.flying.clear()
    wire.now += 1.1
    call(wire)
    assert calls_heard(wire) == 1


def test_a_call_during_a_handshake_is_heard_when_that_ends(wire):
    """A message to the restarted server may be faster: its RESET has started the handshake."""
    wire.high.restart()
    wire.send(wire.low, b"hi")
    wire.land(wire.flying.pop(0))
    assert wire.flying[0].kind == RESET
    wire.land(wire.flying.pop(0))
    wire.post(wire.low, wire.low.links.receive_untrusted(CALLED, wire.high.address, wire.now))
    wire.run()
    assert wire.kinds() == [DATA, RESET, INIT, COOKIE, INIT, RESP, DATA]
    assert calls_heard(wire) == 1


def test_an_unusable_key_is_not_called(wire):
    """Nothing is sent, and nothing remembered, as for a message."""
    wire.low.server = Peer(wire.high.address, bytes(32))
    before = len(wire.low.links)
    call(wire)
    assert (wire.kinds(), len(wire.low.links)) == ([], before)


def test_a_call_with_anything_else_in_it_is_refused(wire):
    for data in (CALLED + b"\0", CALLED[:7], CALLED[:1] + b"\2" + CALLED[2:]):
        with pytest.raises(WireError):
            wire.low.links.receive_untrusted(data, wire.high.address, wire.now)
    assert CALLED[0] == CALL
