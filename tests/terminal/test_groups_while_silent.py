"""Groups with `--reconnect` while the server is silent: nothing goes to another group, or in another order than typed.

A real server and real clients in virtual time (tests/stage.py). The clock jumps: everything happens in the same order
in each run.
"""

import json

import pytest
import trio

from tests.person_at_client import PersonAtClient
from tests.terminal.test_lasting import ALL_WAITING, BYE, COMMAND_WAITS, GROUPS_UNKNOWN, SILENT, UNTOLD, WELCOME, waits
from trio_chat.protocol.room_messages import JoinRoom, ListRooms, RoomList
from trio_chat.terminal.current_group import CurrentGroup
from trio_chat.terminal.json_lines import JsonRenderer

ENTERED = "[Entered group {} successfully]"
WHICH = "[Which group? You are in {}. Type join_group NAME first.]"


@pytest.fixture
def members(stage, enters):
    """Bob, who reads all groups, and the store of carol, who is in these groups and not online."""

    async def be_in(*groups):
        carol = await enters("carol", WELCOME)
        bob = await stage.enter("bob")
        for group in groups:
            await carol.types(f"create_group {group}")
            await bob.chat.join(group)
        await carol.types("exit", seconds=1)
        return bob, carol.store

    return be_in


def read(person):
    return [(getattr(event, "room", ""), event.text) for event in person.received if hasattr(event, "text")]


# --- before the server is there ---


async def test_a_message_to_an_unknown_group_is_refused_and_none_overtakes_it(stage, enters, members, autojump_clock):
    bob, store = await members("lunch")
    await stage.kill_server()
    carol = await enters("carol", store=store)
    # Typed before it is known that the server is silent: then it is refused when that is known.
    assert await carol.types("send_group four", seconds=4) == [SILENT, GROUPS_UNKNOWN]
    assert await carol.types("send_group five", "send #lunch six", "send_group seven") == [
        *(GROUPS_UNKNOWN, waits("group lunch", 1), GROUPS_UNKNOWN)
    ]
    await stage.start_server()
    await stage.pass_time(40)
    assert await carol.types("send_group eight", seconds=1) == ["(lunch) [Message received by Server.]"]
    assert read(bob) == [("lunch", "six"), ("lunch", "eight")]


async def test_in_a_pipe_it_waits_and_what_comes_after_it_waits_behind_it(stage, enters, members, autojump_clock):
    bob, store = await members("lunch")
    await stage.kill_server()
    carol = await enters("carol", store=store, is_terminal=False)
    await carol.types(
        "send_all one", "send_group two", "send #lunch three", "send_all four", "send bob five", seconds=5
    )
    assert carol.printed == [SILENT, waits("everyone", 1), waits("bob", 2)], "one and five"
    carol.keys.close()
    await stage.start_server()
    await stage.pass_time(40)
    assert carol.ended_at is not None
    assert [one for one in read(bob) if one[0]] == [("lunch", "two"), ("lunch", "three")]
    assert [text for _, text in read(bob) if text in ("one", "four")] == ["one", "four"]


@pytest.mark.parametrize("is_terminal", [True, False])
async def test_a_message_waits_for_the_command_that_joins_its_group(
    stage, enters, members, is_terminal, autojump_clock
):
    bob, _ = await members("lunch", "dinner")
    await stage.kill_server()
    alice = await enters("alice", is_terminal=is_terminal)
    await alice.types("join_group Lunch", "send #lunch soup", "send #dinner fish", seconds=5)
    told = [COMMAND_WAITS.format("join_group"), COMMAND_WAITS.format("send")] if is_terminal else []
    assert alice.printed == [SILENT, *told, waits("group dinner", 1)]
    await stage.start_server()
    await stage.pass_time(40)
    assert ("lunch", "soup") in read(bob)
    assert "(lunch) [Message received by Server.]" in alice.printed
    assert "[You are not in group dinner. Type join_group dinner]" in alice.printed


@pytest.mark.parametrize("is_terminal", [True, False])
async def test_a_window_is_closed_after_a_group_was_chosen_and_the_messages_are_kept(
    stage, enters, members, nursery, is_terminal, autojump_clock
):
    """A newcomer tried it: the messages were in no list, and gone."""
    bob, store = await members("lunch")
    await stage.kill_server()
    carol = await enters("carol", store=store, is_terminal=is_terminal, stay=True)
    lines = ["join_group lunch", "send #lunch two", "send_all three", "leave_group", "send_group four"]
    await carol.types(*lines, seconds=5)
    carol.told_to_end.set()
    await stage.pass_time(0.9)
    assert sorted(one.text for one in store.outgoing()) == ["three", "two"]
    await stage.start_server()
    carol = PersonAtClient(stage, "carol", "10.0.9.77", store=store)
    nursery.start_soon(carol.run)
    await stage.pass_time(40)
    assert sorted(read(bob)) == [("", "three"), ("lunch", "two")]


async def test_a_program_is_told_why_a_message_was_not_sent(stage, enters, autojump_clock):
    await stage.kill_server()
    robot = await enters("robot", renderer=JsonRenderer())
    await robot.types("send_group hi", seconds=4)
    assert json.loads(robot.printed[-1]) == {
        "event": "error",
        "error": "GroupsUnknown",
        "text": "the server is not responding, so your group is not known: type send #NAME TEXT",
    }


# --- the server was there ---


async def test_the_only_group_is_known_before_it_is_needed(stage, enters, members, autojump_clock):
    bob, store = await members("lunch")
    carol = await enters("carol", WELCOME, store=store)
    await stage.kill_server()
    assert (await carol.types("send_group eight", seconds=4))[-1] == waits("group lunch", 1)
    await carol.types("exit", seconds=4)
    assert carol.printed[-1] == ALL_WAITING.format(1)
    await stage.start_server()
    await enters("carol", WELCOME, "[Your message to group lunch of TIME was received by the server.]", store=store)
    await stage.pass_time(40)
    assert read(bob) == [("lunch", "eight")]


async def test_if_that_could_not_be_asked_the_message_is_refused(stage, enters, members, autojump_clock):
    _, store = await members("lunch")
    stage.lose(lambda message, source, destination: isinstance(message, ListRooms))
    carol = await enters("carol", WELCOME, store=store)
    await stage.kill_server()
    # Before it is known that the server is silent, and after that.
    assert await carol.types("send_group eight", "who me", seconds=6) == [
        SILENT,
        GROUPS_UNKNOWN,
        "[Usage: who [--all]]",
    ]
    assert await carol.types("send_group nine") == [GROUPS_UNKNOWN]
    assert await carol.types("exit", seconds=4) == [UNTOLD]


@pytest.mark.parametrize("losses", range(4))
async def test_what_the_user_chooses_meanwhile_is_the_current_group(stage, enters, members, losses, autojump_clock):
    bob, store = await members("lunch", "dinner")
    # The answers to the first questions for the groups come late: commands are typed before.
    stage.lose(lambda message, source, destination: isinstance(message, RoomList), times=losses)
    carol = PersonAtClient(stage, "carol", "10.0.9.5", store=store)
    async with trio.open_nursery() as nursery:
        await nursery.start(carol.run)
        await carol.types("join_group lunch", "send_group soup", seconds=20)
        await carol.types("leave_group", "send_group fish", seconds=20)
        assert read(bob) == [("lunch", "soup"), ("dinner", "fish")]
        nursery.cancel_scope.cancel()


def test_a_late_answer_changes_no_choice():
    groups = CurrentGroup()
    groups.learn(["lunch", "dinner"])
    groups.choose("lunch")
    groups.learn(["lunch", "dinner"])
    assert groups.name == "lunch"


def test_who_is_added_before_their_groups_are_known_does_not_write_to_that_one():
    groups = CurrentGroup()
    groups.add("ox")
    assert groups.name == ""
    groups.learn(["lunch", "ox"])
    assert groups.name == ""


async def test_leaving_does_not_wait_for_the_list_of_groups(stage, enters, members, autojump_clock):
    _, store = await members("lunch")
    stage.lose(lambda message, source, destination: isinstance(message, ListRooms))
    carol = await enters("carol", WELCOME, store=store)
    assert await carol.types("exit") == [BYE]
    assert carol.ended_at is not None


async def test_a_group_that_we_are_in_is_chosen_without_the_server(stage, enters, members, autojump_clock):
    bob, store = await members("lunch", "dinner", "tea")
    carol = await enters("carol", WELCOME, store=store)
    await stage.kill_server()
    assert await carol.types("join_group LUNCH", seconds=4) == [SILENT, ENTERED.format("lunch")], "it was asked"
    assert await carol.types("send_group soup") == [waits("group lunch", 1)]
    assert await carol.types("join_group #dinner", "send_group fish") == [
        *(ENTERED.format("dinner"), waits("group dinner", 2))
    ]
    # Nothing that was meant for another group goes to that one.
    assert await carol.types(
        "join_group breakfast", "send_group egg", "join_group tea", "send_group milk", seconds=4
    ) == [
        "[Server not responding: no answer to join_group. Try again later.]",
        WHICH.format("tea, lunch, dinner"),
        *(ENTERED.format("tea"), waits("group tea", 3)),
    ]
    assert stage.sent(JoinRoom, source=carol.host)[-1].name == "breakfast"
    await stage.start_server()
    await stage.pass_time(40)
    assert sorted(read(bob)) == [("dinner", "fish"), ("lunch", "soup"), ("tea", "milk")]


async def test_who_was_removed_while_away_does_not_write_to_the_group_that_is_left(
    stage, enters, members, autojump_clock
):
    bob, store = await members("lunch")
    await bob.chat.create_room("ox", private=True)
    await bob.chat.invite("ox", "carol")
    carol = await enters(
        "carol", WELCOME, "(ox) [bob has added you to this group. Type join_group ox to write to it.]", store=store
    )
    await carol.types("exit", seconds=1)
    await bob.chat.remove("ox", "carol")
    carol = await enters("carol", WELCOME, "(ox) [bob has removed you.]", store=store)
    assert await carol.types("send_group for ox") == [WHICH.format("lunch")]
