"""The roster: who is online, and who gets the changes. First alone, then shared with a chat, in virtual time."""

import copy

import pytest
import trio

from tests.memory_listener import MemoryListener, Visitor, came, went
from tests.stage import SERVER, SERVER_IDENTITY, identity_of
from trio_chat.client.opening import open_chat
from trio_chat.presence.roster import Roster
from trio_chat.presence.server import serve_listeners
from trio_chat.server.server import serve_chat
from trio_chat.storage.server_memory import MemoryServerStore


@pytest.fixture
def roster():
    return Roster()


@pytest.fixture
def seen(roster):
    """What a watcher of 2, 3 and bob has seen."""
    seen = []
    roster.watch([2, 3, "bob"], lambda friend, online: seen.append((friend, online)))
    return seen


def test_each_change_is_reported_in_order(roster, seen):
    for _ in range(3):
        roster.enter(2)
        roster.enter(3)
        roster.leave(2)
    roster.enter(4)
    assert seen == [(2, True), (3, True), (2, False)] + [(2, True), (2, False)] * 2


def test_a_user_is_online_until_the_last_connection_ends(roster, seen):
    roster.enter(2)
    roster.enter(2)
    roster.leave(2)
    assert 2 in roster
    assert seen == [(2, True)]
    roster.leave(2)
    assert 2 not in roster
    assert seen == [(2, True), (2, False)]


def test_a_name_that_is_noted_again_changes_nothing(roster, seen):
    for name, online in (("bob", False), ("Bob", True), ("BOB", True), ("bob", False)):
        roster.note(name, online)
    assert seen == [("bob", True), ("bob", False)]
    roster.note("bob", False)
    roster.note("carol", True)
    assert seen == [("bob", True), ("bob", False)]
    assert "Carol" in roster


def test_a_number_and_a_name_of_the_same_digits_are_different(roster, seen):
    roster.note("2", True)
    assert seen == []
    assert 2 not in roster


def test_watch_returns_those_who_are_online_in_the_order_asked_for(roster):
    roster.enter(2)
    roster.note("Bob", True)
    roster.enter(5)
    assert roster.watch(["BOB", 4, 5, 2], lambda *news: None) == ["bob", 5, 2]


def test_after_unwatch_a_watcher_gets_nothing(roster):
    mine, theirs = [], []
    watchers = [lambda *news: mine.append(news), lambda *news: theirs.append(news)]
    for watcher in watchers:
        roster.watch([2, "Bob"], watcher)
    roster.unwatch(["bob"], watchers[0])
    roster.note("bob", True)
    roster.enter(2)
    assert mine == [(2, True)]
    assert theirs == [("bob", True), (2, True)]


def test_nothing_is_kept_about_somebody_neither_online_nor_watched(roster):
    empty = copy.deepcopy(vars(roster))
    for number in range(100):
        roster.watch([number, f"n{number}"], print)
        roster.note(f"n{number + 1}", True)
        roster.enter(number + 1)
        roster.leave(number + 1)
        roster.note(f"n{number + 1}", False)
        roster.unwatch([f"N{number}", number], print)
    assert vars(roster) == empty


# --- shared with a chat ---


@pytest.fixture
async def chat_server(network, roster):
    """Starts a chat that reports to the roster, until the given scope is cancelled."""
    store = MemoryServerStore()

    async def serve(scope, task_status):
        with scope:
            host, port = SERVER
            await serve_chat(
                port,
                host=host,
                identity=SERVER_IDENTITY,
                store=store,
                roster=roster,
                network=network,
                task_status=task_status,
            )

    return serve


async def test_the_roster_has_the_online_names_of_the_chat(chat_server, network, nursery, seen, autojump_clock):
    await nursery.start(chat_server, trio.CancelScope())
    async with open_chat("Bob", SERVER, network=network) as bob:
        assert seen == [("bob", True)]
        await bob.deregister()
        await bob.register()
    assert seen == [("bob", True), ("bob", False)] * 2
    nursery.cancel_scope.cancel()


async def test_a_name_that_registers_elsewhere_does_not_go_offline(chat_server, network, nursery, seen, autojump_clock):
    await nursery.start(chat_server, trio.CancelScope())
    scope = trio.CancelScope()

    async def loses_power(task_status):
        with scope:
            async with open_chat("Bob", SERVER, host="10.0.0.2", identity=identity_of("bob"), network=network):
                task_status.started()
                await trio.sleep_forever()

    await nursery.start(loses_power)
    scope.cancel()
    await trio.sleep(1)
    async with open_chat("bob", SERVER, host="10.0.0.3", identity=identity_of("bob"), network=network) as bob:
        assert bob.table["bob"].host == "10.0.0.3"
        assert seen == [("bob", True)]
    nursery.cancel_scope.cancel()


async def test_after_a_restart_nobody_is_online_until_they_register(
    chat_server, network, nursery, roster, seen, autojump_clock
):
    scope = trio.CancelScope()
    await nursery.start(chat_server, scope)
    async with open_chat("Bob", SERVER, network=network) as bob:
        scope.cancel()
        await trio.sleep(1)
        assert seen == [("bob", True), ("bob", False)]
        await nursery.start(chat_server, trio.CancelScope())
        assert "bob" not in roster
        await trio.sleep(25)  # the next heartbeat
        assert bob.online
        assert seen[2:] == [("bob", True)]
    nursery.cancel_scope.cancel()


async def watcher_of_bob_and_2(listener):
    watcher, two = Visitor(await listener.connect()), Visitor(await listener.connect())
    assert await watcher.request(1, "bob", 2, push=True) == came("bob")
    await two.request(2)
    assert await watcher.receive() == came(2)
    return watcher


@pytest.mark.parametrize("_turn", range(10))  # trio runs the tasks of one moment in any order
async def test_a_server_that_ends_closes_connections_and_tells_nobody_that_others_have_gone(
    chat_server, network, roster, seen, autojump_clock, _turn
):
    listener = MemoryListener()
    async with trio.open_nursery() as server:
        await server.start(chat_server, trio.CancelScope())
        await server.start(serve_listeners, [listener], roster)
        async with open_chat("bob", SERVER, network=network):
            watcher = await watcher_of_bob_and_2(listener)
            server.cancel_scope.cancel()
    assert await watcher.receive() is None
    assert "bob" not in roster
    assert 2 not in roster


@pytest.mark.parametrize("_turn", range(30))
async def test_news_of_the_moment_in_which_a_server_ends_are_not_that_others_have_gone(roster, autojump_clock, _turn):
    listener = MemoryListener()
    async with trio.open_nursery() as server:
        await server.start(serve_listeners, [listener], roster)
        roster.note("bob", True)
        watcher = await watcher_of_bob_and_2(listener)
        roster.note("bob", False)
        server.cancel_scope.cancel()
    assert went(2) not in await watcher.receive_all(1)


async def test_a_chat_that_ends_before_its_presence_service_leaves_nobody_online(
    chat_server, network, nursery, roster, autojump_clock
):
    listener, chat = MemoryListener(), trio.CancelScope()
    await nursery.start(chat_server, chat)
    await nursery.start(serve_listeners, [listener], roster)
    async with open_chat("bob", SERVER, network=network):
        watcher = await watcher_of_bob_and_2(listener)
        chat.cancel()
        assert await watcher.receive() == went("bob")
        assert await watcher.receive_all(1) == []
        assert 2 in roster
        nursery.cancel_scope.cancel()
