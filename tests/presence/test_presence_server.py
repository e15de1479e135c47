"""The presence service: requests and answers, pushed news, timeouts, errors, limits.

In virtual time, over streams in memory; only the tests of addresses use real sockets.
"""

import functools
import json

import pytest
import trio

from tests.memory_listener import STILL_THERE, WHAT_THEY_COUNT, MemoryListener, Visitor, came, run_demonstration, went
from trio_chat.errors import AddressError
from trio_chat.presence.costs import FRIEND, MARK, REQUEST
from trio_chat.presence.messages import MAX_FRIENDS
from trio_chat.presence.news import NewsQueue
from trio_chat.presence.roster import Roster
from trio_chat.presence.server import MAX_TURNED_AWAY, NEWS_PER_SEND, serve_listeners, serve_presence
from trio_chat.protocol.limits import LIMITS, Limits, Rate

MAX_NEWS = LIMITS.presence_news


class Service:
    """A service with two listeners. At the second, a client is sent ten bytes, and more when it has read them."""

    def __init__(self, nursery):
        self.nursery = nursery
        self.roster = Roster()
        self.listener = MemoryListener()
        self.narrow_listener = MemoryListener(is_narrow=True)

    async def open(self, **options):
        listeners = [self.listener, self.narrow_listener]
        serve = functools.partial(serve_listeners, listeners, self.roster, **options)
        await self.nursery.start(serve)

    async def visitor(self, listener=None, **place):
        return Visitor(await (listener or self.listener).connect(**place))

    async def watcher(self, user_id, *friends, **more):
        """A visitor whose first request was answered: nothing has changed."""
        visitor = await self.visitor()
        assert await visitor.request(user_id, *friends, **more) == STILL_THERE
        return visitor


@pytest.fixture
async def service(nursery):
    service = Service(nursery)
    await service.open()
    return service


async def seconds_until(happens):
    began = trio.current_time()
    await happens
    return trio.current_time() - began


# --- requests and answers ---


async def test_the_clients_of_the_ancestors_count_the_same_changes_as_before(service, autojump_clock):
    assert await run_demonstration(service.listener.connect) == WHAT_THEY_COUNT


async def test_a_request_is_answered_by_the_oldest_change_or_by_are_you_still_there(service, autojump_clock):
    one = await service.watcher(1, 2, 3, "alice")
    two = await service.watcher(2)
    service.roster.note("alice", True)
    await two.close()
    await trio.sleep(1)
    service.roster.note("alice", False)
    received = [await one.request(1, 2, 3, "alice") for _ in range(5)]
    assert received == [came(2), came("alice"), went(2), went("alice"), STILL_THERE]


async def test_after_the_first_request_friends_who_are_online_are_news(service, autojump_clock):
    await service.watcher(3)
    await service.watcher(2)
    service.roster.note("Bob", True)
    service.roster.note("carol", True)
    one = await service.visitor()
    assert [await one.request(1, 2, "bob", 3, 4) for _ in range(4)] == [came(2), came("bob"), came(3), STILL_THERE]


async def test_without_push_nothing_is_sent_without_a_request(service, autojump_clock):
    one = await service.watcher(1, 2)
    await service.watcher(2)
    assert await one.receive_all(10) == []
    assert await one.request(1, 2) == came(2)


async def test_all_news_is_sent_in_order_however_fast_the_friends_and_slow_the_reader(service, autojump_clock):
    one = await service.watcher(1, *(f"n{number}" for number in range(20)))
    moves = [(f"n{move * 7 % 20}", move // 20 % 2 == 0) for move in range(1000)]
    for move in moves:
        service.roster.note(*move)
    received = []
    while (answer := await one.request(1, *(f"n{number}" for number in range(20)))) != STILL_THERE:
        received.append((answer["user_id"], answer["online"]))
        await trio.sleep(1)
    assert received == moves


async def test_a_friend_is_named_as_in_the_request_and_only_once(service, autojump_clock):
    one = await service.watcher(1, "BoB", 2, "bob", 2, "BOB", push=True)
    service.roster.note("bOb", True)
    await service.watcher(2)
    assert await one.receive_all(10) == [came("BoB"), came(2)]


async def test_a_user_with_two_connections_is_online_until_both_have_ended(service, autojump_clock):
    one = await service.watcher(1, 2, push=True)
    first, second = await service.watcher(2), await service.watcher(2)
    assert await one.receive_all(1) == [came(2)]
    await first.close()
    assert await one.receive_all(1) == []
    await second.close()
    assert await one.receive_all(1) == [went(2)]


async def test_objects_may_come_byte_by_byte(service, autojump_clock):
    await service.watcher(2)
    one = await service.visitor()
    for byte in b' {"user_id": 1, "friends": [2]} \n':
        await one.send(bytes([byte]))
        await trio.sleep(0.1)
    assert await one.receive_all(1) == [came(2)]


async def test_several_requests_in_one_read_are_answered_one_by_one(service, autojump_clock):
    await service.watcher(2)
    one = await service.visitor()
    await one.send(b'{"user_id": 1, "friends": [2]}' * 3 + b'{"user_id": 1, "friends": [3]}{"user_id":')
    assert await one.receive_all(1) == [came(2)] + [STILL_THERE] * 3
    await one.send(b'1,"friends":[]}')
    assert await one.receive() == STILL_THERE


# --- other friends ---


async def test_a_new_friend_who_is_online_is_news_and_a_former_friend_is_not(service, autojump_clock):
    two, three = await service.watcher(2), await service.watcher(3)
    one = await service.visitor()
    assert await one.request(1, 2, "bob") == came(2)
    service.roster.note("bob", True)
    await two.close()
    await trio.sleep(1)
    assert await one.request(1, 3, "bob") == came("bob")
    assert await one.request(1, 3, "bob") == came(3)
    service.roster.note("bob", False)
    await three.close()
    await service.watcher(2)
    assert await one.request(1, 2, "bob") == went("bob")
    assert await one.request(1, 2, "bob") == came(2)
    assert await one.request(1, 2, "bob") == STILL_THERE


# --- push ---


async def test_with_push_each_change_is_sent_at_once_as_a_line(service, autojump_clock):
    await service.watcher(2)
    one = await service.visitor()
    await one.send({"user_id": 1, "friends": [2, 3, "bob"], "push": True})
    assert await one.stream.receive_some() == b'{"online": true, "user_id": 2}\n'
    for online in (True, False, True):
        service.roster.note("bob", online)
    lines = b"".join(b'{"online": %s, "user_id": "bob"}\n' % online for online in (b"true", b"false", b"true"))
    assert await seconds_until(one.stream.receive_some(len(lines))) == 0
    service.roster.note("bob", False)
    assert await one.receive() == went("bob")


async def test_with_push_a_request_without_news_is_answered_too(service, autojump_clock):
    one = await service.visitor()
    for _ in range(3):
        await one.send({"user_id": 1, "friends": [2], "push": True})
        assert await one.stream.receive_some() == b'{"msg": "are you still there?", "error": 0}\n'
        await trio.sleep(14)


async def test_more_news_than_fits_in_one_send_is_sent(service, autojump_clock):
    names = [f"n{number}" for number in range(MAX_FRIENDS)]
    assert len(names) > 1.5 * NEWS_PER_SEND
    for name in names:
        service.roster.note(name, True)
    one = await service.visitor()
    await one.send({"user_id": 1, "friends": names, "push": True})
    assert await one.receive_all(1) == [came(name) for name in names]


async def test_push_may_be_switched_off_and_on(service, autojump_clock):
    one = await service.watcher(1, "bob", push=True)
    assert await one.request(1, "bob") == STILL_THERE
    service.roster.note("bob", True)
    service.roster.note("bob", False)
    assert await one.receive_all(1) == []
    assert await one.request(1, "bob", push=True) == came("bob")
    assert await one.receive() == went("bob")


async def test_after_a_request_without_push_nothing_more_is_pushed(service, autojump_clock):
    one = await service.visitor(service.narrow_listener)
    await one.send({"user_id": 1, "friends": ["bob"], "push": True})
    assert await one.receive() == STILL_THERE
    for online in (True, False, True):
        service.roster.note("bob", online)
        await trio.sleep(0.1)
    await one.send({"user_id": 1, "friends": ["bob"]})
    assert await one.receive() == came("bob")
    assert await one.receive() == went("bob")
    assert await one.receive_all(10) == []


# --- timeouts ---


@pytest.mark.parametrize("push", [True, False])
async def test_after_15_seconds_without_a_request_a_user_is_offline(service, autojump_clock, push):
    one = await service.watcher(1, 2, push=True)
    two = await service.watcher(2, push=push)
    assert await one.receive() == came(2)
    await trio.sleep(14.9)
    assert await two.request(2, push=push) == STILL_THERE
    assert await one.request(1, 2, push=True) == STILL_THERE
    assert await seconds_until(one.receive()) == pytest.approx(15)
    assert await two.receive() is None


async def test_bytes_without_a_whole_request_do_not_extend_the_timeout(service, autojump_clock):
    two = await service.watcher(2)

    async def send_blanks():
        for _ in range(100):
            await two.send(b" ")
            await trio.sleep(0.9)

    service.nursery.start_soon(send_blanks)
    assert await seconds_until(two.receive()) == pytest.approx(15)


async def test_the_first_whole_request_has_5_seconds(service, autojump_clock):
    slow, silent = await service.visitor(), await service.visitor()

    async def send_slowly():
        with pytest.raises(trio.BrokenResourceError):
            for byte in json.dumps({"user_id": 1, "friends": []}).encode():
                await slow.send(bytes([byte]))
                await trio.sleep(1)

    service.nursery.start_soon(send_slowly)
    assert await seconds_until(silent.receive()) == pytest.approx(5)
    assert await slow.receive() is None


@pytest.mark.parametrize("push", [True, False])
async def test_a_watcher_that_does_not_read_has_5_seconds(service, autojump_clock, push):
    one = await service.watcher(1, 2, push=True)
    two = await service.visitor(service.narrow_listener)
    await two.send({"user_id": 2, "friends": ["bob"], "push": push})
    assert await one.receive() == came(2)
    service.roster.note("bob", True)
    assert await seconds_until(one.receive()) == pytest.approx(5)


async def test_a_watcher_that_reads_slowly_does_not_hold_up_others(service, autojump_clock):
    slow = await service.visitor(service.narrow_listener)
    await slow.send({"user_id": 2, "friends": ["bob"], "push": True})
    assert await slow.receive() == STILL_THERE
    one = await service.watcher(1, "bob", push=True)
    received = []
    for number in range(20):
        service.roster.note("bob", number % 2 == 0)
        assert await seconds_until(one.receive()) == 0
        await trio.sleep(0.1)
    while len(received) < 20:
        received.append(await slow.receive())
        await trio.sleep(0.2)
    assert received == [came("bob"), went("bob")] * 10


async def test_a_reset_during_an_answer_ends_only_that_connection(service, autojump_clock):
    one = await service.watcher(1, 2, push=True)
    for push in (True, False):
        two = await service.visitor(service.narrow_listener)
        await two.send({"user_id": 2, "friends": ["bob"], "push": push})
        assert await one.receive() == came(2)
        service.roster.note("bob", push)
        await two.close()
        assert await seconds_until(one.receive()) == 0


async def test_a_slow_client_that_leaves_while_news_are_sent_leaves_no_task_behind(service, autojump_clock):
    before = trio.lowlevel.current_statistics().tasks_living
    one = await service.visitor(service.narrow_listener)
    await one.send({"user_id": 1, "friends": ["bob"], "push": True})
    assert await one.receive() == STILL_THERE
    service.roster.note("bob", True)
    await trio.testing.wait_all_tasks_blocked()
    assert trio.lowlevel.current_statistics().tasks_living == before + 2, "one of them waits for the client"
    await one.stream.send_eof()
    for _ in range(100):  # the clock does not jump as long as a task runs
        await trio.lowlevel.checkpoint()
    assert trio.lowlevel.current_statistics().tasks_living == before


async def test_news_wait_for_the_end_of_an_answer_that_a_slow_client_has_in_part(service, autojump_clock):
    one = await service.visitor(service.narrow_listener)
    await one.send({"user_id": 1, "friends": ["bob"], "push": True})
    await trio.testing.wait_all_tasks_blocked()
    for online in (True, False):
        service.roster.note("bob", online)
        await trio.testing.wait_all_tasks_blocked()
    assert [await one.receive() for _ in range(3)] == [STILL_THERE, came("bob"), went("bob")]


class CountsTasks(trio.abc.Instrument):
    """How many tasks have begun."""

    tasks = 0

    def task_spawned(self, task):
        self.tasks += 1


async def test_news_for_clients_that_read_start_no_task(service, autojump_clock):
    watchers = [await service.watcher(number + 1, "bob", push=True) for number in range(300)]
    counted = CountsTasks()
    trio.lowlevel.add_instrument(counted)
    service.roster.note("bob", True)
    await trio.testing.wait_all_tasks_blocked()
    service.roster.note("bob", False)
    received = [[await watcher.receive(), await watcher.receive()] for watcher in watchers]
    trio.lowlevel.remove_instrument(counted)
    assert received == [[came("bob"), went("bob")]] * 300
    assert counted.tasks == 0


async def test_an_answer_without_push_has_no_line_end(service, autojump_clock):
    service.roster.note("bob", True)
    one = await service.visitor()
    for expected in (b'{"online": true, "user_id": "bob"}', b'{"msg": "are you still there?", "error": 0}'):
        await one.send({"user_id": 1, "friends": ["bob"]})
        assert await one.stream.receive_some() == expected


async def test_a_connection_without_a_request_is_not_shown_to_anybody(service, autojump_clock):
    one = await service.watcher(1, 2, push=True)
    for data in (b"", b'{"user_id": 2, "fri'):
        visitor = await service.visitor()
        await visitor.send(data)
        await visitor.close()
    assert await one.receive_all(10) == []


# --- errors ---


@pytest.mark.parametrize(
    ("data", "code"),
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
async def test_an_error_is_sent_and_ends_the_connection_at_once(service, autojump_clock, data, code):
    began = trio.current_time()
    one = await service.watcher(1, 2, push=True)
    first = await service.visitor()
    await first.send(data.replace(b'"user_id": 4', b'"user_id": 0'))
    second = await service.watcher(2, "bob", push=True)
    assert await one.receive() == came(2)
    await second.send(data)
    for visitor in (first, second):
        received = await visitor.receive()
        assert received["error"] == code
        assert received["msg"].startswith("[server] ")
        assert await visitor.receive() is None
    assert trio.current_time() == began
    assert await seconds_until(one.receive()) == 0
    service.roster.note("bob", True)


async def test_correct_requests_before_an_error_are_answered(service, autojump_clock):
    one = await service.visitor()
    await one.send(b'{"user_id": 1, "friends": []}{"user_id": 1, "friends": [1]}{"user_id": 1, "friends": []}')
    assert [answer.get("error") for answer in await one.receive_all(10)] == [0, 6]


async def test_a_client_that_goes_on_sending_still_receives_the_error(service, autojump_clock):
    one = await service.visitor(service.narrow_listener)

    async def go_on_sending():
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await one.send(b"no" * 1000)
                await trio.sleep(0.1)

    service.nursery.start_soon(go_on_sending)
    received = await one.receive_all(10)
    assert [answer["error"] for answer in received] == [3]


# --- limits ---


async def test_beyond_1000_changes_those_of_one_friend_are_merged_and_it_is_logged(service, autojump_clock, caplog):
    one = await service.watcher(7, "ann", "bob", "cleo")
    for move in range(MAX_NEWS):
        service.roster.note("ann", move % 2 == 0)
    assert caplog.messages == []
    for name, online in [("bob", True), ("ann", True), ("cleo", True), ("ann", False), ("bob", False), ("bob", True)]:
        service.roster.note(name, online)
    assert caplog.messages == [
        "over 1000 pieces of news wait for user 7: of each friend, the latest now replaces the one before"
    ]
    received = [await one.request(7, "ann", "bob", "cleo", push=True), *await one.receive_all(1)]
    assert received[:MAX_NEWS] == [came("ann"), went("ann")] * (MAX_NEWS // 2)
    assert received[MAX_NEWS:] == [came("cleo"), went("ann"), came("bob")]


def test_news_is_bounded_keeps_its_order_and_forgets():
    news = NewsQueue(MAX_NEWS)
    for move in range(3 * MAX_NEWS):
        news.add(move % 500, move >= 2 * MAX_NEWS)
    assert len(news) == MAX_NEWS + 500
    news.take(1)
    news.add(0, False)
    news.forget({1, 2})
    taken = [change for most in (1, 2, MAX_NEWS, 10, 3 * MAX_NEWS) for change in news.take(most)]
    assert taken[:2] == [(3, False), (4, False)]
    assert taken[-2:] == [(499, True), (0, False)]
    assert len(taken) == MAX_NEWS + 500 - 1 - 2 * 3


async def test_at_the_limit_of_open_files_new_connections_wait_and_it_is_logged(service, autojump_clock, caplog):
    one = await service.watcher(1, 2)
    service.listener.full = True
    before = service.listener.attempts
    two = await service.visitor()
    await trio.sleep(10)
    assert service.listener.attempts - before <= 101
    assert caplog.messages == ["cannot accept a connection: Too many open files; trying again every 0.1 s"]
    assert await one.request(1, 2) == STILL_THERE
    service.listener.full = False
    assert await two.request(2) == STILL_THERE
    assert await one.request(1, 2) == came(2)


async def test_connections_beyond_the_maximum_wait(nursery, autojump_clock, caplog):
    service = Service(nursery)
    await service.open(limits=Limits(presence_connections=3))
    visitors = [await service.watcher(number + 1) for number in range(2)]
    third = await service.visitor()
    await third.send({"user_id": 3, "friends": []})
    assert await third.receive_all(1) == []
    assert caplog.messages == ["3 connections are open: newcomers wait until one ends"]
    await visitors[0].close()
    assert await third.receive() == STILL_THERE


async def test_one_address_gets_a_quarter_of_the_connections(nursery, autojump_clock, caplog):
    service = Service(nursery)
    await service.open(limits=Limits(presence_connections=40))
    crowd = [await service.visitor(host="a") for _ in range(15)]
    answers = [await visitor.request(number + 1) for number, visitor in enumerate(crowd)]
    assert answers[:10] == [STILL_THERE] * 10
    assert [answer["error"] for answer in answers[10:]] == [7] * 5
    assert [await visitor.receive() for visitor in crowd[10:]] == [None] * 5
    assert caplog.messages == ["too many connections from a: more of them are closed"]
    for number in range(20):
        assert await (await service.visitor(host=f"b{number}")).request(1) == STILL_THERE
    await crowd[0].close()
    assert await (await service.visitor(host="a")).request(1) == {
        "msg": "[server] Too many connections from your address",
        "error": 7,
    }, "of fewer free ones"
    for visitor in crowd:
        await visitor.close()
    await trio.sleep(2)
    assert await (await service.visitor(host="a")).request(1) == STILL_THERE


async def test_beyond_100_at_a_time_connections_are_closed_without_a_word(nursery, autojump_clock):
    service = Service(nursery)
    await service.open(limits=Limits(presence_connections=400))
    crowd = [await service.visitor(host="a") for _ in range(100)]
    more = [await service.visitor(host="a") for _ in range(150)]
    await trio.testing.wait_all_tasks_blocked()
    received = [await visitor.receive() for visitor in more]
    assert [bool(one) for one in received] == [True] * MAX_TURNED_AWAY + [False] * 50
    assert await crowd[0].request(1) == STILL_THERE


async def test_one_address_watches_a_quarter_of_the_friends(nursery, autojump_clock):
    service = Service(nursery)
    await service.open(limits=Limits(presence_friends=400))
    first, second = await service.visitor(host="a"), await service.visitor(host="a")
    assert await first.request(1, *range(1000, 1060)) == STILL_THERE
    assert await second.request(2, *range(1000, 1040)) == STILL_THERE
    assert await second.request(2, *range(2000, 2040)) == STILL_THERE, "others, but no more of them"
    assert await second.request(2, *range(2000, 2041)) == {
        "msg": "[server] Too many friends are watched from your address",
        "error": 7,
    }
    assert await first.request(1) == STILL_THERE
    assert await (await service.visitor(host="a")).request(2, *range(1000, 1090)) == STILL_THERE
    assert await (await service.visitor(host="b")).request(3, *range(1000, 1100)) == STILL_THERE


async def count_answers(visitor, request, times, seconds):
    """How many answers there are within some time, if the request is sent so many times at once."""
    await visitor.send(json.dumps(request).encode() * times)
    return len(await visitor.receive_all(seconds))


async def test_a_connection_that_sends_too_much_is_read_later(service, autojump_clock):
    one = await service.visitor()
    answered = await count_answers(one, {"user_id": 1, "friends": []}, 1500, 10)
    assert 500 < answered < 300 + 10 * 50
    assert len(await one.receive_all(1000)) == 1500 - answered, "nothing is lost"


async def test_many_connections_with_long_requests_cost_little_and_others_do_not_notice(service, autojump_clock):
    counts = []
    long = {"user_id": 1, "friends": [f"a-friend-{number}" for number in range(1000)]}
    changed = long | {"friends": [f"b-friend-{number}" for number in range(1000)]}

    async def attack(host):
        one = await service.visitor(host=host)
        await one.send((json.dumps(long) + json.dumps(changed)).encode() * 5)
        counts.append(len(await one.receive_all(4)))

    async with trio.open_nursery() as nursery:
        for number in range(120):
            nursery.start_soon(attack, f"attacker {number % 60}")
        await trio.sleep(2)
        one = await service.visitor()
        assert await seconds_until(one.request(2, 3)) == 0
        await service.watcher(3)
        assert await seconds_until(one.request(2, 3)) == 0
    # 20,000 bytes of names, 2,000 quotes, 1,000 new friends, and the request.
    assert sum(counts) * (20_000 + 2000 * MARK + 1000 * FRIEND + REQUEST) < 2_000_000 + 4 * 5_000_000


async def test_one_address_with_many_connections_is_limited_too(service, autojump_clock):
    counts = []

    async def attack():
        one = await service.visitor(host="a")
        counts.append(await count_answers(one, {"user_id": 1, "friends": []}, 100, 2))

    async with trio.open_nursery() as nursery:
        for _ in range(80):
            nursery.start_soon(attack)
    assert 3000 < sum(counts) < 1000 + 2 * 2000


async def test_half_of_what_is_done_for_all_is_for_newcomers(nursery, autojump_clock):
    service = Service(nursery)
    await service.open(limits=Limits(presence_work=Rate(200_000, 1), presence_work_of_newcomers=Rate(10_000, 1)))
    greedy = await service.visitor(host="greedy")
    answered = await count_answers(greedy, {"user_id": 1, "friends": []}, 300, 10)
    assert 50 < answered < 100
    newcomer = await service.visitor(host="newcomer")
    assert await seconds_until(newcomer.request(2, 1)) == 0
    assert await greedy.receive_all(100) == [], "as before"


async def test_who_comes_and_goes_pays_for_those_who_are_told(service, autojump_clock):
    for number in range(1000):
        await service.watcher(1000 + number, 7, push=True)
    await trio.sleep(5)
    flapping = [await service.visitor(host="a") for _ in range(20)]
    took = await seconds_until(flapping[0].request(7))
    assert took == 0
    for visitor in flapping[1:]:
        took += await seconds_until(visitor.request(7))
    assert took > 3


# --- addresses ---


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_the_returned_address_is_served(nursery, host):
    where = await nursery.start(functools.partial(serve_presence, 0, host=host))
    one = Visitor(await trio.open_tcp_stream(*where))
    assert await one.request(1, 2) == STILL_THERE
    with pytest.raises(AddressError, match="the port is in use"):
        await serve_presence(where[1], host=where[0])
    await one.close()
    nursery.cancel_scope.cancel()


async def test_a_name_with_several_addresses_is_served_at_all_of_them(nursery):
    _, port = await nursery.start(functools.partial(serve_presence, 0, host="::1"))
    nursery.cancel_scope.cancel()
    async with trio.open_nursery() as later:
        await later.start(functools.partial(serve_presence, port, host="localhost"))
        for host in {address[4][0] for address in await trio.socket.getaddrinfo("localhost", port)}:
            one = Visitor(await trio.open_tcp_stream(host, port))
            assert await one.request(1, 2) == STILL_THERE
            await one.close()
        later.cancel_scope.cancel()


@pytest.mark.parametrize("port", [-1, 65536])
async def test_a_wrong_port_number_is_refused(port):
    with pytest.raises(AddressError, match="not a port"):
        await serve_presence(port)
