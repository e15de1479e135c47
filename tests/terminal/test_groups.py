"""Groups at the prompt: what people type and read, and how groups are called.

A real server and real clients in virtual time (tests/stage.py); each person types at a conversation of their own. The
clock jumps, so everything happens in the same order in each run.
"""

import re

import attrs
import pytest
import trio

from tests.stage import SERVER, identity_of
from trio_chat.client.opening import open_chat
from trio_chat.storage.memory import MemoryClientStore
from trio_chat.terminal.conversation import run_conversation
from trio_chat.terminal.wordings import Phrasebook

GONE = "(has left, says the server; the group has no new key yet)"
WELCOME, BYE = "[Welcome, You are registered.]", "[You are Offline. Bye.]"


@attrs.define(eq=False)
class PersonAtPrompt:
    """A person at a client. `store` is what their program finds at its next start."""

    stage: object
    name: str
    host: str
    store: MemoryClientStore = attrs.field(factory=MemoryClientStore)
    printed: list = attrs.field(factory=list)
    keys: object = None

    async def run(self, task_status=trio.TASK_STATUS_IGNORED):
        self.keys, lines = trio.open_memory_channel(10)
        identity, network = identity_of(self.name), self.stage.network
        opening = open_chat(
            *(self.name, SERVER),
            **{"host": self.host, "identity": identity, "store": self.store, "network": network},
            clock=trio.current_time,
        )
        task_status.started()
        await run_conversation(opening, lines, self._show, Phrasebook(owner=self.name))

    def _show(self, line):
        self.printed.append(line.text)

    async def types(self, line):
        """Types a line; returns what is printed until nothing happens any more."""
        await self.reads()
        await self.keys.send(line)
        return await self.reads()

    async def reads(self):
        """What was printed since they last looked."""
        await self.stage.pass_time(1)
        printed, self.printed[:] = [*self.printed], []
        return printed


@pytest.fixture
def start(stage, nursery):
    """Starts the client of a person, or starts it again."""

    async def start(person):
        person = PersonAtPrompt(stage, person, f"10.9.{len(person)}.1") if isinstance(person, str) else person
        await nursery.start(person.run)
        assert WELCOME in await person.reads()
        return person

    yield start
    nursery.cancel_scope.cancel()


# --- how groups are called ---


async def test_a_group_is_called_as_it_was_created_whatever_is_typed(start, autojump_clock):
    alice = await start("alice")
    assert await alice.types("create_group Lunch") == ["[Group Lunch created by Server.]"]
    assert await alice.types("create_group lunch") == ["[Group Lunch already exists.]"]
    assert await alice.types("list_members LUNCH") == ["(Lunch) [Members in the group Lunch:]", "(Lunch) alice"]
    assert await alice.types("exit") == [BYE]

    await start(alice)
    assert await alice.types("leave_group lunch") == ["[Leave group chat Lunch]"], "the first command of a start"
    assert await alice.types("leave_group lunch") == ["[You are not in group Lunch. Type join_group Lunch]"]
    assert await alice.types("list_members lunch") == ["(Lunch) [Members in the group Lunch:]"]


async def test_a_group_that_is_known_from_the_list_is_called_as_there(start, autojump_clock):
    alice, bob = await start("alice"), await start("bob")
    await alice.types("create_group Lunch")
    assert await bob.types("create_group lunch") == ["[Group lunch already exists.]"], "nothing is known yet"
    await bob.types("list_groups")
    assert await bob.types("create_group lunch") == ["[Group Lunch already exists.]"]
    assert await bob.types("list_members lunch") == ["(Lunch) [Members in the group Lunch:]", "(Lunch) alice"]
    assert await bob.types("list_members EVERYONE") == [
        "(everyone) [Members in the group everyone:]",
        "(everyone) alice",
        "(everyone) bob",
    ]


async def test_a_group_that_is_unknown_is_called_as_typed(start, autojump_clock):
    alice = await start("alice")
    assert await alice.types("join_group #Lunch") == ["[Group Lunch does not exist]"]
    assert await alice.types("create_group LUNCH") == ["[Group LUNCH created by Server.]"]


# --- which groups there are ---


async def test_the_list_marks_the_groups_that_one_is_in_and_the_current_one(start, autojump_clock):
    alice, bob = await start("alice"), await start("bob")
    for group in ("lunch", "dinner", "chess"):
        await alice.types(f"create_group {group}")
    heading = "[Available group chats:]"
    assert await bob.types("list_groups") == [heading, "chess", "dinner", "lunch"]
    await bob.types("join_group lunch")
    await bob.types("join_group chess")
    assert await bob.types("list_groups") == [heading, "chess (current)", "dinner", "lunch (you are in it)"]
    await bob.types("leave_group")
    assert await bob.types("list_groups") == [heading, "chess", "dinner", "lunch (current)"]

    # A choice that failed leaves no group current, as send_group would say.
    await bob.types("join_group breakfast")
    assert await bob.types("list_groups") == [heading, "chess", "dinner", "lunch (you are in it)"]


async def test_after_a_restart_a_group_is_current_if_it_is_the_only_one(start, autojump_clock):
    alice = await start("alice")
    await alice.types("create_group lunch")
    await alice.types("exit")
    await start(alice)
    assert await alice.types("list_groups") == ["[Available group chats:]", "lunch (current)"]
    await alice.types("create_group dinner")
    await alice.types("exit")
    await start(alice)
    assert (await alice.types("list_groups"))[1:] == ["dinner (you are in it)", "lunch (you are in it)"]
    assert await alice.types("send_group hi") == [
        "[Which group? You are in lunch, dinner. Type join_group NAME first.]"
    ]


# --- a group with the name of a person ---


async def test_a_group_with_the_name_of_a_person_is_not_that_person(start, autojump_clock):
    alice, bob, carol = await start("alice"), await start("bob"), await start("carol")
    assert await bob.types("create_group Alice") == ["[Group Alice created by Server.]"]
    assert await carol.types("join_group #alice") == ["[Entered group Alice successfully]"]

    assert await bob.types("send alice to the person") == ["[Message received by alice.]"]
    assert await alice.reads() == ["bob: to the person"]
    assert await carol.reads() == [], "she is in the group"
    assert await bob.types("send_group to the group") == ["(Alice) [Message received by Server.]"]
    assert await carol.reads() == ["(Alice) Group_Message bob: to the group"]
    assert await alice.reads() == [], "she is not in the group that has her name"

    # Whoever is away is the person, and what is in the history is found under the name that it was sent to.
    await alice.types("dereg")
    assert saved_for(await bob.types("send alice for later"))
    assert await alice.types("leave_group alice") == ["[You are offline. Type reg to come back.]"]
    assert [without_clock(line) for line in await alice.types("reg")] == [
        "[RegSent]",
        "[You have offline messages:]",
        "bob: for later",
    ]
    assert await alice.types("join_group alice") == ["[Entered group Alice successfully]"]
    await alice.types("send_group from the person to the group")
    await bob.reads()
    assert [without_clock(line) for line in await bob.types("history #alice")] == [
        "[to group Alice: to the group]",
        "[(Alice) Group_Message alice: from the person to the group]",
    ]
    assert [without_clock(line) for line in await bob.types("history alice")] == [
        "[to alice: to the person]",
        "[to alice: for later]",
        "[(Alice) Group_Message alice: from the person to the group]",
    ], "what a person writes to a group is theirs, too"


async def test_leaving_or_blocking_means_the_group_or_the_person(start, autojump_clock):
    alice, bob = await start("alice"), await start("bob")
    await bob.types("create_group alice")
    assert (await bob.types("block alice"))[0].startswith("[alice is blocked now")
    assert await bob.types("send_group hi") == ["(alice) [Message received by Server.]"]
    await bob.types("unblock alice")
    assert await bob.types("leave_group alice") == ["[Leave group chat alice]"]
    assert await bob.types("send alice hi") == ["[Message received by alice.]"]
    assert await alice.reads() == ["bob: hi"]


def saved_for(lines):
    return len(lines) == 1 and lines[0].endswith("received by the server and saved.]")


def without_clock(line):
    return re.sub(r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d ", "", line)


# --- private groups ---


async def test_a_private_group_from_its_beginning_to_a_removal(start, autojump_clock):
    alice, bob, carol = [await start(name) for name in ("alice", "bob", "carol")]
    assert await alice.types("create_group ox --private") == [
        "[Group ox created by Server.]",
        "[It is private. Type invite NAME to add somebody.]",
    ]
    assert await bob.types("join_group OX") == [
        "[Group OX is private, and you are not in it. Ask one of its owners to type invite with your name.]"
    ]
    assert await bob.types("list_groups") == ["[Available group chats:]"]
    assert await alice.types("list_groups") == ["[Available group chats:]", "ox (private) (current)"]
    assert await alice.types("invite BOB") == ["(ox) [bob is in the group now.]"]
    assert await bob.reads() == ["(ox) [alice has added you to this group. Type join_group ox to write to it.]"]
    assert await bob.types("join_group ox") == ["[Entered group ox successfully]"]
    assert await bob.types("send_group hi") == ["(ox) [Message received by Server.]"]
    assert await alice.reads() == ["(ox) Group_Message bob: hi"]
    assert await bob.types("invite carol") == ["[You do not own group ox. Type owners to see who does.]"]
    assert await bob.types("owners") == ["(ox) [Owners of the group ox:]", "(ox) alice"]
    await alice.types("owners bob")
    assert await bob.reads() == ["(ox) [alice has made you an owner.]"]
    assert await bob.types("invite carol") == ["(ox) [carol is in the group now.]"]
    assert await alice.reads() == ["(ox) [bob has added carol.]"]
    assert await bob.types("remove carol") == ["(ox) [carol is not in the group any more.]"]
    assert (await carol.reads())[-1] == "(ox) [bob has removed you.]"
    private = "[Group ox is private, and you are not in it. Ask one of its owners to type invite with your name.]"
    for command in ("list_members OX", "send #ox hi", "join_group ox", "leave_group ox"):
        assert await carol.types(command) == [private], "not that there is no such group"
    await alice.types("send_group without carol")
    assert await bob.reads() == ["(ox) Group_Message alice: without carol"]
    assert await carol.types("list_groups") == ["[Available group chats:]"]


async def test_who_is_added_to_a_group_goes_on_writing_to_theirs_and_who_is_removed_is_asked(start, autojump_clock):
    alice, bob = await start("alice"), await start("bob")
    await bob.types("create_group lunch")
    await alice.types("create_group ox --private")
    await alice.types("invite bob")
    await bob.reads()
    assert await bob.types("send_group soup?") == ["(lunch) [Message received by Server.]"]
    assert await alice.reads() == []
    await bob.types("join_group ox")
    await alice.types("remove bob")
    assert await bob.reads() == ["(ox) [alice has removed you.]"]
    assert await bob.types("send_group hi") == ["[Which group? You are in lunch. Type join_group NAME first.]"]


async def test_the_only_owner_of_a_private_group_leaves_others_behind_only_if_they_say_so(start, autojump_clock):
    alice, bob, carol = [await start(name) for name in ("alice", "bob", "carol")]
    await alice.types("create_group ox --private")
    await alice.types("invite bob")
    await alice.types("invite carol")
    stopped = [
        "[You are the only owner of group ox. Type owners NAME to make somebody else one first, or type leave_group ox"
        " --anyway]"
    ]
    assert await alice.types("leave_group") == stopped
    assert await alice.types("send_group still here") == ["(ox) [Message received by Server.]"]
    await alice.types("owners bob")
    assert await carol.types("leave_group ox") == ["[Leave group chat ox]"], "no owner"
    assert await alice.types("leave_group") == ["[Leave group chat ox]"], "one of two"
    await bob.types("invite carol")
    assert await bob.types("leave_group ox") == stopped
    assert await bob.types("leave_group ox --anyway") == ["[Leave group chat ox]"]
    bob_has_left = f"(ox) bob {GONE}"
    assert await carol.types("list_members ox") == ["(ox) [Members in the group ox:]", bob_has_left, "(ox) carol"]


async def test_who_is_alone_in_a_private_group_leaves_it_as_any_other(start, autojump_clock):
    alice, bob = await start("alice"), await start("bob")
    await alice.types("create_group ox --private")
    assert await alice.types("leave_group") == ["[Leave group chat ox]"]
    await alice.types("create_group yak --private")
    await alice.types("invite bob")
    await alice.types("owners bob")
    await bob.types("leave_group yak")
    assert await alice.types("leave_group yak") == ["[Leave group chat yak]"], "the other owner has left"


async def test_a_private_group_goes_on_without_somebody_who_has_left_it(start, autojump_clock):
    alice, bob, carol = [await start(name) for name in ("alice", "bob", "carol")]
    await alice.types("create_group ox --private")
    await alice.types("invite bob")
    await alice.types("invite carol")
    await carol.types("leave_group ox")
    left = "(ox) [carol has left. The program of an owner gives the group a new key: now, or when one is online.]"
    gone = "(ox) [Not in the group any more: carol.]"
    assert await alice.reads() == [left, gone]
    given = "(ox) [alice has given the group a new key. Not in it any more: carol.]"
    assert (await bob.reads())[-2:] == [left, given]
    assert await alice.types("list_members") == ["(ox) [Members in the group ox:]", "(ox) alice", "(ox) bob"]


async def test_what_happens_to_a_private_group_while_its_owner_is_away(start, autojump_clock):
    alice, bob, carol = [await start(name) for name in ("alice", "bob", "carol")]
    await alice.types("create_group ox --private")
    await alice.types("invite bob")
    await alice.types("invite carol")
    await alice.types("exit")
    await carol.types("leave_group ox")
    await bob.types("join_group ox")
    await bob.types("send_group still there?")
    members = ["(ox) [Members in the group ox:]", "(ox) alice", "(ox) bob"]
    assert await bob.types("list_members") == [*members, f"(ox) carol {GONE}"], "nobody has made a new key"
    await start(alice)
    assert (await bob.reads()) == ["(ox) [alice has given the group a new key. Not in it any more: carol.]"]
    assert await alice.types("send_group yes") == ["(ox) [Message received by Server.]"]
    assert await bob.reads() == ["(ox) Group_Message alice: yes"]
    assert await bob.types("list_members") == members


async def test_two_computers_with_one_key_read_the_same_private_group(start, autojump_clock):
    """Each has a store of its own, and what one of them was handed the other one is not."""
    alice, bob = await start("alice"), await start("bob")
    await alice.types("create_group ox --private")
    await alice.types("invite bob")
    await bob.types("exit")
    elsewhere = await start(PersonAtPrompt(alice.stage, "bob", "10.9.3.2"))
    await start("carol")
    for command in ("invite carol", "owners bob", "send_group one"):
        await alice.types(command)
    # For its store the group is new: that was asked for when it started. For that of the other one carol is, too.
    news = ["(ox) [alice has added carol.]", "(ox) [alice has made you an owner.]"]
    assert await elsewhere.reads() == [*news, "(ox) Group_Message alice: one"]
    await elsewhere.types("exit")
    await start(bob)
    await alice.types("send_group two")
    assert await bob.reads() == [*news, "(ox) Group_Message alice: two"]
    await bob.types("join_group ox")
    assert await bob.types("remove carol") == ["(ox) [carol is not in the group any more.]"]


async def test_a_message_can_name_its_group_and_changes_no_current_one(start, autojump_clock):
    alice, bob = [await start(name) for name in ("alice", "bob")]
    await alice.types("create_group lunch")
    await bob.types("join_group lunch")
    await bob.types("create_group dinner")
    assert await bob.types("send #Lunch soup?") == ["(lunch) [Message received by Server.]"]
    assert await alice.reads() == ["(lunch) Group_Message bob: soup?"]
    assert await bob.types("send_group alone") == ["(dinner) [Message received by Server.]"]
    assert await alice.reads() == []
    assert await alice.types("send #dinner hi") == ["[You are not in group dinner. Type join_group dinner]"]
    assert await alice.types("send # hi") == ["[Usage: send NAME TEXT]"]


async def test_who_was_removed_from_a_group_does_not_write_to_the_one_that_is_left(start, autojump_clock):
    """They have chosen none since the start, and one of two groups goes away."""
    alice, bob = [await start(name) for name in ("alice", "bob")]
    await alice.types("create_group lunch")
    await alice.types("create_group ox --private")
    await bob.types("join_group lunch")
    await alice.types("invite bob")
    await bob.types("exit")
    await start(bob)
    await bob.types("list_groups")
    await alice.types("remove bob")
    assert await bob.reads() == ["(ox) [alice has removed you.]"]
    assert await bob.types("send_group for ox") == ["[Which group? You are in lunch. Type join_group NAME first.]"]
