"""What a client does when the server refuses a registration or a message: it waits and tries again, or says why.

Against a server that the test controls by hand, in virtual time.
"""

import pytest
import trio

from tests.client.raw_server import RawServer, open_client
from trio_chat.client.events import SignedOff
from trio_chat.client.registration import MAX_ROUNDS
from trio_chat.errors import IdInUse, NoRoom, ServerNotResponding, TooFast, TooManyNames
from trio_chat.protocol.messages import GroupPost, Heartbeat, Register, TableChange
from trio_chat.protocol.records import Reason
from trio_chat.transport.windows import ACK_WINDOW

FOREVER = 1_000_000


class RefusingServer(RawServer):
    """Refuses the next requests of some kinds: `refused[kind]` is how many, for what reason, and for how long."""

    def __init__(self, network):
        super().__init__(network)
        self.refused = {}
        self.answer = self._refuse_or_answer

    def _refuse_or_answer(self, request):
        left, reason, after = self.refused.get(type(request), (0, None, 0.0))
        if not left:
            return self._answer(request)
        self.refused[type(request)] = (left - 1, reason, after)
        return request.refused(reason, after)


@pytest.fixture
async def server(network, nursery):
    server = RefusingServer(network)
    nursery.start_soon(server.listen)
    return server


async def test_a_client_that_comes_too_often_is_told_when_to_come_back(server, network, autojump_clock):
    server.refused[Register] = (1, Reason.TOO_FAST, 7.0)
    with pytest.raises(TooFast) as caught:
        async with open_client(network, "alice"):
            pass  # pragma: no cover
    assert caught.value.after == 7.0
    async with open_client(network, "alice") as alice:
        assert alice.chat.online


async def test_with_reconnect_it_waits_as_long_as_the_server_says_and_comes_back(server, network, autojump_clock):
    server.refused[Register] = (3, Reason.TOO_FAST, 7.0)
    began = trio.current_time()
    async with open_client(network, "alice", reconnect=True) as alice:
        assert alice.chat.online
        assert trio.current_time() - began == pytest.approx(3 * 7, abs=1)
    assert len(server.of(Register)) == 4


async def test_it_waits_longer_each_time_if_the_server_says_that_it_is_only_a_moment(server, network, autojump_clock):
    server.refused[Register] = (3, Reason.TOO_FAST, 0.01)
    began = trio.current_time()
    async with open_client(network, "alice", reconnect=True):
        assert trio.current_time() - began == pytest.approx(1 + 2 + 4, abs=0.1)


@pytest.mark.parametrize("reconnect", [False, True])
@pytest.mark.parametrize(("reason", "error"), [(Reason.NO_ROOM, NoRoom), (Reason.TOO_MANY_NAMES, TooManyNames)])
async def test_other_refusals_are_final(server, network, reason, error, reconnect, autojump_clock):
    server.refused[Register] = (FOREVER, reason, 0.0)
    with pytest.raises(error):
        async with open_client(network, "alice", reconnect=reconnect):
            pass  # pragma: no cover


async def test_a_server_that_answers_and_never_sends_its_table_is_given_up(server, network, autojump_clock):
    answer = server.answer

    def without_table(request):
        reply = answer(request)
        return None if isinstance(reply, TableChange) else reply

    server.answer = without_table
    began = trio.current_time()
    with pytest.raises(ServerNotResponding):
        async with open_client(network, "alice"):
            pass  # pragma: no cover
    assert trio.current_time() - began == pytest.approx(MAX_ROUNDS * ACK_WINDOW, abs=0.1)


async def test_a_client_that_was_forgotten_and_comes_too_often_comes_back_later(server, network, autojump_clock):
    async with open_client(network, "alice") as alice:
        server.refused[Heartbeat] = (3, Reason.NOT_REGISTERED, 0.0)
        server.refused[Register] = (2, Reason.TOO_FAST, 30.0)
        await trio.sleep(39)
        assert len(server.of(Register)) == 2, "it waits as long as the server says"
        await trio.sleep(40)
        assert server.refused[Register][0] == 0
        assert len(server.of(Register)) == 4
        assert alice.chat.online
        assert alice.shown == []


async def test_a_client_that_was_forgotten_and_gets_no_room_is_signed_off(server, network, autojump_clock):
    async with open_client(network, "alice") as alice:
        server.refused[Heartbeat] = (1, Reason.NOT_REGISTERED, 0.0)
        server.refused[Register] = (1, Reason.NO_ROOM, 0.0)
        await trio.sleep(30)
        assert [type(event.error) for event in alice.shown if isinstance(event, SignedOff)] == [NoRoom]
        assert not alice.chat.online


@pytest.mark.parametrize(
    ("reason", "error"),
    [(Reason.TOO_FAST, TooFast), (Reason.CONFLICT, IdInUse), (Reason.CLOSED, ServerNotResponding)],
)
async def test_a_message_to_everyone_that_is_refused(server, network, reason, error, autojump_clock):
    async with open_client(network, "alice") as alice:
        server.refused[GroupPost] = (1, reason, 2.0)
        with pytest.raises(error) as caught:
            await alice.chat.send_all("hello")
        assert getattr(caught.value, "after", 2.0) == 2.0
        await alice.chat.send_all("hello again")
        assert [entry.text for entry in await alice.chat.history()] == ["hello again"]
