"""Results as JSON: each object has a name and fields, as documented, and no control character gets out."""

import inspect
import json
import re
import typing
from pathlib import Path

import attrs
import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

import trio_chat.errors
from tests.fake_outbox import FakeOutbox
from trio_chat import (
    Blocked,
    ChatError,
    Delivery,
    Fallback,
    ForgedReceiptReceived,
    GroupMessageReceived,
    GroupMessagesMissed,
    HistoryEntry,
    KeyWarning,
    LastOwner,
    LetterReceived,
    LetterUnreadable,
    MailboxFull,
    MemberJoined,
    MemberLeft,
    MessageNotDelivered,
    MessageNotOpened,
    MessageReceived,
    NameTaken,
    NotAMember,
    NotInRoom,
    ReceiptReceived,
    RemovedFromRoom,
    RoomInfo,
    RoomMembersChanged,
    RoomNotTrusted,
    SecondTextReceived,
    ServerBack,
    ServerNotResponding,
    ServerSilent,
    SignedOff,
    TableChanged,
    TooFast,
    WrongReceiptReceived,
)
from trio_chat.client.events import MessageState, OutgoingChanged
from trio_chat.storage.outgoing import Outgoing
from trio_chat.terminal.commands import UnknownCommand, help_lines
from trio_chat.terminal.conversation import run_conversation
from trio_chat.terminal.json_lines import EVENTS, JsonRenderer, as_json, fields_of
from trio_chat.terminal.results import (
    CameBack,
    CommandFailed,
    Failed,
    HistoryList,
    MessageUnsent,
    NoAnswer,
    ProgramInterrupted,
    RegistrationSent,
    Result,
    SignedOn,
    TableList,
    TableRow,
    WaitingMessage,
)

PAGE = Path(__file__).parents[2] / "docs" / "scripting.md"
RENDERER = JsonRenderer()
ERRORS = (ChatError, ChatError | None)
ANY_TEXT = st.text(st.characters(exclude_categories=()))

MESSAGE = Outgoing(3, b"\x01\xff", "y", "", "hi", 0.5, 1.5)
ROW = {"name": "y", "host": "::1", "port": 9, "online": True, "since": 0.5, "key": "", "key_changed": False}
ENTRY = {"at": 0.5, "peer": "y", "text": "hi", "sent": False, "group": True, "room": ""}


def objects(lines):
    """The objects of some lines, each of them one line of printable ASCII."""
    assert all(re.fullmatch(r"[ -~]*", line.text) for line in lines)
    return [json.loads(line.text) for line in lines]


# --- the form ---


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        (
            MessageReceived("x", "grüße\n"),
            {"event": "message", "sender": "x", "text": "grüße\n", "signed_at": None},
        ),
        (
            GroupMessageReceived("x", "hi", 0.0),
            {"event": "group_message", "sender": "x", "text": "hi", "signed_at": 0.0, "room": ""},
        ),
        (
            GroupMessageReceived("x", "hi", room="lunch"),
            {"event": "group_message", "sender": "x", "text": "hi", "signed_at": None, "room": "lunch"},
        ),
        (
            LetterReceived("x", "hi", 1.25, group=True, first=False, signed_at=99.5, room="lunch"),
            {
                "event": "letter",
                "sender": "x",
                "text": "hi",
                "sent_at": 1.25,
                "group": True,
                "first": False,
                "signed_at": 99.5,
                "room": "lunch",
            },
        ),
        (ReceiptReceived("y", 1.5, b"\x01"), {"event": "receipt", "recipient": "y", "sent_at": 1.5, "id": "01"}),
        (
            MessageNotOpened("y", 1.5, b"\x01"),
            {"event": "message_not_opened", "recipient": "y", "sent_at": 1.5, "id": "01"},
        ),
        (
            MessageNotDelivered("y", 1.5, b"\x01"),
            {"event": "message_not_delivered", "recipient": "y", "sent_at": 1.5, "id": "01"},
        ),
        (WrongReceiptReceived("y", b"\x01"), {"event": "wrong_receipt", "recipient": "y", "id": "01"}),
        (ForgedReceiptReceived("y"), {"event": "forged_receipt", "recipient": "y"}),
        (LetterUnreadable("x"), {"event": "letter_unreadable", "sender": "x"}),
        (SecondTextReceived("x"), {"event": "second_text", "sender": "x"}),
        (KeyWarning("y", "a", "b"), {"event": "key_warning", "name": "y", "pinned": "a", "offered": "b"}),
        (GroupMessagesMissed(3), {"event": "missed", "count": 3, "room": ""}),
        (GroupMessagesMissed(3, "lunch"), {"event": "missed", "count": 3, "room": "lunch"}),
        (MemberJoined("lunch", "x"), {"event": "member_joined", "room": "lunch", "name": "x"}),
        (
            MemberLeft("lunch", "x"),
            {"event": "member_left", "room": "lunch", "name": "x", "private": False},
        ),
        (
            RoomMembersChanged("ox", "y", added=("x", "z"), removed=("w",), owners=("z",), joined=True, gap=True),
            {
                "event": "members_changed",
                "room": "ox",
                "owner": "y",
                "added": ["x", "z"],
                "removed": ["w"],
                "owners": ["z"],
                "joined": True,
                "gap": True,
                "unknown_owner": False,
            },
        ),
        (RemovedFromRoom("ox", "y"), {"event": "removed_from_room", "room": "ox", "owner": "y"}),
        (RoomNotTrusted("ox"), {"event": "room_not_trusted", "room": "ox"}),
        (
            SignedOff(NameTaken("x")),
            {"event": "signed_off", "error": "NameTaken", "text": "the name x is taken: choose another one"},
        ),
        (
            OutgoingChanged(3, b"\x01\xff", "y", "", 0.5, MessageState.WAITING, error=MailboxFull("y"), waited=True),
            {
                **{"event": "outgoing", "number": 3, "id": "01ff", "recipient": "y", "room": "", "at": 0.5},
                **{"state": "waiting", "sent_at": None, "error": "MailboxFull"},
                **{"text": "the mailbox of y is full: try again later", "waited": True},
            },
        ),
        (
            OutgoingChanged(3, b"\x01\xff", "", "ox", 0.5, MessageState.POSTED),
            {
                **{"event": "outgoing", "number": 3, "id": "01ff", "recipient": "", "room": "ox", "at": 0.5},
                **{"state": "posted", "sent_at": None, "error": None, "text": None, "waited": False},
            },
        ),
        (ServerSilent(5.0, 3), {"event": "server_silent", "since": 5.0, "waiting": 3}),
        (ServerBack(), {"event": "server_back"}),
    ],
)
def test_an_event_is_one_object(event, fields):
    assert objects(RENDERER.render(event)) == [fields]


@pytest.mark.parametrize("result", [TableChanged(), RegistrationSent(), MessageUnsent("y"), ProgramInterrupted()])
def test_some_results_have_no_object(result):
    assert RENDERER.render(result) == ()


def test_every_other_class_has_a_name_of_its_own():
    assert {*EVENTS} == {*typing.get_args(Result)} - {
        *(TableChanged, RegistrationSent, MessageUnsent, ProgramInterrupted),
        *(NoAnswer, CommandFailed),  # an `error`, as any other
    }
    assert len({*EVENTS.values()}) == len(EVENTS) - 1
    assert EVENTS[SignedOn] == EVENTS[CameBack], "to a program they are the same"


def test_the_documentation_lists_every_event_with_its_fields():
    rows = re.findall(r"^\| `(\w+)` \|(.*?)\|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    listed = {name: tuple(re.findall(r"`(\w+)`", fields)) for name, fields in rows}
    assert listed.pop("entry") == HistoryEntry.__match_args__
    row = listed.pop("row")
    assert row == TableRow.__match_args__ == tuple(ROW)
    assert listed.pop("outbox_entry") == WaitingMessage.__match_args__
    assert listed.pop("room") == RoomInfo.__match_args__
    assert listed.pop("person") == Blocked.__match_args__
    assert listed == {name: fields_of(kind) for kind, name in EVENTS.items()}


@pytest.mark.parametrize("kind", EVENTS)
def test_each_object_has_the_fields_of_its_class(kind):
    types = inspect.get_annotations(kind)
    values = {name: NameTaken("x") if types[name] in ERRORS else "z" for name in kind.__match_args__}
    if kind is TableList:
        values = {"rows": (TableRow(**ROW),)}
    if kind is HistoryList:
        values = {"entries": (HistoryEntry(**ENTRY),)}
    fields = json.loads(as_json(kind(**values)))
    assert tuple(fields) == ("event", *fields_of(kind))


@given(ANY_TEXT)
@example("\x00\x1b[2J\x7f\x85\u202e\u2028\ud800")
def test_every_text_comes_back_whole_and_harms_no_terminal(text):
    assert objects(RENDERER.render(MessageReceived("x", text))) == [
        {"event": "message", "sender": "x", "text": text, "signed_at": None}
    ]
    (error,) = objects(RENDERER.render(Failed(UnknownCommand(text))))
    assert error["text"] == f"no such command: {text}"


def test_a_message_that_was_not_sent_has_the_error_of_any_other_command():
    error = TooFast(7.0)
    assert RENDERER.render(CommandFailed(error, "send", "y")) == RENDERER.render(Failed(error))


def test_a_command_without_an_answer_has_the_error_that_it_always_had():
    (line,) = RENDERER.render(NoAnswer("who"))
    assert json.loads(line.text) == {
        "event": "error",
        "error": "ServerNotResponding",
        "text": "the server is not responding",
    }


@pytest.mark.parametrize("error", [MailboxFull("y"), ServerNotResponding(), ChatError("b@d\x1b")])
def test_an_error_has_the_name_of_its_class(error):
    assert objects(RENDERER.render(Failed(error))) == [
        {"event": "error", "error": type(error).__name__, "text": str(error)}
    ]
    assert hasattr(trio_chat.errors, type(error).__name__)


# --- a conversation ---


class ScriptedChat:
    """A chat of `x` that answers at once."""

    def __init__(self):
        self.name, self.online, self.waiting = "x", True, 2
        self.table, self.untrusted = {"y": Person()}, {"y"}
        self.known_rooms = []
        self.blocked = (Blocked(("y", "Z"), "k"),)
        self.outbox = FakeOutbox([MESSAGE])
        self.happens, self.events = trio.open_memory_channel(10)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *failure):
        self.happens.close()

    async def send(self, recipient, text, *, on_fallback):
        await trio.lowlevel.checkpoint()
        if recipient == "z":
            raise MailboxFull("z")
        on_fallback(Fallback.NO_ACK)
        return Delivery("saved", 7.5)

    async def send_all(self, text):
        await trio.lowlevel.checkpoint()

    async def create_room(self, name, *, private):
        await trio.lowlevel.checkpoint()
        return name

    async def invite(self, room, name):
        await trio.lowlevel.checkpoint()
        return name.upper()

    async def remove(self, room, name):
        await trio.lowlevel.checkpoint()
        raise NotInRoom(name, room)

    async def owners(self, room):
        await trio.lowlevel.checkpoint()
        return ["x"]

    async def add_owner(self, room, name):
        await trio.lowlevel.checkpoint()

    async def join(self, name):
        await trio.lowlevel.checkpoint()
        return name.lower()

    async def leave(self, name, *, anyway=False):
        await trio.lowlevel.checkpoint()
        if name == "ox" and not anyway:
            raise LastOwner(name)
        if name not in ("lunch", "ox"):
            raise NotAMember(name)

    async def post(self, room, text):
        await trio.lowlevel.checkpoint()

    async def joined_rooms(self):
        await trio.lowlevel.checkpoint()
        return ["lunch"]

    async def rooms(self):
        await trio.lowlevel.checkpoint()
        return [RoomInfo("everyone", None, True), RoomInfo("lunch", 2, True, private=True)]

    async def members(self, name):
        await trio.lowlevel.checkpoint()
        return ["x", "y"]

    async def gone_members(self, name):
        await trio.lowlevel.checkpoint()
        return ["y"]

    async def register(self):
        await trio.lowlevel.checkpoint()
        self.online = True
        return 3

    async def deregister(self):
        await trio.lowlevel.checkpoint()
        self.online = False

    async def trust(self, name):
        return "k"

    async def block(self, name):
        await trio.lowlevel.checkpoint()
        return "k"

    async def unblock(self, name):
        await trio.lowlevel.checkpoint()

    async def history(self, name, count):
        await trio.lowlevel.checkpoint()
        return [HistoryEntry(**ENTRY)]

    async def search(self, words, *, name):
        await trio.lowlevel.checkpoint()
        return []


@attrs.frozen
class Person:
    name: str = "y"
    host: str = "::1"
    port: int = 9
    online: bool = True
    since: float = 0.5
    fingerprint: str = "aaaa"


TABLE = {"event": "table", "rows": [ROW | {"key": "aaaa", "key_changed": True}], "silent_since": None, "online": True}


async def run(*typed, happens=()):
    """The objects of a conversation."""
    chat, shown = ScriptedChat(), []
    keys, lines = trio.open_memory_channel(10)
    for event in happens:
        chat.happens.send_nowait(event)
    for line in typed:
        keys.send_nowait(line)
    keys.close()
    with trio.fail_after(60):
        await run_conversation(chat, lines, shown.append, RENDERER)
    return objects(shown)


REGISTERED, DEREGISTERED = {"event": "registered", "waiting": 2}, {"event": "deregistered"}


@pytest.mark.parametrize(
    ("typed", "result"),
    [
        (
            "send y hi",
            [
                {"event": "by_server", "recipient": "y", "reason": "no_ack"},
                {"event": "delivery", "recipient": "y", "how": "saved", "sent_at": 7.5},
            ],
        ),
        (
            "send z hi",
            [{"event": "error", "error": "MailboxFull", "text": "the mailbox of z is full: try again later"}],
        ),
        ("send y", [{"event": "error", "error": "WrongUsage", "text": "usage: send NAME TEXT"}]),
        ("send_all hi", [{"event": "posted", "room": ""}]),
        ("create_group dinner", [{"event": "room_created", "room": "dinner", "private": False}]),
        ("create_group --private ox", [{"event": "room_created", "room": "ox", "private": True}]),
        ("invite y", [{"event": "invited", "room": "lunch", "name": "Y"}]),
        ("remove y", [{"event": "error", "error": "NotInRoom", "text": "y is not in the room lunch"}]),
        ("owners", [{"event": "owners", "room": "lunch", "names": ["x"]}]),
        ("owners y", [{"event": "owner_added", "room": "lunch", "name": "y"}]),
        ("join_group Lunch", [{"event": "room_joined", "room": "lunch"}]),
        ("leave_group", [{"event": "room_left", "room": "lunch", "current": ""}]),
        (
            "leave_group ox",
            [
                {
                    "event": "error",
                    "error": "LastOwner",
                    "text": "you are the only owner of the room ox: make somebody else an owner first, or leave anyway",
                }
            ],
        ),
        ("leave_group ox --anyway", [{"event": "room_left", "room": "ox", "current": ""}]),
        (
            "leave_group dinner",
            [{"event": "error", "error": "NotAMember", "text": "you are not in the room dinner: join it first"}],
        ),
        ("send_group hi", [{"event": "posted", "room": "lunch"}]),
        (
            "list_groups",
            [
                {
                    "event": "rooms",
                    "rooms": [
                        {"name": "everyone", "members": None, "joined": True, "private": False},
                        {"name": "lunch", "members": 2, "joined": True, "private": True},
                    ],
                    "current": "lunch",
                }
            ],
        ),
        ("list_members", [{"event": "members", "room": "lunch", "names": ["x", "y"], "gone": ["y"]}]),
        ("who", [TABLE]),
        ("trust y", [{"event": "trusted", "name": "y", "key": "k"}]),
        ("block y", [{"event": "blocked", "name": "y", "key": "k"}]),
        ("unblock y", [{"event": "unblocked", "name": "y"}]),
        ("blocked", [{"event": "block_list", "people": [{"names": ["y", "Z"], "key": "k"}]}]),
        ("history", [{"event": "history", "entries": [ENTRY]}]),
        ("search hi", [{"event": "history", "entries": []}]),
        (
            "outbox",
            [
                {
                    "event": "outbox",
                    "waiting": [
                        {
                            **{"number": 3, "id": "01ff", "recipient": "y", "room": "", "at": 0.5, "text": "hi"},
                            "tried": True,
                        }
                    ],
                }
            ],
        ),
        ("cancel 4", [{"event": "error", "error": "NotWaiting", "text": "no message 4 waits to be sent"}]),
        (
            "cancel 3",
            [
                {
                    **{"event": "cancelled", "number": 3, "id": "01ff", "recipient": "y", "room": "", "at": 0.5},
                    "tried": True,
                }
            ],
        ),
        ("help", [{"event": "help", "lines": list(help_lines())}]),
        ("reg", [{"event": "error", "error": "AlreadyRegistered", "text": "already registered"}]),
        (
            "dereg y",
            [{"event": "error", "error": "OnlyYourself", "text": "nobody else can be registered or deregistered"}],
        ),
        ("dance {text}", [{"event": "error", "error": "UnknownCommand", "text": "no such command: dance"}]),
        ("", []),
    ],
)
async def test_each_command_has_its_result(typed, result):
    assert await run(typed) == [REGISTERED, {"event": "messages_wait", "count": 1}, *result, DEREGISTERED]


async def test_going_and_coming_back():
    assert await run("dereg", "reg", "dereg") == [
        REGISTERED,
        {"event": "messages_wait", "count": 1},
        DEREGISTERED,
        {"event": "registered", "waiting": 3},
        DEREGISTERED,
    ]


async def test_a_change_of_the_table_brings_the_table():
    shown = await run(happens=[TableChanged()])
    # Nothing was typed: it is shown after the client has left.
    assert [fields for fields in shown if fields["event"] == "table"] == [TABLE | {"online": False}]
