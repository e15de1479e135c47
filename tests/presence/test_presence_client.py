"""The presence client, against the real service and against servers that misbehave.

In virtual time, over streams in memory.
"""

import math

import pytest
import trio

from tests.memory_listener import DAY, MemoryListener
from trio_chat.errors import AddressError, PresenceLost, PresenceRefused
from trio_chat.presence.client import watch_friends
from trio_chat.presence.messages import FriendChanged
from trio_chat.presence.roster import Roster
from trio_chat.presence.server import serve_listeners

SERVER = ("presence.example", 8081)


@pytest.fixture
def listener():
    return MemoryListener()


@pytest.fixture
async def roster(listener, nursery):
    """The roster of a service at that listener."""
    roster = Roster()
    await nursery.start(serve_listeners, [listener], roster)
    return roster


def on(friend):
    return FriendChanged(friend, online=True)


def off(friend):
    return FriendChanged(friend, online=False)


async def next_of(news):
    with trio.fail_after(DAY):
        return await anext(news)


# --- with the service ---


async def test_friends_come_and_go(listener, roster, autojump_clock):
    roster.enter(3)
    roster.enter(2)
    async with watch_friends(1, [2, 3, "Bob"], SERVER, connect=listener.connect) as news:
        roster.note("bob", True)
        roster.leave(2)
        assert [await next_of(news) for _ in range(4)] == [on(2), on(3), on("Bob"), off(2)]


async def test_the_user_is_online_as_long_as_the_context_is_open(listener, roster, autojump_clock):
    async with watch_friends(1, [2], SERVER, connect=listener.connect) as news:
        async with watch_friends(2, (), SERVER, connect=listener.connect):
            assert await next_of(news) == on(2)
            await trio.sleep(1000)
            assert 1 in roster
            assert 2 in roster
        assert await next_of(news) == off(2)
        await trio.sleep(1000)
        roster.enter(2)
        with trio.fail_after(0.1):
            assert await anext(news) == on(2)
    await trio.sleep(1)
    assert 1 not in roster


async def test_changes_keep_coming_without_further_requests(listener, roster, autojump_clock):
    received = []
    with trio.move_on_after(1000):
        async with watch_friends(1, ["bob"], SERVER, connect=listener.connect) as news:
            for online in (True, False, True):
                roster.note("bob", online)
            async for change in news:
                received.append(change)
    assert received == [on("bob"), off("bob"), on("bob")]


@pytest.mark.parametrize(("user_id", "friends", "code"), [(1, [1], 6), (0, [], 5), (1, ["b d"], 5), (1, [2] * 9**5, 3)])
async def test_a_request_that_the_server_does_not_accept_is_an_error_on_entering(
    listener, roster, autojump_clock, user_id, friends, code
):
    with pytest.raises(PresenceRefused) as caught:
        async with watch_friends(user_id, friends, SERVER, connect=listener.connect):
            pytest.fail("it was to be refused")
    assert caught.value.code == code
    assert str(caught.value) == f"refused with error {code}: {caught.value.text!r}"


async def test_cancelling_leaves(listener, roster, autojump_clock):
    with trio.move_on_after(10):
        async with watch_friends(1, [2], SERVER, connect=listener.connect) as news:
            await next_of(news)
    await trio.sleep(1)
    assert 1 not in roster


# --- with other servers ---


async def reach(listener, *answers, then=None):
    """Watches at a server that sends these bytes, one after the other; returns what is received until it is over."""
    received = []

    async def serve():
        stream = await listener.accept()
        for answer in answers:
            stream.send_now(answer)
            await trio.sleep(1)
        if then:
            await then(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        error = None
        try:
            async with watch_friends(1, [2], SERVER, connect=listener.connect) as news:
                received.append("entered")
                async for change in news:
                    received.append(change)
        except (PresenceLost, PresenceRefused) as caught:
            error = caught
        nursery.cancel_scope.cancel()
    return received, error


async def closes(stream):
    stream.close()


async def is_silent(stream):
    while await stream.receive_some():
        pass


@pytest.mark.parametrize(
    ("answers", "then", "expected", "clue"),
    [
        ([], closes, [], "closed"),
        ([], is_silent, [], "not responding"),
        ([b'{"online": true'], is_silent, [], "not responding"),
        ([b"hello"], is_silent, [], "invalid"),
        ([b'{"online": true, "user_id": 2}\n'], closes, ["entered", on(2)], "closed"),
        ([b'{"on', b'line": true, "user_id": "x"}{}{"a": 1}'], is_silent, ["entered", on("x")], "not responding"),
        (
            [b'{"error": 0, "msg": ""}', b'{"online": false, "user_id": 2}[]'],
            closes,
            ["entered", off(2)],
            "invalid answer",
        ),
    ],
)
async def test_a_server_that_stops_answering_is_an_error(listener, autojump_clock, answers, then, expected, clue):
    got, error = await reach(listener, *answers, then=then)
    assert got == expected
    assert isinstance(error, PresenceLost)
    assert clue in str(error)


async def test_a_reset_ends_the_iteration_with_an_error(listener, autojump_clock):
    class Reset(trio.abc.Stream):
        async def send_all(self, data):
            raise trio.BrokenResourceError

        async def wait_send_all_might_not_block(self):
            raise AssertionError

        async def receive_some(self, max_bytes=None):
            await trio.sleep(1)
            raise trio.BrokenResourceError

        async def aclose(self):
            await trio.lowlevel.checkpoint()

    async def connect(host, port):
        return Reset()

    with pytest.raises(PresenceLost):
        async with watch_friends(1, [2], SERVER, connect=connect):
            pytest.fail("it was to be lost")


async def test_the_text_of_a_refusal_is_escaped(listener, autojump_clock):
    received, error = await reach(listener, b'{"error": 7, "msg": "no\\u001b[2J\\u202e"}', then=is_silent)
    assert received == []
    assert (error.code, error.text) == (7, "no\x1b[2J\u202e")
    assert str(error) == r"refused with error 7: 'no\x1b[2J\u202e'"


async def test_a_refusal_comes_after_the_news_before_it(listener, autojump_clock):
    received, error = await reach(listener, b'{"online": true, "user_id": 2}{"error": 5, "msg": "no"}')
    assert received == ["entered", on(2)]
    assert error.code == 5


async def test_connecting_to_a_server_that_accepts_no_connection_is_given_up(autojump_clock):
    async def connect(host, port):
        await trio.sleep(math.inf)

    with pytest.raises(PresenceLost, match="port 8081"):
        async with watch_friends(1, [2], SERVER, connect=connect):
            pytest.fail("it was to be lost")
    assert trio.current_time() < 20


@pytest.mark.parametrize("server", [("x.invalid", 80), ("no..host\n", 80), ("127.0.0.1", 0), ("127.0.0.1", 65536)])
async def test_an_invalid_address(server):
    with pytest.raises(AddressError):
        async with watch_friends(1, [2], server):
            pytest.fail("there is nothing there")


async def test_no_server_at_the_address():
    listener, *_ = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = listener.socket.getsockname()
    await listener.aclose()
    with pytest.raises(PresenceLost, match="no presence server"):
        async with watch_friends(1, [2], address):
            pytest.fail("there is nobody there")
