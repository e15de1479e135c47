"""Conversations with a scripted chat: what is typed, which events come, and what is printed.

There is no network, and time is virtual where it matters.
"""

import time
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
import trio.testing

from tests.fake_outbox import FakeOutbox
from trio_chat import (
    Blocked,
    BlockedYourself,
    Delivery,
    Fallback,
    GroupMessageReceived,
    HistoryEntry,
    InvalidName,
    InvalidRecipient,
    InvalidText,
    KeyChanged,
    KeyWarning,
    LetterReceived,
    MailboxFull,
    MessageReceived,
    NameTaken,
    NoHistory,
    NoSuchRoom,
    NotAMember,
    NotBlocked,
    NotRegistered,
    Person,
    RemovedFromRoom,
    RoomExists,
    RoomInfo,
    RoomIsPrivate,
    RoomMembersChanged,
    ServerKeyChanged,
    ServerNotResponding,
    ServerTooNew,
    ServerTooOld,
    SignedInElsewhere,
    SignedOff,
    TableChanged,
    TooFast,
    TooManyBlocked,
    UnknownRecipient,
)
from trio_chat.client.events import MessageState, OutgoingChanged
from trio_chat.terminal.commands import help_lines
from trio_chat.terminal.conversation import run_conversation
from trio_chat.terminal.phrases import Wording
from trio_chat.terminal.wordings import Phrasebook

GROUP, CHANNEL = Phrasebook(Wording.GROUP), Phrasebook(Wording.CHANNEL)
WELCOME = "[Welcome, You are registered.]"
BYE = "[You are Offline. Bye.]"
NO_SERVER = pytest.RaisesGroup(ServerNotResponding, flatten_subgroups=True)
ELSEWHERE = pytest.RaisesGroup(SignedInElsewhere, flatten_subgroups=True)
OLD, NEW = "aaaa-bbbb-cccc-dddd", "2222-3333-4444-5555"
INVALID_NAME = "[Not a name: b@d. A name has 1 to 32 letters A-Z, digits, _ . - and begins with a letter or digit.]"
WARNING = (
    "[WARNING: the key of y has changed!]",
    f"[It was {OLD}, now it is {NEW}.]",
    "[Someone may be posing as y. Ask y outside this chat; if the new key is right, type: trust y]",
)


@attrs.frozen
class Row:
    name: str
    online: bool
    host: str = "127.0.0.1"
    port: int = 1111
    since: float = 0.0
    fingerprint: str = ""


class FakeChat:
    """A chat of `x`. `answers` has what each call returns or raises, after `seconds`."""

    def __init__(self):
        self.name = "x"
        self.online = True
        self.waiting = 0
        self.table = {}
        self.untrusted = set()
        self.blocked = ()
        self.answers = {}
        self.rooms_joined = []
        self.known_rooms = []
        self.fallback = None
        self.silent_since = None
        self.seconds = 0.0
        self.calls = []
        self.left = None
        self.outbox = FakeOutbox()
        self.happens, self.events = trio.open_memory_channel(100)

    @asynccontextmanager
    async def open(self):
        self.left = "by an exception"
        with self.happens:
            yield self
            self.left = "online" if self.online else "offline"

    async def _answer(self, *call):
        await trio.sleep(self.seconds)
        self.calls.append(call)
        answer = self.answers.get(call[0])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def send(self, recipient, text, *, on_fallback=None):
        if self.fallback:
            on_fallback(self.fallback)
        return await self._answer("send", recipient, text) or Delivery("direct")

    async def send_all(self, text):
        await self._answer("send_all", text)

    # Rooms are called as they are written in `answers["rooms"]`; without that, as they are typed.

    def _called(self, name):
        return next((one.name for one in self.answers.get("rooms", ()) if one.name.lower() == name.lower()), name)

    async def create_room(self, name, *, private):
        await self._answer("create_room", name, *["private"] * private)
        self.rooms_joined.append(name)
        return name

    async def join(self, name):
        await self._answer("join", name)
        if self._called(name) not in self.rooms_joined:
            self.rooms_joined.append(self._called(name))
        return self._called(name)

    async def leave(self, name, *, anyway=False):
        await self._answer("leave", name)
        if self._called(name) not in self.rooms_joined:
            raise NotAMember(name)
        self.rooms_joined.remove(self._called(name))

    async def post(self, room, text):
        await self._answer("post", room, text)
        if room not in self.rooms_joined:
            raise NotAMember(room)

    async def joined_rooms(self):
        await self._answer("joined_rooms")
        return [*self.rooms_joined]

    async def rooms(self):
        return await self._answer("rooms")

    async def invite(self, room, name):
        await self._answer("invite", room, name)
        return name.capitalize()

    async def remove(self, room, name):
        await self._answer("remove", room, name)

    async def owners(self, room):
        return await self._answer("owners", room)

    async def add_owner(self, room, name):
        await self._answer("add_owner", room, name)

    async def members(self, name):
        return await self._answer("members", name)

    async def gone_members(self, name):
        return await self._answer("gone_members", name) or []

    async def everybody(self):
        return await self._answer("everybody")

    async def trust(self, name):
        self.calls.append(("trust", name))
        answer = self.answers["trust"]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def block(self, name):
        return await self._answer("block", name)

    async def unblock(self, name):
        await self._answer("unblock", name)

    async def history(self, name, count):
        return await self._answer("history", name, count) or []

    async def search(self, words, *, name):
        return await self._answer("search", words, *filter(None, [name])) or []

    async def register(self):
        waiting = await self._answer("register") or 0
        self.online = True
        return waiting

    async def deregister(self):
        await self._answer("deregister")
        self.online = False


@pytest.fixture
def chat():
    return FakeChat()


class Conversation:
    """One conversation; `typed` goes in line by line, or later through `keys`."""

    def __init__(self, chat, phrasebook=GROUP):
        self.chat, self.phrasebook = chat, phrasebook
        self.printed = []
        self.keys, self._lines = trio.open_memory_channel(10)

    async def run(self, *typed, stay=False):
        for line in typed:
            self.keys.send_nowait(line)
        self.keys.close()
        return await self.wait(stay=stay)

    async def wait(self, stay=False):
        await run_conversation(self.chat.open(), self._lines, self._show, self.phrasebook, stay=stay)
        return self.printed

    def _show(self, line):
        self.printed.append(line.text)


async def run(chat, *typed, phrasebook=GROUP):
    """What is printed between the welcome and the goodbye."""
    printed = await Conversation(chat, phrasebook).run(*typed)
    if phrasebook is GROUP:
        assert printed[0] == WELCOME
        assert printed.pop() == BYE
        return printed[1:]
    assert printed.pop() == "[You are now offline. Bye.]"
    return printed


async def test_a_message_is_sent_and_acknowledged(chat):
    assert await run(chat, "send y  hi there ") == ["[Message received by y.]"]
    assert chat.calls[0] == ("send", "y", " hi there ")


async def test_the_other_wording(chat, autojump_clock):
    chat.seconds = 1.0
    chat.happens.send_nowait(TableChanged())
    assert await run(chat, "send y hi", "send_all hi", "dereg", "reg", phrasebook=CHANNEL) == [
        "[Client Table Updated]",
        "[Message has been received by y.]",
        "[Message received by the server.]",
        "[You are now offline. Bye.]",
    ]


async def test_a_message_to_everyone(chat):
    assert await run(chat, "send_all hi all") == ["[Group Message received by Server.]"]
    assert chat.calls[0] == ("send_all", "hi all")


# --- groups ---


async def test_a_message_that_failed_because_we_are_not_in_the_current_group(chat, autojump_clock):
    chat.rooms_joined += ["dinner", "lunch"]
    conversation = Conversation(chat)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(conversation.wait)
        conversation.keys.send_nowait("join_group lunch")
        await trio.sleep(1)
        chat.happens.send_nowait(
            OutgoingChanged(1, b"", "", "lunch", 0.0, MessageState.FAILED, error=NotAMember("lunch"))
        )
        await trio.sleep(1)
        conversation.keys.send_nowait("send_group hi")
        conversation.keys.close()
    assert conversation.printed[-2] == "[Which group? You are in dinner. Type join_group NAME first.]"


async def test_a_group_is_created_joined_used_and_left(chat):
    chat.answers = {"members": ["w", "x"], "rooms": [RoomInfo("everyone", None, True), RoomInfo("lunch", 2, True)]}
    typed = [
        "create_group lunch",
        "join_group lunch",
        "send_group  hi all",
        "list_groups",
        "list_members",
        "leave_group",
    ]
    assert await run(chat, *typed) == [
        "[Group lunch created by Server.]",
        "[Entered group lunch successfully]",
        "(lunch) [Message received by Server.]",
        "[Available group chats:]",
        "lunch (current)",
        "(lunch) [Members in the group lunch:]",
        "(lunch) w",
        "(lunch) x",
        "[Leave group chat lunch]",
    ]
    assert ("post", "lunch", " hi all") in chat.calls
    assert chat.rooms_joined == []


def posts(chat):
    """The rooms that messages were sent to, in order."""
    return [call[1] for call in chat.calls if call[0] == "post"]


async def test_messages_go_to_the_group_that_was_joined_last(chat):
    await run(chat, "join_group a", "send_group 1", "join_group b", "send_group 2", "join_group a", "send_group 3")
    assert posts(chat) == ["a", "b", "a"]


async def test_leaving_a_group_goes_back_to_the_one_that_was_joined_before(chat):
    typed = ["join_group a", "join_group b", "join_group c", "leave_group", "send_group 1", "leave_group a"]
    assert await run(chat, *typed, "send_group 2", "leave_group", "send_group 3") == [
        "[Entered group a successfully]",
        "[Entered group b successfully]",
        "[Entered group c successfully]",
        "[Leave group chat c]",
        "[The current group is b now.]",
        "(b) [Message received by Server.]",
        "[Leave group chat a]",
        "(b) [Message received by Server.]",
        "[Leave group chat b]",
        "[You are in no group. Type join_group NAME.]",
    ]


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("send_group hi", "[You are in no group. Type join_group NAME.]"),
        ("list_members", "[You are in no group. Type list_members NAME.]"),
        ("leave_group", "[You are in no group.]"),
    ],
)
async def test_in_no_group_there_is_no_current_one_and_the_hint_fits_the_command(chat, typed, line):
    assert await run(chat, typed) == [line]


async def test_the_only_group_of_an_earlier_start_is_the_current_one(chat):
    chat.rooms_joined = ["a"]
    await run(chat, "send_group 1", "send_group 2")
    assert posts(chat) == ["a", "a"]
    assert chat.calls.count(("joined_rooms",)) == 1, "the server is asked once"


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("send_group 1", "join_group NAME first"),
        ("leave_group", "leave_group NAME"),
        ("list_members", "list_members NAME"),
    ],
)
async def test_of_several_groups_of_an_earlier_start_one_has_to_be_chosen(chat, typed, hint):
    """Which one was current is not known, and what was meant for one group must not go to another."""
    chat.rooms_joined = ["a", "b"]
    assert await run(chat, typed, "join_group a", "send_group 2", "leave_group", "send_group 3") == [
        f"[Which group? You are in a, b. Type {hint}.]",
        "[Entered group a successfully]",
        "(a) [Message received by Server.]",
        "[Leave group chat a]",
        "[The current group is b now.]",
        "(b) [Message received by Server.]",
    ]


async def test_after_a_group_could_not_be_joined_nothing_goes_to_the_one_before(chat):
    chat.rooms_joined = ["a"]
    chat.answers["join"] = NoSuchRoom("b")
    assert await run(chat, "join_group b", "send_group for b") == [
        "[Group b does not exist]",
        "[Which group? You are in a. Type join_group NAME first.]",
    ]
    assert posts(chat) == []


async def test_a_group_that_was_created_is_the_current_one(chat):
    assert await run(chat, "create_group a", "send_group 1", "create_group b", "send_group 2", "leave_group") == [
        "[Group a created by Server.]",
        "(a) [Message received by Server.]",
        "[Group b created by Server.]",
        "(b) [Message received by Server.]",
        "[Leave group chat b]",
        "[The current group is a now.]",
    ]


async def test_a_group_that_was_left_elsewhere_is_current_no_longer(chat):
    chat.rooms_joined = ["a", "b"]
    conversation = Conversation(chat)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(conversation.wait)
        for line in ("join_group b", "send_group 1"):
            await conversation.keys.send(line)
        await trio.testing.wait_all_tasks_blocked()
        chat.rooms_joined.remove("b")
        for line in ("send_group 2", "send_group 3"):
            await conversation.keys.send(line)
        conversation.keys.close()
    assert conversation.printed == [
        WELCOME,
        "[Entered group b successfully]",
        "(b) [Message received by Server.]",
        "[You are not in group b. Type join_group b]",
        "[Which group? You are in a. Type join_group NAME first.]",
        BYE,
    ]


async def test_the_current_group_stays_if_another_one_cannot_be_left(chat):
    typed = ["join_group a", "join_group b", "join_group a", "leave_group zoo", "send_group 1"]
    assert (await run(chat, *typed))[3:] == [
        "[You are not in group zoo. Type join_group zoo]",
        "(a) [Message received by Server.]",
    ]


async def test_groups_are_called_as_they_were_created(chat):
    chat.answers = {"rooms": [RoomInfo("Lunch", 1, False)], "members": ["x"]}
    typed = ["join_group lunch", "join_group LUNCH", "send_group hi", "list_members LUNCH", "leave_group lunch"]
    assert await run(chat, *typed) == [
        "[Entered group Lunch successfully]",
        "[Entered group Lunch successfully]",
        "(Lunch) [Message received by Server.]",
        "(Lunch) [Members in the group Lunch:]",
        "(Lunch) x",
        "[Leave group chat Lunch]",
    ]
    assert chat.rooms_joined == []


# --- private groups ---


async def test_a_private_group_is_created_and_its_members_and_owners_changed(chat):
    chat.answers = {"owners": ["w", "x"]}
    typed = ["create_group ox --private", "invite y", "remove z", "owners", "owners y", "send_group hi"]
    assert await run(chat, *typed) == [
        "[Group ox created by Server.]",
        "[It is private. Type invite NAME to add somebody.]",
        "(ox) [Y is in the group now.]",
        "(ox) [z is not in the group any more.]",
        "(ox) [Owners of the group ox:]",
        "(ox) w",
        "(ox) x",
        "(ox) [y owns the group now, too.]",
        "(ox) [Message received by Server.]",
    ]
    changes = [("invite", "ox", "y"), ("remove", "ox", "z"), ("owners", "ox"), ("add_owner", "ox", "y")]
    assert chat.calls[0] == ("create_room", "ox", "private")
    assert [call for call in chat.calls if call in changes] == changes


@pytest.mark.parametrize("typed", ["invite y", "remove y", "owners", "owners y"])
async def test_members_are_changed_in_the_current_group_only_and_it_must_be_known(chat, typed):
    assert await run(chat, typed) == ["[You are in no group. Type join_group NAME.]"]
    chat.online, chat.rooms_joined = True, ["a", "b"]
    chat.happens, chat.events = trio.open_memory_channel(100)
    assert await run(chat, typed) == ["[Which group? You are in a, b. Type join_group NAME first.]"]
    assert not any(call[0] in ("invite", "remove", "owners", "add_owner") for call in chat.calls)


async def happens(conversation, event):
    conversation.chat.happens.send_nowait(event)
    await trio.testing.wait_all_tasks_blocked()


async def types(conversation, *lines):
    for line in lines:
        await conversation.keys.send(line)
        await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
async def conversation(chat, nursery):
    conversation = Conversation(chat)
    nursery.start_soon(conversation.wait)
    yield conversation
    conversation.keys.close()


def added_to(room):
    return RoomMembersChanged(room, "y", ("x", "y"), joined=True)


@pytest.mark.parametrize("is_chosen", [True, False])
async def test_who_is_added_to_a_group_goes_on_writing_to_the_current_one(conversation, chat, is_chosen):
    """Else a stranger could make somebody write to a group of theirs. The only group counts as chosen."""
    chat.rooms_joined = ["a"]
    await types(conversation, "join_group a" if is_chosen else "send_group 0")
    chat.rooms_joined.append("ox")
    await happens(conversation, added_to("ox"))
    await types(conversation, "send_group 1", "join_group ox", "send_group 2", "leave_group", "send_group 3")
    sent = [call[1:] for call in chat.calls if call[0] == "post" and call[2] != "0"]
    assert sent == [("a", "1"), ("ox", "2"), ("a", "3")]


async def test_a_group_that_was_listed_before_its_event_is_shown_counts_once(conversation, chat):
    chat.rooms_joined, chat.answers = ["ox"], {"rooms": [RoomInfo("ox", 2, True, private=True)]}
    await types(conversation, "list_groups")
    await happens(conversation, added_to("ox"))
    await types(conversation, "send_group 1", "leave_group", "send_group 2")
    assert posts(chat) == ["ox"]
    assert conversation.printed[-1] == "[You are in no group. Type join_group NAME.]"


async def test_who_is_removed_from_the_current_group_is_asked_for_which_one_a_message_is(conversation, chat):
    chat.rooms_joined = ["a", "ox"]
    await types(conversation, "join_group ox", "send_group 1")
    chat.rooms_joined.remove("ox")
    await happens(conversation, RemovedFromRoom("OX", "y"))
    await types(conversation, "send_group 2")
    assert conversation.printed[-2:] == [
        "(OX) [y has removed you.]",
        "[Which group? You are in a. Type join_group NAME first.]",
    ]
    assert posts(chat) == ["ox"]


async def test_who_is_removed_from_another_group_goes_on_writing_to_the_current_one(conversation, chat):
    chat.rooms_joined = ["a", "ox"]
    await types(conversation, "join_group a")
    await happens(conversation, RemovedFromRoom("ox", "y"))
    await types(conversation, "send_group 1")
    assert posts(chat) == ["a"]


@pytest.mark.parametrize(
    ("typed", "error", "line"),
    [
        ("list_members a", NoSuchRoom("a"), "[Group a does not exist]"),
        ("leave_group a", NotAMember("a"), "[You are not in group a. Type join_group a]"),
        ("leave_group everyone", NotAMember("everyone"), "[Everybody is in group everyone: nobody can leave it.]"),
        ("list_groups", TooFast(1.0), "[Too fast: try again in 1 s.]"),
        ("list_groups", NotRegistered(), "[You are offline. Type reg to come back.]"),
    ],
)
async def test_an_error_of_a_group_is_shown_and_changes_nothing(chat, typed, error, line):
    chat.rooms_joined = ["z"]
    chat.answers = dict.fromkeys(["create_room", "join", "leave", "members", "rooms"], error)
    # A room is looked up by its name in that answer, and an error has none.
    chat._called = str
    assert await run(chat, typed, "send_group hi") == [line, "(z) [Message received by Server.]"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RoomExists("a"), "[Group a already exists.]"),
        (InvalidName("b@d"), INVALID_NAME),
        (NotRegistered(), "[You are offline. Type reg to come back.]"),
    ],
)
async def test_after_a_group_that_could_not_be_created_nothing_goes_to_the_one_before(chat, error, line):
    """A newcomer wrote to a private group that was not there: people in an open one read it."""
    chat.rooms_joined = ["z"]
    chat.answers = {"create_room": error}
    chat._called = str
    assert await run(chat, "join_group z", "create_group a --private", "send_group hi") == [
        *("[Entered group z successfully]", line),
        "[Which group? You are in z. Type join_group NAME first.]",
    ]


async def test_a_private_group_that_cannot_be_joined_is_called_as_it_is_known(chat):
    chat.answers, chat.known_rooms = {"join": RoomIsPrivate("OX")}, ["Ox"]
    assert await run(chat, "join_group OX") == [
        "[Group Ox is private, and you are not in it. Ask one of its owners to type invite with your name.]"
    ]


async def test_messages_to_groups_are_shown(chat, tokyo):
    chat.happens.send_nowait(LetterReceived("y", "one\ntwo", 0.0, group=True, first=True, room="lunch"))
    chat.happens.send_nowait(GroupMessageReceived("y", "three\nfour", room="lunch"))
    printed = await Conversation(chat).run()
    assert [line for line in printed if line not in (WELCOME, BYE)] == [
        "[You have offline messages:]",
        "(lunch) Group_Message y: 09:00:00 one",
        "                                  two",
        "(lunch) Group_Message y: three",
        "                         four",
    ]


async def test_no_ack_is_printed_at_once_and_the_outcome_when_it_is_known(chat, autojump_clock):
    chat.fallback, chat.seconds = Fallback.NO_ACK, 2.0
    chat.answers["send"] = Delivery("relayed")
    conversation = Conversation(chat)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(conversation.run, "send y hi")
        await trio.sleep(1)
        assert conversation.printed == [WELCOME, "[No ACK from y, message sent to server.]"]
    assert conversation.printed[2:] == ["[Message relayed to y by the server.]", BYE]


async def test_a_message_to_somebody_known_to_be_away(chat):
    chat.fallback = Fallback.OFFLINE
    chat.answers["send"] = Delivery("saved", 0.5)
    assert await run(chat, "send y hi", phrasebook=CHANNEL) == [
        "[No ACK from y, message sent to server.]",
        "[Messages received by the server and saved.]",
    ]


async def test_commands_wait_for_each_other_and_events_do_not(chat, autojump_clock):
    chat.seconds = 2.0
    conversation = Conversation(chat)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(conversation.run, "send y one", "send z two")
        await trio.sleep(1)
        chat.happens.send_nowait(MessageReceived("z", "meanwhile"))
        await trio.sleep(2)
        assert conversation.printed[1:] == ["z: meanwhile", "[Message received by y.]"]
    assert [call[1] for call in chat.calls[:2]] == ["y", "z"]
    assert conversation.printed[-2:] == ["[Message received by z.]", BYE]


async def test_going_and_coming_back_to_letters(chat, autojump_clock):
    chat.answers["register"] = 2
    conversation = Conversation(chat)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(conversation.wait)
        await conversation.keys.send("dereg")
        await conversation.keys.send("reg")
        await trio.sleep(1)
        chat.happens.send_nowait(LetterReceived("y", "one", 0.0, group=False, first=True))
        chat.happens.send_nowait(LetterReceived("z", "two", 0.0, group=True, first=False))
        await trio.sleep(1)
        assert conversation.printed[:4] == [WELCOME, BYE, "[RegSent]", "[You have offline messages:]"]
        one, two = conversation.printed[4:]
        assert one.startswith("y: ")
        assert one.endswith(" one")
        assert two.startswith("Group Chat z: ")
        conversation.keys.close()


async def test_coming_back_to_no_letters(chat):
    assert await run(chat, "dereg", "reg") == [BYE, "[RegSent]", "[You have no offline messages.]"]


async def test_reg_and_dereg_take_the_own_name_in_any_case(chat):
    chat.answers["register"] = 1
    assert await run(chat, "dereg X", "reg x") == [BYE, "[RegSent]"]


@pytest.mark.parametrize("typed", ["reg y", "dereg y", "dereg x y"])
async def test_reg_and_dereg_refuse_another_name(chat, typed):
    assert await run(chat, typed) == ["[You can only do that for yourself.]"]
    assert chat.calls == [("deregister",)]


async def test_reg_while_online(chat):
    assert await run(chat, "reg") == ["[You are already registered.]"]
    assert ("register",) not in chat.calls


@pytest.mark.parametrize("typed", ["send y hi", "send_all hi", "dereg"])
async def test_offline_it_shows_how_to_come_back(chat, typed):
    chat.online = False
    chat.answers = dict.fromkeys(["send", "send_all", "deregister"], NotRegistered())
    assert await Conversation(chat).run(typed) == [WELCOME, "[You are offline. Type reg to come back.]"]


async def test_who_help_and_exit_work_offline(chat):
    chat.online = False
    chat.table = {"x": Row("x", online=False)}
    printed = await Conversation(chat).run("who", "help", "exit", "send y never")
    assert printed[2].startswith("x     off line  ")
    assert printed[3:] == ["[You are offline: this may not be so any more.]", *help_lines()]
    assert chat.calls == []


async def test_help_of_a_command(chat):
    assert await run(chat, "help SEND") == list(help_lines("send"))


async def test_who_shows_the_table_in_the_order_of_names(chat):
    rows = [Row("zoe", online=True, host="::1", port=9), Row("x", online=True), Row("Amy", online=False)]
    chat.table = {row.name: row for row in rows}
    shown = [line.split() for line in await run(chat, "who")]
    assert shown[0] == ["name", "status", "since", "address", "fingerprint"]
    assert [(name, status, *place) for name, status, _, _, *place in shown[1:]] == [
        ("Amy", "off", "127.0.0.1:1111"),
        ("x", "on", "127.0.0.1:1111"),
        ("zoe", "on", "[::1]:9"),
    ]


async def test_who_all_asks_for_those_whom_the_table_does_not_have(chat):
    rows = [Row("zoe", online=True, host="::1", port=9), Row("x", online=True, fingerprint=NEW)]
    chat.table = {row.name: row for row in rows}
    chat.answers["everybody"] = [
        Person("Amy", False, 0.0, OLD, True),
        Person("x", False, 0.0, NEW, False),
        Person("yves", False, 0.0, "", False),
    ]
    shown = [line.split() for line in await run(chat, "who --all")]
    assert [(name, status, *place) for name, status, _, _, *place in shown[1:]] == [
        ("Amy", "off", OLD, "KEY", "CHANGED"),
        ("x", "on", "127.0.0.1:1111", NEW),
        ("yves", "off"),
        ("zoe", "on", "[::1]:9"),
    ], "what is in the table is newer"
    chat.answers["everybody"] = TooFast(7.0)
    assert "[Too fast: try again in 7 s.]" in await Conversation(chat).run("who --all")


async def test_who_shows_the_key_of_each(chat):
    rows = [Row("x", online=True), Row("Y", online=True, fingerprint=NEW), Row("z", online=False, fingerprint=OLD)]
    chat.table = {row.name: row for row in rows}
    chat.untrusted = {"y", "z"}
    _, x, y, z = await run(chat, "who")
    assert x.endswith("127.0.0.1:1111")
    assert y.endswith(f"  {NEW}  KEY CHANGED")
    assert z.endswith(f"  {OLD}  KEY CHANGED")
    chat.untrusted, chat.online = set(), True
    *_, y, z = await run(chat, "who")
    assert y.endswith(f"  {NEW}")
    assert z.endswith(f"  {OLD}")


async def test_a_changed_key_is_warned_of_until_it_is_trusted(chat, autojump_clock):
    conversation = Conversation(chat)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(conversation.wait)
        chat.happens.send_nowait(KeyWarning("y", OLD, NEW))
        await trio.sleep(1)
        chat.answers = {"send": KeyChanged("y", OLD, NEW), "trust": NEW}
        await conversation.keys.send("send y hi")
        await conversation.keys.send("trust y")
        await trio.sleep(1)
        chat.answers.clear()
        await conversation.keys.send("send y hi")
        conversation.keys.close()
    accepted = f"[The key of y is trusted now: {NEW}]"
    not_sent = "[Message not sent to y. After trust y, send it again.]"
    assert conversation.printed == [WELCOME, *WARNING, *WARNING, not_sent, accepted, "[Message received by y.]", BYE]
    assert ("trust", "y") in chat.calls


async def test_people_are_blocked_listed_and_unblocked(chat):
    chat.answers["block"] = NEW
    chat.blocked = (Blocked(("y", "Y2"), NEW), Blocked(("z",), OLD))
    assert await run(chat, "block y", "blocked", "unblock y") == [
        f"[y is blocked now, and is not told: {NEW}]",
        f"{NEW}  y, Y2",
        f"{OLD}  z",
        "[y is not blocked any more.]",
    ]
    assert chat.calls[:2] == [("block", "y"), ("unblock", "y")]
    chat.blocked, chat.online = (), True
    assert await run(chat, "blocked") == ["[Nobody is blocked.]"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UnknownRecipient("y"), "[No such user: y]"),
        (BlockedYourself(), "[You cannot block yourself.]"),
        (TooManyBlocked(), "[You block 256 people already: unblock somebody first.]"),
        (NotBlocked("y"), "[You do not block y.]"),
        (InvalidName("y\x1b"), None),
    ],
)
async def test_why_somebody_is_not_blocked_or_unblocked(chat, error, line):
    chat.answers = {"block": error, "unblock": error}
    one, other = await run(chat, "block y", "unblock y")
    assert one == other
    assert line in (None, one)


@pytest.fixture
def tokyo(monkeypatch):
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


WRITTEN = [
    HistoryEntry(1648153596.7, "y", "hi\x1b[31m]\n"),
    HistoryEntry(1648153597.0, "y", "and hi", sent=True),
    HistoryEntry(1648153597.9, "Y", "to everyone", group=True),
    HistoryEntry(1648153598.0, "", "to everyone", sent=True, group=True),
    HistoryEntry(1648153599.0, "y", "to lunch", group=True, room="lunch"),
    HistoryEntry(1648153600.0, "", "to lunch", sent=True, group=True, room="lunch"),
]


@pytest.mark.parametrize("typed", ["history", "search hi"])
async def test_the_history_is_shown(chat, tokyo, typed):
    chat.answers = {"history": WRITTEN, "search": WRITTEN}
    assert await run(chat, typed) == [
        r"[2022-03-25 05:26:36 y: hi\x1b[31m]]",
        "[2022-03-25 05:26:37 to y: and hi]",
        "[2022-03-25 05:26:37 Group Chat Y: to everyone]",
        "[2022-03-25 05:26:38 Group Chat to all: to everyone]",
        "[2022-03-25 05:26:39 (lunch) Group_Message y: to lunch]",
        "[2022-03-25 05:26:40 to group lunch: to lunch]",
    ]


async def test_the_history_in_the_other_wording(chat, tokyo):
    chat.answers = {"history": WRITTEN}
    assert await run(chat, "history", phrasebook=CHANNEL) == [
        r"[2022-03-25 05:26:36 y : hi\x1b[31m]]",
        "[2022-03-25 05:26:37 to y : and hi]",
        "[2022-03-25 05:26:37 Channel_Message Y : to everyone]",
        "[2022-03-25 05:26:38 Channel_Message to all : to everyone]",
        "[2022-03-25 05:26:39 (lunch) Channel_Message y : to lunch]",
        "[2022-03-25 05:26:40 to group lunch : to lunch]",
    ]


@pytest.mark.parametrize(
    ("typed", "call"),
    [
        ("history", ("history", None, 20)),
        ("history 5", ("history", None, 5)),
        ("history y", ("history", "y", 20)),
        ("history y 1000", ("history", "y", 1000)),
        ("history #lunch", ("history", "#lunch", 20)),
        ("search  hi there ", ("search", "hi there")),
        ("search #lunch  hi there ", ("search", "hi there", "#lunch")),
    ],
)
async def test_the_history_is_read_as_typed(chat, typed, call):
    assert await run(chat, typed) == ["[Nothing found.]"]
    assert chat.calls[0] == call


@pytest.mark.parametrize("typed", ["history", "search hi"])
async def test_without_a_history(chat, typed):
    chat.answers = {"history": NoHistory(), "search": NoHistory()}
    assert await run(chat, typed) == ["[No history is kept.]"]


async def test_blank_lines_and_unknown_commands(chat):
    assert await run(chat, "", "  ", "dance\x1b[2J now") == [
        "[Unknown command: dance\\x1b[2J. Type help, or send_all TEXT to write to all.]"
    ]


@pytest.mark.parametrize(
    ("typed", "error", "line"),
    [
        ("send y hi", UnknownRecipient("y"), "[No such user: y]"),
        ("send b@d hi", InvalidName("b@d"), INVALID_NAME),
        ("send x hi", InvalidRecipient(), "[You cannot send to yourself.]"),
        ("send y \ud800", InvalidText(None), "[Not valid Unicode, message not sent.]"),
        ("send y ...", InvalidText(20000), "[Too long: 20000 bytes, at most 16384.]"),
        ("send y hi", MailboxFull("y"), "[The mailbox of y is full, message not sent.]"),
        ("send y hi", NameTaken("x"), "[Name x is taken.]"),
        ("send y hi", TooFast(30.0), "[Too fast: your message to y was not sent. Try again in 30 s.]"),
    ],
)
async def test_an_error_is_shown_and_the_conversation_goes_on(chat, typed, error, line):
    chat.answers["send"] = error
    assert await run(chat, typed, "send_all hi") == [line, "[Group Message received by Server.]"]


@pytest.mark.parametrize(
    ("typed", "to"),
    [("send_all hi", "everyone"), ("send_group hi", "group ox"), ("send #ox hi", "group ox")],
)
async def test_a_message_that_came_too_fast_is_said_not_to_be_sent(chat, typed, to):
    chat.rooms_joined = ["ox"]
    chat.answers = dict.fromkeys(["send_all", "post"], TooFast(0.2))
    assert await run(chat, typed) == [f"[Too fast: your message to {to} was not sent. Try again in 1 s.]"]


async def test_who_has_another_key_has_to_be_invited_again(chat):
    chat.rooms_joined = ["ox"]
    chat.answers["invite"] = KeyChanged("y", OLD, NEW)
    assert (await run(chat, "invite y"))[-1] == "[Not done: invite. After trust y, type it again.]"


async def test_an_unknown_name_cannot_be_trusted(chat):
    chat.answers["trust"] = UnknownRecipient("y")
    assert await run(chat, "trust y") == ["[No such user: y]"]


@pytest.mark.parametrize(
    ("typed", "usage"),
    [
        ("send", "send NAME TEXT"),
        ("send y", "send NAME TEXT"),
        ("send_all", "send_all TEXT"),
        ("trust", "trust NAME"),
        ("search", "search [#GROUP] WORDS"),
        ("history 0", "history [NAME] [1-1000]"),
        ("who y", "who [--all]"),
        ("send_group", "send_group TEXT"),
        ("join_group", "join_group GROUP"),
    ],
)
async def test_a_command_with_missing_or_wrong_words_shows_its_usage(chat, typed, usage):
    assert await run(chat, typed) == [f"[Usage: {usage}]"]
    assert chat.calls == [("deregister",)]


async def test_commands_are_taken_in_any_case(chat):
    assert await run(chat, "SEND y Hi", "Dereg", "EXIT") == ["[Message received by y.]"]
    assert chat.calls == [("send", "y", "Hi"), ("deregister",)]


@pytest.mark.parametrize(
    ("event", "lines"),
    [
        (MessageReceived("bob", "one\nx: two"), ["bob: one", "     x: two"]),
        (GroupMessageReceived("bob", "one\r\ntwo"), ["Group Chat bob: one", "                two"]),
        (LetterReceived("bob", "one\ntwo", 0.0, group=False, first=False), ["bob: 09:00:00 one", "              two"]),
    ],
)
async def test_no_line_of_a_message_looks_like_a_message_of_somebody_else(chat, tokyo, event, lines):
    chat.happens.send_nowait(event)
    printed = await Conversation(chat).run()
    assert [line for line in printed if line not in (WELCOME, BYE)] == lines


async def test_the_history_shows_the_lines_of_a_message(chat, tokyo):
    chat.answers = {"history": [HistoryEntry(0.0, "y", "one\n\ttwo\n"), HistoryEntry(0.0, "y", "x", sent=True)]}
    assert await run(chat, "history") == [
        "[1970-01-01 09:00:00 y: one",
        "                            two]",
        "[1970-01-01 09:00:00 to y: x]",
    ]


async def test_a_name_that_is_taken_meanwhile(chat):
    chat.answers["register"] = NameTaken("x")
    chat.answers["send"] = NotRegistered()
    assert await Conversation(chat).run("dereg", "reg", "send y hi") == [
        WELCOME,
        BYE,
        "[RegSent]",
        "[Name x is taken.]",
        "[You are offline. Type reg to come back.]",
    ]


# --- how it ends ---


@pytest.mark.parametrize("typed", [("exit", "send y never"), ()])
async def test_exit_and_the_end_of_input_deregister(chat, typed):
    assert await Conversation(chat).run(*typed) == [WELCOME, BYE]
    assert chat.calls == [("deregister",)]
    assert chat.left == "offline"


async def test_what_has_arrived_is_shown_before_leaving(chat):
    for number in range(50):
        chat.happens.send_nowait(MessageReceived("y", str(number)))
    printed = await Conversation(chat).run("exit")
    assert [line for line in printed if line.startswith("y: ")] == [f"y: {number}" for number in range(50)]


async def test_with_stay_the_end_of_input_is_not_the_end(chat, autojump_clock):
    conversation = Conversation(chat)
    with trio.move_on_after(100):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: conversation.run("send y hi", stay=True))
            await trio.sleep(50)
            chat.happens.send_nowait(MessageReceived("y", "still there?"))
    assert conversation.printed == [WELCOME, "[Message received by y.]", "y: still there?"]
    assert chat.left == "by an exception"


async def test_with_stay_exit_still_exits(chat):
    assert await Conversation(chat).run("exit", stay=True) == [WELCOME, BYE]


@pytest.mark.parametrize("typed", ["send y hi", "send_all hi", "dereg", "exit"])
async def test_a_server_that_does_not_respond_ends_it(chat, typed):
    chat.answers = dict.fromkeys(["send", "send_all", "deregister"], ServerNotResponding())
    conversation = Conversation(chat)
    with NO_SERVER:
        await conversation.run(typed, "who")
    assert conversation.printed == [WELCOME]
    assert chat.left == "by an exception"


AT_TERMINAL = Phrasebook(is_at_terminal=True)


@pytest.mark.parametrize(
    ("typed", "lines"),
    [
        ("send y hi", ["[Your message to y was probably not sent.]"]),
        ("send_all hi", ["[Your message to everyone was probably not sent.]"]),
        ("send_group hi", ["[Your message to group a was probably not sent.]"]),
        ("leave_group", []),
        ("who", []),
    ],
)
@pytest.mark.parametrize(
    "error", [ServerNotResponding(), SignedInElsewhere(), ServerKeyChanged(OLD, NEW), ServerTooOld(), ServerTooNew()]
)
async def test_a_message_without_an_answer_is_named_before_the_program_ends(chat, typed, lines, error):
    chat.rooms_joined = ["a"]
    chat.answers = dict.fromkeys(["send", "send_all", "post", "leave", "deregister"], error)
    conversation = Conversation(chat, AT_TERMINAL)
    with pytest.RaisesGroup(type(error), flatten_subgroups=True):
        await conversation.run(typed)
    assert [line for line in conversation.printed if line != WELCOME and "127.0.0.1" not in line] == [
        *(["name  status    since     address  fingerprint"] if typed == "who" else []),
        *lines,
    ]


async def test_a_message_is_named_also_if_an_event_ends_the_program_while_it_waits(chat, autojump_clock):
    chat.seconds = 2.0
    chat.answers["send"] = Delivery("relayed")
    conversation = Conversation(chat, AT_TERMINAL)

    async def lose_server():
        await trio.sleep(1)
        chat.happens.send_nowait(SignedOff(ServerNotResponding()))

    with NO_SERVER:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lose_server)
            await conversation.run("send z hi", "send y hi")
    assert conversation.printed == [WELCOME, "[Your message to z was probably not sent.]"]


@pytest.mark.parametrize(("rooms", "whom"), [(["a"], "group a"), ([], "your group")])
async def test_in_a_pipe_only_a_message_to_a_group_is_named(chat, rooms, whom):
    """The transcripts of the ancestors say how `send` and `send_all` end there; they had no groups."""
    chat.rooms_joined = rooms
    chat.answers = {"post": ServerNotResponding()} if rooms else {"joined_rooms": ServerNotResponding()}
    conversation = Conversation(chat)
    with NO_SERVER:
        await conversation.run("send_group hi")
    assert conversation.printed == [WELCOME, f"[Your message to {whom} was probably not sent.]"]


async def test_a_server_that_does_not_respond_to_reg_ends_it(chat):
    chat.online = False
    chat.answers["register"] = ServerNotResponding()
    conversation = Conversation(chat)
    with NO_SERVER:
        await conversation.run("reg")
    assert conversation.printed == [WELCOME, "[RegSent]"]


async def test_a_server_that_is_gone_when_we_come_back_by_ourselves_ends_it(chat):
    chat.happens.send_nowait(SignedOff(ServerNotResponding()))
    conversation = Conversation(chat)
    with NO_SERVER:
        await conversation.wait()
    assert conversation.printed == [WELCOME]


async def test_a_name_that_is_lost_to_someone_else_does_not_end_it(chat, autojump_clock):
    conversation = Conversation(chat)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(conversation.wait)
        await trio.sleep(1)
        chat.online = False
        chat.happens.send_nowait(SignedOff(NameTaken("x")))
        await trio.sleep(1)
        await conversation.keys.send("reg")
        await conversation.keys.send("exit")
    assert conversation.printed[1:] == ["[Name x is taken.]", "[RegSent]", "[You have no offline messages.]", BYE]


@pytest.mark.parametrize("typing", ["going on", "ended, with --stay", "ended"])
async def test_signing_in_elsewhere_ends_it_here(chat, typing, autojump_clock):
    conversation = Conversation(chat)
    if typing != "going on":
        conversation.keys.close()
    chat.seconds = 1.0  # which leaving takes
    chat.happens.send_nowait(MessageReceived("y", "before"))
    chat.happens.send_nowait(SignedOff(SignedInElsewhere()))
    with trio.fail_after(60), ELSEWHERE:
        await conversation.wait(stay=typing.endswith("--stay"))
    assert conversation.printed == [WELCOME, "y: before"]
    assert chat.left == "by an exception"


@pytest.mark.parametrize("error", [SignedInElsewhere(), ServerKeyChanged(OLD, NEW), ServerTooOld(), ServerTooNew()])
@pytest.mark.parametrize("typed", ["send y hi", "send_all hi", "exit"])
async def test_what_ends_it_may_come_as_an_answer(chat, typed, error):
    chat.answers = dict.fromkeys(["send", "send_all", "deregister"], error)
    conversation = Conversation(chat)
    with pytest.RaisesGroup(type(error), flatten_subgroups=True):
        await conversation.run(typed, "who")
    assert conversation.printed == [WELCOME]


async def test_a_chat_that_cannot_be_opened_prints_nothing(chat):
    @asynccontextmanager
    async def taken():
        raise NameTaken("x")
        yield

    printed = []
    with pytest.RaisesGroup(NameTaken):
        await run_conversation(taken(), chat.events, printed.append, GROUP)
    assert printed == []


async def test_without_a_reader_of_the_lines_it_ends(chat):
    def show(line):
        raise BrokenPipeError

    with pytest.RaisesGroup(BrokenPipeError, flatten_subgroups=True):
        await run_conversation(chat.open(), chat.events, show, GROUP)
    assert chat.left == "by an exception"


async def test_that_a_message_waits_for_the_server_is_not_said_when_the_server_is_back(chat, autojump_clock):
    waits = OutgoingChanged(7, bytes(16), "bob", "", 0.0, MessageState.WAITING, error=ServerNotResponding())
    chat.seconds = 1.0
    chat.happens.send_nowait(waits)  # found before the server was back, and shown after it
    assert await run(chat, "search hi") == ["[Nothing found.]"]
    silent = FakeChat()
    silent.silent_since, silent.seconds = 1.0, 1.0
    silent.happens.send_nowait(waits)
    assert await run(silent, "search hi") == [
        "[Your message to bob waits: the server is not responding. It is sent later; cancel 7 withdraws it.]",
        "[Nothing found.]",
    ]
