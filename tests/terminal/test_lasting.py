"""A conversation with `--reconnect`: nothing waits for the server, no message is lost, and leaving takes 3 seconds.

A real server and real clients in virtual time (tests/stage.py). The clock jumps: everything happens in the same order
in each run.
"""

import json
import re
import sqlite3
from functools import partial

import pytest
import trio

from tests.person_at_client import PersonAtClient
from tests.stage import identity_of
from trio_chat.client.early_outbox import EarlyOutbox
from trio_chat.crypto.identities import Identity
from trio_chat.errors import NameTaken, ServerKeyChanged, ServerNotResponding, SignedInElsewhere, StoreFailed
from trio_chat.protocol.records import fingerprint
from trio_chat.protocol.room_messages import ListRooms
from trio_chat.storage.client_store import open_client_store
from trio_chat.storage.memory import MemoryClientStore
from trio_chat.storage.outgoing import Outgoing
from trio_chat.terminal.commands import help_lines
from trio_chat.terminal.conversation import run_conversation
from trio_chat.terminal.json_lines import JsonRenderer
from trio_chat.terminal.line_reader import LINES_AHEAD, LINES_AHEAD_IN_PIPE, lines_left
from trio_chat.terminal.wordings import Phrasebook

WELCOME, BYE = "[Welcome, You are registered.]", "[You are Offline. Bye.]"
SILENT = "[Server not responding since TIME, trying again.]"
UNTOLD = "[The server is not responding: others may see you online for a minute.]"
ALL_WAITING = "[Messages that wait to be sent: {}. The next start with --reconnect sends them.]"


GROUPS_UNKNOWN = (
    "[Your message to your group was not sent: the server is not responding, and it is not known which group that is."
    " Type send #NAME TEXT.]"
)
COMMAND_WAITS = "[The server is not responding: {} waits.]"
NO_TABLE = "[The server is not responding: it is not known yet who is online.]"
LATE = "[Your message to everyone of TIME was received by the server.]"


def waits(to, number):
    return (
        f"[Your message to {to} waits: the server is not responding. It is sent later; cancel {number} withdraws it.]"
    )


# --- messages ---


async def test_when_all_is_well_each_message_has_the_line_that_it_always_had(stage, enters, autojump_clock):
    alice, bob = await enters("alice", WELCOME), await stage.enter("bob")
    await stage.pass_time(1)
    assert await alice.types("send bob hi") == ["[Message received by bob.]"]
    assert await alice.types("send_all hello") == ["[Group Message received by Server.]"]
    assert await alice.types("create_group Lunch", "send_group soup", "send #lunch salad") == [
        "[Group Lunch created by Server.]",
        *["(Lunch) [Message received by Server.]"] * 2,
    ]
    await bob.chat.deregister()
    assert await alice.types("send bob later", seconds=2) == [
        "[Offline Message to bob sent at TIME received by the server and saved.]"
    ]
    assert await alice.types("send nobody hi", "send alice hi", "send b@d hi") == [
        "[You cannot send to yourself.]",
        "[Not a name: b@d. A name has 1 to 32 letters A-Z, digits, _ . - and begins with a letter or digit.]",
        "[Your message to nobody of TIME was not sent:]",
        "[No such user: nobody]",
    ]


async def test_nothing_waits_for_a_message_that_waits_for_the_server(stage, enters, autojump_clock):
    alice, bob = await enters("alice", WELCOME), await stage.enter("bob")
    await stage.pass_time(1)
    await stage.kill_server()
    assert sorted(await alice.types("send_all hello", "send bob hi", "search hello")) == [
        "[Message received by bob.]",
        "[Nothing found.]",
    ]
    await stage.pass_time(5)
    assert alice.printed[2:] == [SILENT, "[Messages that wait to be sent: 1.]", waits("everyone", 1)]
    assert bob.texts() == ["hi"]
    await stage.start_server()
    await stage.pass_time(20)
    assert alice.printed[5:] == ["[Server is back.]", "[Your message to everyone of TIME was received by the server.]"]
    assert bob.texts() == ["hi", "hello"]


async def test_who_is_off_line_is_told_how_to_send_what_they_have_written(stage, enters, autojump_clock):
    alice, bob = await enters("alice", WELCOME), await stage.enter("bob")
    assert await alice.types("dereg", "send bob hi") == [
        BYE,
        "[Your message to bob waits: you are offline. Type reg to send it; cancel 1 withdraws it.]",
    ]
    assert (await alice.types("reg", seconds=1))[-1] == "[Your message to bob of TIME was received.]"
    assert bob.texts() == ["hi"]


async def test_what_waits_is_listed_and_can_be_withdrawn(stage, enters, autojump_clock):
    alice = await enters("alice", WELCOME)
    await alice.types("dereg", "send bob one", "send #lunch two")
    assert [re.sub(r"\S+ TIME", "DATE", line) for line in await alice.types("outbox")] == [
        "1  DATE  to bob: one",
        "2  DATE  to group lunch: two",
    ]
    assert await alice.types("cancel 1", "cancel 1", "cancel 2", "outbox") == [
        "[Your message to bob of TIME is withdrawn.]",
        "[No message 1 waits to be sent.]",
        "[Your message to group lunch of TIME is withdrawn.]",
        "[No message waits to be sent.]",
    ]


async def test_a_group_that_we_are_not_in(stage, enters, autojump_clock):
    alice = await enters("alice", WELCOME)
    await alice.types("create_group Dinner", "exit")
    alice = await enters("alice", WELCOME, store=alice.store)
    assert await alice.types("send #dinner hi") == ["(Dinner) [Message received by Server.]"]
    await alice.types("leave_group")
    assert await alice.types("send #dinner hi") == [
        "[Your message to group Dinner of TIME was not sent:]",
        "[You are not in group Dinner. Type join_group Dinner]",
    ]


async def test_a_command_without_an_answer_does_not_end_it(stage, enters, autojump_clock):
    alice = await enters("alice", WELCOME)
    await stage.kill_server()
    assert await alice.types("who am i", "list_groups", "block bob", seconds=8) == [
        "[Usage: who [--all]]",
        SILENT,
        "[Server not responding: no answer to list_groups. Try again later.]",
        "[Server not responding: no answer to block. Try again later.]",
    ]
    assert await alice.types("create_group lunch", "unblock bob", "list_members x", seconds=8) == [
        "[Server not responding: no answer to create_group. Try again later.]",
        "[You do not block bob.]",
        "[Server not responding: no answer to list_members. Try again later.]",
    ]
    assert await alice.types("search hi") == ["[Nothing found.]"]


async def test_who_says_that_its_table_may_be_old_while_the_server_is_silent(stage, enters, nursery, autojump_clock):
    old = "[The server is not responding since TIME: this may not be so any more.]"
    alice = await enters("alice", WELCOME)
    robot = PersonAtClient(stage, "robot", "10.0.9.8", renderer=JsonRenderer())
    await nursery.start(robot.run)
    await stage.pass_time(1)
    silent_since = [await _silent_since(robot)]
    await stage.kill_server()
    (heading, *rows) = await alice.types("who")
    assert old not in rows
    await stage.pass_time(60)
    assert await alice.types("who") == [heading, *rows, old]
    silent_since.append(await _silent_since(robot))
    await stage.start_server()
    await stage.pass_time(30)
    assert old not in await alice.types("who")
    silent_since.append(await _silent_since(robot))
    assert [since is None for since in silent_since] == [True, False, True]


async def _silent_since(robot):
    return json.loads((await robot.types("who"))[-1])["silent_since"]


# --- leaving ---


@pytest.mark.parametrize("end", ["exit", "QUIT", None])
async def test_leaving_takes_3_seconds_whatever_waits(stage, enters, end, autojump_clock):
    alice = await enters("alice", WELCOME)
    await alice.types("create_group lunch")
    await stage.kill_server()
    await alice.types("send_all hi", "list_groups", "who", "send_group soup", "", "send bob hi", seconds=0.1)
    begun = trio.current_time()
    if end is None:
        alice.keys.close()
    else:
        alice.keys.send_nowait(end)
    await stage.pass_time(3)
    assert alice.ended_at is not None
    assert alice.ended_at - begun <= 3
    silence = ("not responding since", *(f"[Messages that wait to be sent: {count}.]" for count in (1, 2, 3)))
    assert [line for line in alice.printed if not any(part in line for part in silence)] == [
        "[Not done: list_groups]",
        "[Not done: who]",
        "[Your message to group lunch waits: the server is not responding. It is sent later; cancel 2 withdraws it.]",
        "[Your message to bob waits: the server is not responding. It is sent later; cancel 3 withdraws it.]",
        UNTOLD,
        ALL_WAITING.format(3),
    ]


async def test_messages_behind_a_command_that_waits_are_kept(stage, enters, autojump_clock):
    """Before: they were not sent, and not kept either. A message to a group that was to be joined first fails later."""
    store = MemoryClientStore()
    alice = await enters("alice", WELCOME, store=store)
    await stage.kill_server()
    lines = ["list_groups", "send bob one", "send_all two", "join_group lunch", "send_group three", "exit"]
    printed = await alice.types(*lines, seconds=4)
    assert [line for line in printed if "not responding since" not in line] == [
        "[Not done: list_groups]",
        "[Your message to bob waits: the server is not responding. It is sent later; cancel 1 withdraws it.]",
        "[Your message to everyone waits: the server is not responding. It is sent later; cancel 2 withdraws it.]",
        "[Not done: join_group]",
        "[Your message to group lunch waits: the server is not responding. It is sent later; cancel 3 withdraws it.]",
        UNTOLD,
        ALL_WAITING.format(3),
    ]
    await stage.start_server()
    bob = await stage.enter("bob")
    received = [
        "[Your message to everyone of TIME was received by the server.]",
        "[Your message to group lunch of TIME was not sent:]",
        "[Group lunch does not exist]",
        "[Your message to bob of TIME was received.]",
    ]
    await enters("alice", WELCOME, *received, store=store)
    assert sorted(bob.texts()) == ["one", "two"]  # one directly, one by the server: in any order


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("is_open", [True, False])
async def test_who_is_told_to_end_keeps_what_was_typed(stage, enters, is_open, is_terminal, autojump_clock):
    """A window that is closed, or `timeout` around a pipe. Before: those behind `list_groups` were lost."""
    if not is_open:
        await stage.kill_server()
    alice = await enters("alice", *[WELCOME] * is_open, is_terminal=is_terminal, stay=True)
    if is_open:
        await stage.kill_server()
    await alice.types("list_groups", "send bob one", "join_group lunch", "send #lunch two", "send_all three")
    begun = trio.current_time()
    alice.told_to_end.set()
    await stage.pass_time(0.9)
    assert alice.ended_at - begun <= 0.6
    assert [one.text for one in alice.store.outgoing()] == ["one", "two", "three"]


async def test_who_is_told_to_end_deregisters(stage, enters, autojump_clock):
    alice, bob = await enters("alice", WELCOME, stay=True), await stage.enter("bob")
    alice.told_to_end.set()
    await stage.pass_time(0.5)
    assert alice.printed == [WELCOME, BYE]
    assert not bob.chat.table["alice"].online


async def test_a_command_that_has_no_answer_leaves_time_to_deregister(stage, enters, autojump_clock):
    alice, bob = await enters("alice", WELCOME), await stage.enter("bob")
    stage.lose(lambda message, source, destination: isinstance(message, ListRooms))
    assert await alice.types("list_groups", "exit", seconds=3) == ["[Not done: list_groups]", BYE]
    assert not bob.chat.table["alice"].online


async def test_the_next_start_sends_what_waits(stage, enters, autojump_clock):
    store = MemoryClientStore()
    alice = await enters("alice", WELCOME, store=store)
    await stage.kill_server()
    await alice.types("send_all hi", "exit", seconds=4)
    await stage.start_server()
    bob = await stage.enter("bob")
    await enters("alice", WELCOME, "[Your message to everyone of TIME was received by the server.]", store=store)
    assert bob.texts() == ["hi"]


async def test_who_leaves_is_deregistered_after_the_commands_before(stage, enters, autojump_clock):
    alice, bob = await enters("alice", WELCOME), await stage.enter("bob")
    await stage.pass_time(1)
    printed = await alice.types("send bob hi", "create_group lunch", "exit", "send bob never")
    assert sorted(printed) == ["[Group lunch created by Server.]", "[Message received by bob.]", BYE]
    assert printed[-1] == BYE
    assert alice.ended_at is not None
    assert bob.texts() == ["hi"]
    assert not bob.chat.table["alice"].online


async def test_with_stay_the_end_of_the_lines_ends_nothing(stage, enters, autojump_clock):
    alice, bob = await enters("alice", WELCOME, stay=True, is_terminal=False), await stage.enter("bob")
    await stage.pass_time(1)
    await alice.types("send bob hi")
    alice.keys.close()
    await stage.pass_time(60)
    await bob.chat.send("alice", "still there?")
    await stage.pass_time(1)
    assert alice.printed == ["[Message received by bob.]", "bob: still there?"]


async def test_at_the_end_of_a_pipe_all_messages_are_sent_as_long_as_they_leave_the_outbox(
    stage, nursery, autojump_clock
):
    store, bob = MemoryClientStore(), await stage.enter("bob")
    early = EarlyOutbox("alice", store, trio.current_time)
    for n in range(500):  # the server takes 300 at once, and then 20 a second
        await early.put("", "everyone", f"{n}")
    alice = PersonAtClient(stage, "alice", "10.0.9.9", store=store, is_terminal=False)
    await nursery.start(alice.run)
    alice.keys.close()
    await stage.pass_time(60)
    assert alice.printed[-1] == BYE
    assert bob.texts() == [f"{n}" for n in range(500)]


@pytest.mark.parametrize(("end", "is_terminal"), [("exit", False), ("exit", True), (None, True)])
async def test_who_says_that_they_leave_does_not_wait_for_the_outbox(stage, nursery, end, is_terminal, autojump_clock):
    store = MemoryClientStore()
    early = EarlyOutbox("alice", store, trio.current_time)
    for n in range(500):
        await early.put("", "everyone", f"{n}")
    alice = PersonAtClient(stage, "alice", "10.0.9.9", store=store, is_terminal=is_terminal)
    await nursery.start(alice.run)
    begun = trio.current_time()
    if end is None:
        alice.keys.close()
    else:
        alice.keys.send_nowait(end)
    await stage.pass_time(60)
    assert alice.ended_at - begun <= 3
    assert 0 < len(store.outgoing()) <= 200
    assert alice.printed[-2:] == [BYE, ALL_WAITING.format(len(store.outgoing()))]


async def test_with_stay_exit_is_still_the_end(stage, enters, autojump_clock):
    alice = await enters("alice", WELCOME, stay=True)
    assert await alice.types("exit") == [BYE]
    assert alice.ended_at is not None


async def test_at_a_terminal_too_many_lines_are_refused_and_exit_is_still_read(stage, enters, autojump_clock):
    alice = await enters("alice", WELCOME)
    await stage.kill_server()
    await alice.types("list_groups", seconds=0.1)
    lines = [*["who"] * LINES_AHEAD, "send bob too much"]
    assert await alice.types(*lines, seconds=0.1) == ["[Your message to bob was not sent.]"]
    alice.keys.send_nowait("exit")
    await stage.pass_time(3)
    assert alice.ended_at is not None
    assert alice.printed.count("[Not done: who]") == LINES_AHEAD


# --- before the server is there ---


@pytest.mark.parametrize("end", ["exit", "quit", None])
async def test_a_person_can_leave_before_the_server_is_there(stage, enters, end, autojump_clock):
    await stage.kill_server()
    alice = await enters("alice")
    await alice.types(
        "send bob hi", "send_all hello", "who", "list_groups", "send #lunch soup", "send_group for which group?"
    )
    if end is None:
        alice.keys.close()
    else:
        alice.keys.send_nowait(end)
    await stage.pass_time(3)
    assert alice.ended_at is not None
    # They are on the disk: the next program sends them. What needs the server is not done.
    kept = [waits("bob", 1), waits("everyone", 2), waits("group lunch", 3)]
    assert [line for line in alice.printed if line != SILENT] == [
        *(*kept[:2], NO_TABLE, kept[2], GROUPS_UNKNOWN, "[Not done: list_groups]", ALL_WAITING.format(3))
    ]
    assert [one.text for one in alice.store.outgoing()] == ["hi", "hello", "soup"]


async def test_what_waits_can_be_listed_and_withdrawn_before_the_server_is_there(stage, enters, autojump_clock):
    await stage.kill_server()
    alice = await enters("alice")
    await stage.pass_time(5)
    assert await alice.types("send bob hi", "send bob b@d", "send b@d hi", "send alice hi", "send_all hello") == [
        *(waits("bob", 1), waits("bob", 2)),
        "[Not a name: b@d. A name has 1 to 32 letters A-Z, digits, _ . - and begins with a letter or digit.]",
        "[You cannot send to yourself.]",
        waits("everyone", 3),
    ]
    assert len(await alice.types("outbox")) == 3
    (cancelled,) = await alice.types("cancel 2")
    assert "bob" in cancelled
    (unknown,) = await alice.types("cancel 2")
    assert "2" in unknown
    bob = await _bob_when_the_server_is_there(stage)
    await stage.pass_time(20)
    assert sorted(bob.texts()) == ["hello", "hi"]
    assert alice.store.outgoing() == []


@pytest.mark.parametrize("is_terminal", [True, False])
async def test_what_needs_no_server_is_answered_before_it_is_there(stage, enters, is_terminal, autojump_clock):
    store = MemoryClientStore()
    alice, _ = await enters("alice", WELCOME, store=store), await stage.enter("bob")
    await stage.pass_time(1)
    await alice.types("send bob soup?", "block bob", "exit", seconds=1)
    await stage.kill_server()
    alice = await enters("alice", store=store, is_terminal=is_terminal)
    await stage.pass_time(5)
    listed = "[DATE to bob: soup?]"
    shown = await alice.types("history 3", "history carol", "search SOUP", "search salad", "blocked")
    assert [re.sub(r"[0-9-]+ TIME", "DATE", line) for line in shown] == [
        *(listed, "[Nothing found.]", listed, "[Nothing found.]"),
        f"{fingerprint(identity_of('bob').public.signing)}  bob",
    ]
    assert (await alice.types("help"))[0] == help_lines()[0]


async def test_a_person_is_told_that_nobody_knows_who_is_online_before_the_server_is_there(
    stage, enters, autojump_clock
):
    await stage.kill_server()
    alice = await enters("alice")
    await stage.pass_time(5)
    assert await alice.types("who", "who --all", "who am i") == [NO_TABLE, NO_TABLE, "[Usage: who [--all]]"]


async def _bob_when_the_server_is_there(stage):
    await stage.start_server()
    return await stage.enter("bob")


async def test_what_was_typed_before_is_carried_out_when_the_server_is_there(stage, enters, autojump_clock):
    await stage.kill_server()
    alice = await enters("alice")
    await alice.types("create_group lunch", "send #lunch soup", "list_groups", seconds=60)
    await stage.start_server()
    await stage.pass_time(20)
    assert alice.printed == [
        *[SILENT, *map(COMMAND_WAITS.format, ("create_group", "send", "list_groups"))],
        *[WELCOME, "[Group lunch created by Server.]"],
        *["[Available group chats:]", "lunch (current)", "(lunch) [Message received by Server.]"],
    ]


@pytest.mark.parametrize("count", [1, 3 * LINES_AHEAD_IN_PIPE])
@pytest.mark.parametrize("end", ["exit", None])
async def test_a_pipe_waits_for_the_server_if_its_commands_need_it(stage, enters, end, count, autojump_clock):
    await stage.kill_server()
    alice = await enters("alice", is_terminal=False)
    alice.keys.send_nowait("create_group lunch")
    for n in range(count):
        alice.keys.send_nowait(f"send_group {n}")
    if end:
        alice.keys.send_nowait(end)
    alice.keys.close()
    await stage.pass_time(60)
    assert alice.ended_at is None
    await stage.start_server()
    await stage.pass_time(20)
    assert alice.ended_at is not None
    posted = ["(lunch) [Message received by Server.]"] * count
    assert alice.printed == [SILENT, WELCOME, "[Group lunch created by Server.]", *posted, BYE]


@pytest.mark.parametrize("count", [1, 3 * LINES_AHEAD_IN_PIPE])
@pytest.mark.parametrize("end", ["exit", None])
async def test_a_pipe_of_messages_ends_without_the_server_and_the_next_one_sends_them(
    stage, enters, end, count, autojump_clock
):
    await stage.kill_server()
    alice = await enters("alice", is_terminal=False)
    for n in range(count):
        alice.keys.send_nowait(f"send_all {n}")
    if end:
        alice.keys.send_nowait(end)
    alice.keys.close()
    await stage.pass_time(6)
    assert alice.ended_at is not None
    assert alice.printed == [SILENT, *(waits("everyone", n + 1) for n in range(count)), ALL_WAITING.format(count)]
    await stage.start_server()
    bob = await stage.enter("bob")
    alice = await enters("alice", WELCOME, *[LATE] * count, store=alice.store)
    await stage.pass_time(60)
    assert bob.texts() == [f"{n}" for n in range(count)]


class SlowStore(MemoryClientStore):
    """A disk that takes its time."""

    async def put_outgoing(self, message, on_stored=None):
        await trio.sleep(0.04)
        return await super().put_outgoing(message, on_stored)


async def test_what_is_typed_in_the_moment_in_which_the_server_comes_back_is_sent_once(stage, enters, autojump_clock):
    await stage.kill_server()
    alice = await enters("alice", store=SlowStore())
    await stage.pass_time(5)
    await stage.start_server()
    bob = await stage.enter("bob")
    for n in range(300):
        alice.keys.send_nowait(f"send bob {n}")
        await stage.pass_time(0.05)
    await stage.pass_time(30)
    assert bob.texts() == [f"{n}" for n in range(300)]
    assert alice.store.outgoing() == []


async def test_who_may_not_come_in_is_told_what_was_not_sent(stage, autojump_clock):
    await stage.enter("alice", identity=identity_of("another alice"))
    await stage.kill_server()
    alice = PersonAtClient(stage, "alice", "10.0.9.9")
    with pytest.RaisesGroup(NameTaken, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(alice.run)
            await alice.types("send bob hi", seconds=5)
            await stage.start_server()
            await stage.pass_time(20)
    assert alice.printed == [SILENT, waits("bob", 1)]
    assert [one.text for one in alice.store.outgoing()] == ["hi"]


# --- what ends it ---


async def test_another_key_of_the_server_ends_it_and_the_message_is_kept(stage, enters, autojump_clock):
    store = MemoryClientStore()
    alice = PersonAtClient(stage, "alice", "10.0.9.9", store=store)
    async with trio.open_nursery() as nursery:
        with pytest.RaisesGroup(ServerKeyChanged, flatten_subgroups=True):
            async with trio.open_nursery() as inner:
                await inner.start(alice.run)
                await stage.pass_time(1)
                await stage.kill_server()
                stage.identity = Identity(b"e" * 32, b"E" * 32)
                await stage.start_server()
                await alice.types("send_all hi", seconds=10)
                inner.cancel_scope.cancel()
        nursery.cancel_scope.cancel()
    assert alice.printed[-1] == ALL_WAITING.format(1)
    assert [one.text for one in store.outgoing()] == ["hi"]


async def test_what_the_disk_has_not_taken_is_named_when_it_fails(stage, tmp_path, autojump_clock):
    is_full = False

    async def run(work):
        await trio.lowlevel.checkpoint()
        if is_full:
            raise sqlite3.OperationalError("database or disk is full")
        return work()

    with pytest.raises(StoreFailed):
        async with open_client_store(tmp_path / "store.db", run) as store, trio.open_nursery() as nursery:
            alice = PersonAtClient(stage, "alice", "10.0.9.9", store=store)
            await nursery.start(alice.run)
            await stage.pass_time(1)
            is_full = True
            await alice.types("send bob hi", "send_all hello", "outbox")
    not_sent = [f"[Your message to {to} was not sent.]" for to in ("bob", "everyone")]
    assert alice.printed == [*not_sent, "[Not done: outbox]"]


async def test_signing_in_elsewhere_ends_it(stage, autojump_clock):
    alice = PersonAtClient(stage, "alice", "10.0.9.9")
    with pytest.RaisesGroup(SignedInElsewhere, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(alice.run)
            await stage.pass_time(1)
            await stage.enter("alice", host="10.0.9.8")
            await stage.pass_time(5)


# --- without --reconnect, and for programs ---


async def test_a_client_without_reconnect_says_once_what_waits(stage, enters, autojump_clock):
    alice = await enters("alice", WELCOME)
    await alice.types("dereg", "send bob hi", "exit", seconds=4)
    assert alice.printed[-1] == ALL_WAITING.format(1)
    keys, lines = trio.open_memory_channel(10)
    for line in ("outbox", "cancel 1", "outbox"):
        keys.send_nowait(line)
    keys.close()
    alice.printed.clear()
    await run_conversation(alice.open(reconnect=False), lines, alice._show, Phrasebook())
    assert alice.printed[:2] == [WELCOME, ALL_WAITING.format(1)]
    assert [re.sub(r"\S+ TIME", "DATE", line) for line in alice.printed[2:]] == [
        "1  DATE  to bob: hi",
        "[Your message to bob DATE is withdrawn.]",
        "[No message waits to be sent.]",
        BYE,
    ]


async def test_what_was_received_is_not_listed_while_it_waits_to_be_on_their_disk(stage, autojump_clock):
    alice = PersonAtClient(stage, "alice", "10.0.9.9")
    message = await alice.store.put_outgoing(Outgoing(0, b"i" * 16, "bob", "", "hi", 0.0, 0.0))
    alice.store.outgoing_received(message)
    keys, lines = trio.open_memory_channel(1)
    keys.send_nowait("outbox")
    keys.close()
    await run_conversation(alice.open(reconnect=False), lines, alice._show, Phrasebook())
    assert alice.printed == [WELCOME, "[No message waits to be sent.]", BYE]


async def test_a_program_gets_the_number_of_a_message_and_what_becomes_of_it(stage, enters, autojump_clock):
    await stage.enter("bob")
    robot = PersonAtClient(stage, "robot", "10.0.9.9", is_terminal=False, renderer=JsonRenderer())
    async with trio.open_nursery() as nursery:
        await nursery.start(robot.run)
        await stage.pass_time(1)
        await robot.types("send bob hi", "send_all hello")
        robot.keys.close()
    shown = [json.loads(line) for line in robot.printed]
    ids = {one["number"]: one["id"] for one in shown if one["event"] == "queued"}
    assert sorted(ids) == [1, 2]
    assert {(one["number"], one["id"], one["state"], one["error"]) for one in shown if one["event"] == "outgoing"} == {
        (1, ids[1], "received", None),
        (2, ids[2], "posted", None),
    }
    assert shown[-1] == {"event": "deregistered"}


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_client_without_reconnect_names_what_it_has_not_done(stage, is_there, autojump_clock):
    """Only at a terminal. In a pipe it prints what the ancestors print."""
    printed = []
    for is_terminal in (True, False):
        alice = PersonAtClient(stage, "alice", "10.0.9.9")
        keys, lines = trio.open_memory_channel(10)
        left = partial(lines_left, lines) if is_terminal else tuple
        if not is_there:
            await stage.kill_server()
        with pytest.RaisesGroup(ServerNotResponding, flatten_subgroups=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    partial(run_conversation, alice.open(reconnect=False), lines, alice._show, Phrasebook(), left=left)
                )
                await stage.pass_time(1)
                if is_there:
                    await stage.kill_server()
                for line in ("list_groups", "who", "", "send bob hi", "send #lunch soup", "wh", "exit"):
                    keys.send_nowait(line)
        printed.append(alice.printed)
        await stage.start_server()
    first = [WELCOME] if is_there else ["[Not done: list_groups]"]
    assert printed == [
        [
            *(*first, "[Not done: who]", "[Your message to bob was not sent.]"),
            *("[Your message to group lunch was not sent.]", "[Not done: wh]"),
        ],
        [WELCOME] if is_there else [],
    ]
