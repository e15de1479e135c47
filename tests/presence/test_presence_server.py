"""The presence service in virtual time, over streams in memory: requests and answers, news, and who is gone."""

import functools
import json

import pytest
import trio
from trio.testing import lockstep_stream_pair

from tests.memory_listener import STILL_THERE, WHAT_THEY_COUNT, MemoryListener, Visitor, came, play, went
from trio_chat.errors import AddressError
from trio_chat.presence.roster import Roster
from trio_chat.presence.server import MAX_NEWS, NewsQueue, serve_listeners, serve_presence


class House:
    """A service at two doors: an ordinary one, and one whose visitors must take each word before the next is said."""

    def __init__(self, nursery):
        self.nursery = nursery
        self.roster = Roster()
        self.door = MemoryListener()
        self.narrow_door = MemoryListener(lockstep_stream_pair)

    async def open(self, **options):
        serve = functools.partial(serve_listeners, [self.door, self.narrow_door], self.roster, **options)
        await self.nursery.start(serve)

    async def visitor(self, door=None):
        return Visitor(await (door or self.door).connect())

    async def watcher(self, user_id, *friends, **more):
        """A visitor who has heard that there is no news."""
        visitor = await self.visitor()
        assert await visitor.asks(user_id, *friends, **more) == STILL_THERE
        return visitor


@pytest.fixture
async def house(nursery):
    house = House(nursery)
    await house.open()
    return house


async def seconds_until(happens):
    began = trio.current_time()
    await happens
    return trio.current_time() - began


# --- requests and answers ---


async def test_the_play_of_the_ancestors(house, autojump_clock):
    assert await play(house.door.connect) == WHAT_THEY_COUNT


async def test_a_request_is_answered_by_the_oldest_news_or_a_question(house, autojump_clock):
    one = await house.watcher(1, 2, 3, "alice")
    two = await house.watcher(2)
    house.roster.note("alice", True)
    await two.leaves()
    await trio.sleep(1)
    house.roster.note("alice", False)
    heard = [await one.asks(1, 2, 3, "alice") for _ in range(5)]
    assert heard == [came(2), came("alice"), went(2), went("alice"), STILL_THERE]


async def test_on_the_first_request_whoever_is_there_is_news(house, autojump_clock):
    await house.watcher(3)
    await house.watcher(2)
    house.roster.note("Bob", True)
    house.roster.note("carol", True)
    one = await house.visitor()
    assert [await one.asks(1, 2, "bob", 3, 4) for _ in range(4)] == [came(2), came("bob"), came(3), STILL_THERE]


async def test_nothing_is_said_unasked(house, autojump_clock):
    one = await house.watcher(1, 2)
    await house.watcher(2)
    assert await one.hears_all(10) == []
    assert await one.asks(1, 2) == came(2)


async def test_all_news_is_told_in_order_however_fast_the_friends_and_slow_the_reader(house, autojump_clock):
    one = await house.watcher(1, *(f"n{number}" for number in range(20)))
    moves = [(f"n{move * 7 % 20}", move // 20 % 2 == 0) for move in range(1000)]
    for move in moves:
        house.roster.note(*move)
    heard = []
    while (answer := await one.asks(1, *(f"n{number}" for number in range(20)))) != STILL_THERE:
        heard.append((answer["user_id"], answer["online"]))
        await trio.sleep(1)
    assert heard == moves


async def test_a_friend_is_told_as_it_was_called_and_once(house, autojump_clock):
    one = await house.watcher(1, "BoB", 2, "bob", 2, "BOB", push=True)
    house.roster.note("bOb", True)
    await house.watcher(2)
    assert await one.hears_all(10) == [came("BoB"), came(2)]


async def test_a_user_with_two_connections_is_there_until_both_have_ended(house, autojump_clock):
    one = await house.watcher(1, 2, push=True)
    first, second = await house.watcher(2), await house.watcher(2)
    assert await one.hears_all(1) == [came(2)]
    await first.leaves()
    assert await one.hears_all(1) == []
    await second.leaves()
    assert await one.hears_all(1) == [went(2)]


async def test_objects_may_come_byte_by_byte(house, autojump_clock):
    await house.watcher(2)
    one = await house.visitor()
    for byte in b' {"user_id": 1, "friends": [2]} \n':
        await one.says(bytes([byte]))
        await trio.sleep(0.1)
    assert await one.hears_all(1) == [came(2)]


async def test_several_in_one_read_are_answered_each(house, autojump_clock):
    await house.watcher(2)
    one = await house.visitor()
    await one.says(b'{"user_id": 1, "friends": [2]}' * 3 + b'{"user_id": 1, "friends": [3]}{"user_id":')
    assert await one.hears_all(1) == [came(2)] + [STILL_THERE] * 3
    await one.says(b'1,"friends":[]}')
    assert await one.hears() == STILL_THERE


# --- other friends ---


async def test_a_new_friend_who_is_there_is_news_and_a_former_one_is_not(house, autojump_clock):
    two, three = await house.watcher(2), await house.watcher(3)
    one = await house.visitor()
    assert await one.asks(1, 2, "bob") == came(2)
    house.roster.note("bob", True)
    await two.leaves()
    await trio.sleep(1)
    assert await one.asks(1, 3, "bob") == came("bob")
    assert await one.asks(1, 3, "bob") == came(3)
    house.roster.note("bob", False)
    await three.leaves()
    await house.watcher(2)
    assert await one.asks(1, 2, "bob") == went("bob")
    assert await one.asks(1, 2, "bob") == came(2)
    assert await one.asks(1, 2, "bob") == STILL_THERE


# --- push ---


async def test_with_push_news_is_a_line_at_once(house, autojump_clock):
    await house.watcher(2)
    one = await house.visitor()
    await one.says({"user_id": 1, "friends": [2, 3, "bob"], "push": True})
    assert await one.stream.receive_some() == b'{"online": true, "user_id": 2}\n'
    for online in (True, False, True):
        house.roster.note("bob", online)
    said = b"".join(b'{"online": %s, "user_id": "bob"}\n' % online for online in (b"true", b"false", b"true"))
    assert await seconds_until(one.stream.receive_some(len(said))) == 0
    house.roster.note("bob", False)
    assert await one.hears() == went("bob")


async def test_with_push_a_request_without_news_is_answered_too(house, autojump_clock):
    one = await house.visitor()
    for _ in range(3):
        await one.says({"user_id": 1, "friends": [2], "push": True})
        assert await one.stream.receive_some() == b'{"msg": "are you still there?", "error": 0}\n'
        await trio.sleep(14)


async def test_more_news_than_go_out_at_once_go_out(house, autojump_clock):
    names = [f"n{number}" for number in range(1700)]
    for name in names:
        house.roster.note(name, True)
    one = await house.visitor()
    await one.says({"user_id": 1, "friends": names, "push": True})
    assert await one.hears_all(1) == [came(name) for name in names]


async def test_the_style_may_change(house, autojump_clock):
    one = await house.watcher(1, "bob", push=True)
    assert await one.asks(1, "bob") == STILL_THERE
    house.roster.note("bob", True)
    house.roster.note("bob", False)
    assert await one.hears_all(1) == []
    assert await one.asks(1, "bob", push=True) == came("bob")
    assert await one.hears() == went("bob")


async def test_once_a_watcher_asks_again_nothing_more_is_pushed(house, autojump_clock):
    one = await house.visitor(house.narrow_door)
    await one.says({"user_id": 1, "friends": ["bob"], "push": True})
    assert await one.hears() == STILL_THERE
    for online in (True, False, True):
        house.roster.note("bob", online)
        await trio.sleep(0.1)
    await one.says({"user_id": 1, "friends": ["bob"]})
    assert await one.hears() == came("bob")
    assert await one.hears() == went("bob")
    assert await one.hears_all(10) == []


# --- who is gone ---


@pytest.mark.parametrize("push", [True, False])
async def test_after_15_seconds_of_silence_a_user_is_gone(house, autojump_clock, push):
    one = await house.watcher(1, 2, push=True)
    two = await house.watcher(2, push=push)
    assert await one.hears() == came(2)
    await trio.sleep(14.9)
    assert await two.asks(2, push=push) == STILL_THERE
    assert await one.asks(1, 2, push=True) == STILL_THERE
    assert await seconds_until(one.hears()) == pytest.approx(15)
    assert await two.hears() is None


async def test_a_request_that_never_ends_is_silence(house, autojump_clock):
    two = await house.watcher(2)

    async def says_much():
        for _ in range(100):
            await two.says(b" ")
            await trio.sleep(1)

    house.nursery.start_soon(says_much)
    assert await seconds_until(two.hears()) == pytest.approx(15)


async def test_the_first_whole_request_has_5_seconds(house, autojump_clock):
    slow, silent = await house.visitor(), await house.visitor()

    async def speaks_slowly():
        with pytest.raises(trio.BrokenResourceError):
            for byte in json.dumps({"user_id": 1, "friends": []}).encode():
                await slow.says(bytes([byte]))
                await trio.sleep(1)

    house.nursery.start_soon(speaks_slowly)
    assert await seconds_until(silent.hears()) == pytest.approx(5)
    assert await slow.hears() is None


@pytest.mark.parametrize("push", [True, False])
async def test_a_watcher_that_does_not_read_has_5_seconds(house, autojump_clock, push):
    one = await house.watcher(1, 2, push=True)
    two = await house.visitor(house.narrow_door)
    await two.says({"user_id": 2, "friends": ["bob"], "push": push})
    assert await one.hears() == came(2)
    house.roster.note("bob", True)
    assert await seconds_until(one.hears()) == pytest.approx(5)


async def test_a_watcher_that_reads_slowly_holds_up_nobody(house, autojump_clock):
    slow = await house.visitor(house.narrow_door)
    await slow.says({"user_id": 2, "friends": ["bob"], "push": True})
    assert await slow.hears() == STILL_THERE
    one = await house.watcher(1, "bob", push=True)
    heard = []
    for number in range(20):
        house.roster.note("bob", number % 2 == 0)
        assert await seconds_until(one.hears()) == 0
        await trio.sleep(0.1)
    while len(heard) < 20:
        heard.append(await slow.hears())
        await trio.sleep(0.5)
    assert heard == [came("bob"), went("bob")] * 10


async def test_a_reset_in_the_middle_of_an_answer_is_the_end_of_that_connection_alone(house, autojump_clock):
    one = await house.watcher(1, 2, push=True)
    for push in (True, False):
        two = await house.visitor(house.narrow_door)
        await two.says({"user_id": 2, "friends": ["bob"], "push": push})
        assert await one.hears() == came(2)
        house.roster.note("bob", push)
        await two.leaves()
        assert await seconds_until(one.hears()) == 0


async def test_a_connection_without_a_word_leaves_no_trace(house, autojump_clock):
    one = await house.watcher(1, 2, push=True)
    for data in (b"", b'{"user_id": 2, "fri'):
        visitor = await house.visitor()
        await visitor.says(data)
        await visitor.leaves()
    assert await one.hears_all(10) == []


# --- errors ---


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"hello\n", 3),
        (b"\xff", 3),
        (b'{"user_id": 2, "friends": [3]]', 3),
        (b'{"user_id": 2, "friends": NaN}', 3),
        (b'{"user_id": 2}', 3),
        (b'{"user_id": 2, "friends": [], "x": "' + b"x" * 65536, 3),
        (b'{"user_id": 2, "friends": ' + b"[" * 33, 3),
        (b'{"user_id": %s' % (b"9" * 65536), 3),
        (b'{"user_id": %s, "friends": []}' % (b"9" * 1000), 5),
        (b'{"user_id": "2", "friends": []}', 5),
        (b'{"user_id": 2, "friends": [0]}', 5),
        (b'{"user_id": 2, "user_id": 0, "friends": []}', 5),
        (b'{"user_id": 4, "friends": []}', 5),
        (b'{"user_id": 2, "friends": [2]}', 6),
    ],
)
async def test_an_error_is_said_and_ends_the_connection_at_once(house, autojump_clock, said, code):
    began = trio.current_time()
    one = await house.watcher(1, 2, push=True)
    first = await house.visitor()
    await first.says(said.replace(b'"user_id": 4', b'"user_id": 0'))
    second = await house.watcher(2, "bob", push=True)
    assert await one.hears() == came(2)
    await second.says(said)
    for visitor in (first, second):
        heard = await visitor.hears()
        assert heard["error"] == code
        assert heard["msg"].startswith("[server] ")
        assert await visitor.hears() is None
    assert trio.current_time() == began
    assert await seconds_until(one.hears()) == 0
    house.roster.note("bob", True)


async def test_what_is_right_before_an_error_is_answered(house, autojump_clock):
    one = await house.visitor()
    await one.says(b'{"user_id": 1, "friends": []}{"user_id": 1, "friends": [1]}{"user_id": 1, "friends": []}')
    assert [said.get("error") for said in await one.hears_all(10)] == [0, 6]


async def test_who_goes_on_talking_after_an_error_still_hears_it(house, autojump_clock):
    one = await house.visitor(house.narrow_door)

    async def talks_on():
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await one.says(b"no" * 1000)
                await trio.sleep(0.1)

    house.nursery.start_soon(talks_on)
    heard = await one.hears_all(10)
    assert [said["error"] for said in heard] == [3]


# --- bounds ---


async def test_beyond_so_much_news_that_of_one_friend_folds_and_the_log_says_so(house, autojump_clock, caplog):
    one = await house.watcher(7, "ann", "bob", "cleo")
    for move in range(MAX_NEWS):
        house.roster.note("ann", move % 2 == 0)
    assert caplog.messages == []
    for name, online in [("bob", True), ("ann", True), ("cleo", True), ("ann", False), ("bob", False), ("bob", True)]:
        house.roster.note(name, online)
    assert caplog.messages == [
        "over 10000 pieces of news wait for user 7: of each friend, the latest now replaces the one before"
    ]
    heard = [await one.asks(7, "ann", "bob", "cleo", push=True), *await one.hears_all(1)]
    assert heard[:MAX_NEWS] == [came("ann"), went("ann")] * (MAX_NEWS // 2)
    assert heard[MAX_NEWS:] == [came("cleo"), went("ann"), came("bob")]


def test_news_is_bounded_keeps_its_order_and_forgets():
    news = NewsQueue()
    for move in range(3 * MAX_NEWS):
        news.add(move % 5000, move >= 2 * MAX_NEWS)
    assert len(news) == MAX_NEWS + 5000
    news.take()
    news.add(0, False)
    news.forget({1, 2})
    told = [news.take() for _ in range(len(news))]
    assert told[:2] == [(3, False), (4, False)]
    assert told[-2:] == [(4999, True), (0, False)]
    assert len(told) == MAX_NEWS + 5000 - 1 - 2 * 3


async def test_at_the_limit_of_open_files_newcomers_wait_and_the_log_says_so(house, autojump_clock, caplog):
    one = await house.watcher(1, 2)
    house.door.full = True
    before = house.door.attempts
    two = await house.visitor()
    await trio.sleep(10)
    assert house.door.attempts - before <= 101
    assert caplog.messages == ["cannot accept a connection: Too many open files; trying again every 0.1 s"]
    assert await one.asks(1, 2) == STILL_THERE
    house.door.full = False
    assert await two.asks(2) == STILL_THERE
    assert await one.asks(1, 2) == came(2)


async def test_there_is_room_for_so_many_connections(nursery, autojump_clock, caplog):
    house = House(nursery)
    await house.open(max_connections=3)
    visitors = [await house.watcher(number + 1) for number in range(2)]
    third = await house.visitor()
    await third.says({"user_id": 3, "friends": []})
    assert await third.hears_all(1) == []
    assert caplog.messages == ["3 connections are open: newcomers wait until one ends"]
    await visitors[0].leaves()
    assert await third.hears() == STILL_THERE


# --- addresses ---


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_it_is_served_where_it_says(nursery, host):
    where = await nursery.start(functools.partial(serve_presence, 0, host=host))
    one = Visitor(await trio.open_tcp_stream(*where))
    assert await one.asks(1, 2) == STILL_THERE
    with pytest.raises(AddressError, match="the port is in use"):
        await serve_presence(where[1], host=where[0])
    await one.leaves()
    nursery.cancel_scope.cancel()


async def test_a_name_with_several_addresses_is_served_at_all_of_them(nursery):
    _, port = await nursery.start(functools.partial(serve_presence, 0, host="::1"))
    nursery.cancel_scope.cancel()
    async with trio.open_nursery() as later:
        await later.start(functools.partial(serve_presence, port, host="localhost"))
        for host in {address[4][0] for address in await trio.socket.getaddrinfo("localhost", port)}:
            one = Visitor(await trio.open_tcp_stream(host, port))
            assert await one.asks(1, 2) == STILL_THERE
            await one.leaves()
        later.cancel_scope.cancel()


@pytest.mark.parametrize("port", [-1, 65536])
async def test_what_is_no_port(port):
    with pytest.raises(AddressError, match="not a port"):
        await serve_presence(port)
