"""What happens, told to a program: each object has a name and fields, the documentation lists them, nothing leaks."""

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
from trio_chat import (
    ChatError,
    Delivery,
    Entry,
    Event,
    Fallback,
    ForgedReceiptReceived,
    GroupMessageReceived,
    GroupMessagesMissed,
    KeyWarning,
    LetterReceived,
    LetterUnreadable,
    MailboxFull,
    MessageNotOpened,
    MessageReceived,
    NameTaken,
    ReceiptReceived,
    ServerBack,
    ServerNotResponding,
    ServerSilent,
    SignedOff,
    TableChanged,
)
from trio_chat.terminal.commands import help_lines
from trio_chat.terminal.conversation import converse
from trio_chat.terminal.json_lines import EVENTS, History, JsonBook, Result, Table, as_json, fields_of
from trio_chat.terminal.wordings import Phrase, TableRow

PAGE = Path(__file__).parents[2] / "docs" / "scripting.md"
BOOK = JsonBook()
ANY_TEXT = st.text(st.characters(exclude_categories=()))

ROW = {"name": "y", "host": "::1", "port": 9, "online": True, "since": 0.5, "key": "", "key_changed": False}
ENTRY = {"at": 0.5, "peer": "y", "text": "hi", "sent": False, "group": True}


def told(lines):
    """The objects of some lines, each of them one line of printable ASCII."""
    assert all(re.fullmatch(r"[ -~]*", line) for line in lines)
    return [json.loads(line) for line in lines]


# --- the form ---


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        (MessageReceived("x", "grüße\n"), {"event": "message", "sender": "x", "text": "grüße\n"}),
        (GroupMessageReceived("x", "hi"), {"event": "group_message", "sender": "x", "text": "hi"}),
        (
            LetterReceived("x", "hi", 1.25, group=True, first=False),
            {"event": "letter", "sender": "x", "text": "hi", "sent_at": 1.25, "group": True, "first": False},
        ),
        (ReceiptReceived("y", 1.5), {"event": "receipt", "recipient": "y", "sent_at": 1.5}),
        (MessageNotOpened("y", 1.5), {"event": "message_not_opened", "recipient": "y", "sent_at": 1.5}),
        (ForgedReceiptReceived("y"), {"event": "forged_receipt", "recipient": "y"}),
        (LetterUnreadable("x"), {"event": "letter_unreadable", "sender": "x"}),
        (KeyWarning("y", "a", "b"), {"event": "key_warning", "name": "y", "pinned": "a", "offered": "b"}),
        (GroupMessagesMissed(3), {"event": "missed", "count": 3}),
        (
            SignedOff(NameTaken("x")),
            {"event": "signed_off", "error": "NameTaken", "text": "the name x is taken: choose another one"},
        ),
        (ServerSilent(), {"event": "server_silent"}),
        (ServerBack(), {"event": "server_back"}),
    ],
)
def test_an_event_is_one_object(event, fields):
    assert told(BOOK.event(event)) == [fields]


def test_every_class_has_a_name_of_its_own():
    events = {*typing.get_args(Event)} - {TableChanged}  # which is told by the table itself
    assert {*EVENTS} == events | {*typing.get_args(Result)}
    assert len({*EVENTS.values()}) == len(EVENTS)


def test_the_documentation_lists_every_event_with_its_fields():
    rows = re.findall(r"^\| `(\w+)` \|(.*?)\|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    listed = {name: tuple(re.findall(r"`(\w+)`", fields)) for name, fields in rows}
    assert listed.pop("entry") == tuple(field.name for field in attrs.fields(Entry))
    row = listed.pop("row")
    assert row == tuple(field.name for field in attrs.fields(TableRow)) == tuple(ROW)
    assert listed == {name: fields_of(kind) for kind, name in EVENTS.items()}


@pytest.mark.parametrize("kind", EVENTS)
def test_what_is_told_has_the_fields_that_it_should_have(kind):
    values = {field.name: NameTaken("x") if field.type is ChatError else "z" for field in attrs.fields(kind)}
    if kind is Table:
        values = {"rows": (TableRow(**ROW),)}
    if kind is History:
        values = {"entries": (Entry(**ENTRY),)}
    (fields,) = told([as_json(kind(**values))])
    assert tuple(fields) == ("event", *fields_of(kind))


@given(ANY_TEXT)
@example("\x00\x1b[2J\x7f\x85\u202e\u2028\ud800")
def test_whatever_others_write_comes_back_whole_and_harms_no_terminal(text):
    assert told(BOOK.event(MessageReceived("x", text))) == [{"event": "message", "sender": "x", "text": text}]
    assert told(BOOK.lines(Phrase.UNKNOWN_COMMAND, text=text))[0]["text"] == f"no such command: {text}"


@pytest.mark.parametrize("phrase", Phrase)
def test_each_phrase_has_an_object_or_says_nothing(phrase):
    for fields in told(BOOK.lines(phrase, name="y", text="{0}", at=1.0, count=2, key="k", pinned="p")):
        assert fields["event"] in EVENTS.values()


@pytest.mark.parametrize("error", [MailboxFull("y"), ServerNotResponding(), ChatError("b@d\x1b")])
def test_an_error_is_told_by_its_class(error):
    assert told(BOOK.error(error)) == [{"event": "error", "error": type(error).__name__, "text": str(error)}]
    assert hasattr(trio_chat.errors, type(error).__name__)


# --- a conversation ---


class Script:
    """A chat of `x` that answers at once."""

    def __init__(self):
        self.name, self.online, self.waiting = "x", True, 2
        self.table, self.untrusted = {"y": Person()}, {"y"}
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

    async def register(self):
        await trio.lowlevel.checkpoint()
        self.online = True
        return 3

    async def deregister(self):
        await trio.lowlevel.checkpoint()
        self.online = False

    def trust(self, name):
        return "k"

    async def history(self, name, count):
        await trio.lowlevel.checkpoint()
        return [Entry(**ENTRY)]

    async def search(self, words):
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


TABLE = {"event": "table", "rows": [ROW | {"key": "aaaa", "key_changed": True}]}


async def run(*typed, happens=()):
    """What a program is told of a conversation."""
    chat, said = Script(), []
    keys, lines = trio.open_memory_channel(10)
    for event in happens:
        chat.happens.send_nowait(event)
    for line in typed:
        keys.send_nowait(line)
    keys.close()
    with trio.fail_after(5):
        await converse(chat, lines, said.append, BOOK)
    return told(said)


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
        ("send", [{"event": "error", "error": "InvalidText", "text": "a text has 1 to 16384 bytes, not 0"}]),
        ("send_all hi", [{"event": "posted"}]),
        ("who", [TABLE]),
        ("trust y", [{"event": "trusted", "name": "y", "key": "k"}]),
        ("history", [{"event": "history", "entries": [ENTRY]}]),
        ("search hi", [{"event": "history", "entries": []}]),
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
    assert await run(typed) == [REGISTERED, *result, DEREGISTERED]


async def test_going_and_coming_back():
    assert await run("dereg", "reg", "dereg") == [
        REGISTERED,
        DEREGISTERED,
        {"event": "registered", "waiting": 3},
        DEREGISTERED,
    ]


async def test_a_change_of_the_table_brings_the_table():
    assert [fields for fields in await run(happens=[TableChanged()]) if fields["event"] == "table"] == [TABLE]
