"""What is said, word by word, in both wordings."""

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_chat import (
    AddressError,
    Delivery,
    Entry,
    Fallback,
    ForgedReceipt,
    ForgedReceiptReceived,
    GroupMessageReceived,
    GroupMessagesMissed,
    IdentityError,
    InvalidName,
    InvalidRecipient,
    InvalidText,
    KeyChanged,
    KeyWarning,
    LetterReceived,
    LetterUnreadable,
    MailboxFull,
    MessageNotOpened,
    MessageReceived,
    NameTaken,
    NoHistory,
    NotOpened,
    NotRegistered,
    ReceiptReceived,
    ServerBack,
    ServerKeyChanged,
    ServerNotResponding,
    ServerSilent,
    SignedInElsewhere,
    SignedOff,
    TableChanged,
    TooFast,
    UnknownRecipient,
)
from trio_chat.terminal.wordings import Phrase, Phrasebook, TableRow, Wording, escape

GROUP = Phrasebook()
CHANNEL = Phrasebook(Wording.CHANNEL)

AT = 1648153596.7672942  # 20:26:36 UTC, 05:26:36 in Tokyo

BIDI = {*"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@pytest.fixture(autouse=True)
def tokyo(monkeypatch):
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


SAME = object()

OLD, NEW = "aaaa-bbbb-cccc-dddd", "2222-3333-4444-5555"

KEY_CHANGED = [
    "[WARNING: the key of y has changed!]",
    f"[It was {OLD}, now it is {NEW}.]",
    "[Someone may be posing as y. Ask by another way; if the new key is right, type: trust y]",
]
SERVER_KEY_CHANGED = [
    "[WARNING: the key of the server has changed!]",
    f"[It was {OLD}, now it is {NEW}.]",
    f"[Someone may be posing as the server. If you know that the new key is right, start with --server-key {NEW}]",
    "[Exiting]",
]
NOT_OPENED = ["[Message received by y, who could not open it.]"]
LETTER_NOT_OPENED = ["[Offline Message sent at 05:26:36 could not be opened by y.]"]
UNREADABLE = ["[A message that claims to be from y could not be opened or verified.]"]
FORGED = ["[WARNING: the server showed a forged receipt of y.]"]


@pytest.mark.parametrize(
    ("phrase", "facts", "group", "channel"),
    [
        (Phrase.REGISTERED, {}, ["[Welcome, You are registered.]"], []),
        (Phrase.TABLE_CHANGED, {}, [], ["[Client Table Updated]"]),
        (
            Phrase.ACKNOWLEDGED,
            {"name": "y"},
            ["[Message received by y.]"],
            ["[Message has been received by y.]"],
        ),
        (Phrase.MESSAGE, {"name": "x", "text": "hi"}, ["x: hi"], ["x : hi"]),
        (Phrase.NO_ACK, {"name": "y"}, ["[No ACK from y, message sent to server.]"], SAME),
        (Phrase.KNOWN_AWAY, {"name": "y"}, [], ["[No ACK from y, message sent to server.]"]),
        (
            Phrase.SAVED,
            {"at": AT},
            ["[Offline Message sent at 05:26:36 received by the server and saved.]"],
            ["[Messages received by the server and saved.]"],
        ),
        (Phrase.RELAYED, {"name": "y"}, ["[Message relayed to y by the server.]"], SAME),
        (Phrase.RECEIPT, {"name": "y", "at": AT}, ["[Offline Message sent at 05:26:36 received by y.]"], []),
        (Phrase.POSTED, {}, ["[Group Message received by Server.]"], ["[Message received by the server.]"]),
        (Phrase.GROUP_MESSAGE, {"name": "x", "text": "hi"}, ["Group Chat x: hi"], ["Channel_Message x : hi"]),
        (Phrase.DEREGISTERED, {}, ["[You are Offline. Bye.]"], ["[You are now offline. Bye.]"]),
        (Phrase.REG_SENT, {}, ["[RegSent]"], []),
        (Phrase.LETTERS, {}, ["[You have offline messages:]"], ["[You have message]"]),
        (
            Phrase.LETTER,
            {"name": "x", "text": "hi", "at": AT},
            ["x: 05:26:36 hi"],
            ["(1648153596.767) x : hi"],
        ),
        (
            Phrase.GROUP_LETTER,
            {"name": "x", "text": "hi", "at": AT},
            ["Group Chat x: 05:26:36 hi"],
            ["(1648153596.767) Channel_Message x : hi"],
        ),
        (Phrase.HAS_LETTERS, {"count": 2}, [], []),
        (Phrase.NO_LETTERS, {}, ["[You have no offline messages.]"], []),
        (Phrase.MISSED, {"count": 7}, ["[7 group messages were not kept.]"], SAME),
        (
            Phrase.NO_SERVER,
            {},
            ["[Server not responding]", "[Exiting]"],
            ["[Message sent failed]", "[Server is shut down]", "[Exiting]"],
        ),
        (Phrase.SERVER_SILENT, {}, ["[Server not responding, trying again.]"], SAME),
        (Phrase.SERVER_BACK, {}, ["[Server is back.]"], SAME),
        (Phrase.INTERRUPTED, {}, [], ["Caught keyboard interrupt. Exiting"]),
        (Phrase.UNKNOWN_NAME, {"name": "y"}, ["[No such user: y]"], SAME),
        (Phrase.OFFLINE, {}, ["[You are offline. Type reg to come back.]"], SAME),
        (Phrase.ALREADY_REGISTERED, {}, ["[You are already registered.]"], SAME),
        (Phrase.ONLY_YOURSELF, {}, ["[You can only do that for yourself.]"], SAME),
        (Phrase.TO_ONESELF, {}, ["[You cannot send to yourself.]"], SAME),
        (Phrase.NOTHING, {}, ["[Nothing to send.]"], SAME),
        (Phrase.TOO_LONG, {"count": 20000}, ["[Too long: 20000 bytes, at most 16384.]"], SAME),
        (Phrase.NOT_UNICODE, {}, ["[Not valid Unicode, message not sent.]"], SAME),
        (Phrase.MAILBOX_FULL, {"name": "y"}, ["[The mailbox of y is full, message not sent.]"], SAME),
        (Phrase.TOO_FAST, {}, ["[Too fast, message not sent.]"], SAME),
        (Phrase.UNKNOWN_COMMAND, {"text": "X"}, ["[Unknown command: X. Type help.]"], SAME),
        (Phrase.NAME_TAKEN, {"name": "x"}, ["[Name x is taken.]"], SAME),
        (Phrase.SIGNED_IN_ELSEWHERE, {}, ["[Signed in from another place.]", "[Exiting]"], SAME),
        (Phrase.KEY_CHANGED, {"name": "y", "pinned": OLD, "key": NEW}, KEY_CHANGED, SAME),
        (Phrase.SERVER_KEY_CHANGED, {"pinned": OLD, "key": NEW}, SERVER_KEY_CHANGED, SAME),
        (Phrase.TRUSTED, {"name": "y", "key": NEW}, [f"[The key of y is trusted now: {NEW}]"], SAME),
        (Phrase.NOT_OPENED, {"name": "y"}, NOT_OPENED, SAME),
        (Phrase.LETTER_NOT_OPENED, {"name": "y", "at": AT}, LETTER_NOT_OPENED, SAME),
        (Phrase.UNREADABLE, {"name": "y"}, UNREADABLE, SAME),
        (Phrase.FORGED_RECEIPT, {"name": "y"}, FORGED, SAME),
        (
            Phrase.HEADING,
            {"name": "name", "text": "address", "key": "fingerprint"},
            ["name  status    since     address  fingerprint"],
            SAME,
        ),
        (
            Phrase.ONLINE_ROW,
            {"name": "x", "text": "[::1]:9", "key": OLD, "at": AT},
            [f"x  on line   05:26:36  [::1]:9  {OLD}"],
            SAME,
        ),
        (
            Phrase.AWAY_ROW,
            {"name": "x", "text": "[::1]:9", "key": OLD, "at": AT},
            [f"x  off line  05:26:36  [::1]:9  {OLD}"],
            SAME,
        ),
        (Phrase.ROW_CHANGED, {"key": OLD}, [f"{OLD}  KEY CHANGED"], SAME),
        (Phrase.PASTE, {"count": 3}, ["[Paste of 3 lines: send them all? y/n]"], SAME),
        (
            Phrase.ENTRY,
            {"name": "x", "text": "hi", "at": AT},
            ["[2022-03-25 05:26:36 x: hi]"],
            ["[2022-03-25 05:26:36 x : hi]"],
        ),
        (
            Phrase.POST,
            {"name": "x", "text": "hi", "at": AT},
            ["[2022-03-25 05:26:36 Group Chat x: hi]"],
            ["[2022-03-25 05:26:36 Channel_Message x : hi]"],
        ),
        (
            Phrase.OWN_ENTRY,
            {"name": "y", "text": "hi", "at": AT},
            ["[2022-03-25 05:26:36 to y: hi]"],
            ["[2022-03-25 05:26:36 to y : hi]"],
        ),
        (
            Phrase.OWN_POST,
            {"text": "hi", "at": AT},
            ["[2022-03-25 05:26:36 Group Chat to all: hi]"],
            ["[2022-03-25 05:26:36 Channel_Message to all : hi]"],
        ),
        (Phrase.NOTHING_FOUND, {}, ["[Nothing found.]"], SAME),
        (Phrase.NO_HISTORY, {}, ["[No history is kept.]"], SAME),
        (Phrase.FRIEND_ONLINE, {"name": "3"}, ["[3 is online]"], SAME),
        (Phrase.FRIEND_AWAY, {"name": "y"}, ["[y is away]"], SAME),
        (Phrase.OTHER_ERROR, {"text": "odd"}, ["[odd]"], SAME),
    ],
)
def test_every_phrase_in_both_wordings(phrase, facts, group, channel):
    assert GROUP.lines(phrase, **facts) == tuple(group)
    assert CHANNEL.lines(phrase, **facts) == tuple(group if channel is SAME else channel)


def test_that_table_has_every_phrase():
    (cases,) = (mark.args[1] for mark in test_every_phrase_in_both_wordings.pytestmark)
    assert [case[0] for case in cases] == list(Phrase)


@pytest.mark.parametrize(
    ("event", "group", "channel"),
    [
        (MessageReceived("x", "hi"), ["x: hi"], ["x : hi"]),
        (GroupMessageReceived("x", "hi"), ["Group Chat x: hi"], ["Channel_Message x : hi"]),
        (
            LetterReceived("x", "hi", AT, group=False, first=True),
            ["[You have offline messages:]", "x: 05:26:36 hi"],
            ["[You have message]", "(1648153596.767) x : hi"],
        ),
        (
            LetterReceived("x", "hi", AT, group=True, first=False),
            ["Group Chat x: 05:26:36 hi"],
            ["(1648153596.767) Channel_Message x : hi"],
        ),
        (ReceiptReceived("y", AT), ["[Offline Message sent at 05:26:36 received by y.]"], []),
        (MessageNotOpened("y", AT), LETTER_NOT_OPENED, LETTER_NOT_OPENED),
        (ForgedReceiptReceived("y"), FORGED, FORGED),
        (LetterUnreadable("y"), UNREADABLE, UNREADABLE),
        (KeyWarning("y", OLD, NEW), KEY_CHANGED, KEY_CHANGED),
        (GroupMessagesMissed(3), ["[3 group messages were not kept.]"], ["[3 group messages were not kept.]"]),
        (TableChanged(), [], ["[Client Table Updated]"]),
        (ServerSilent(), ["[Server not responding, trying again.]"], ["[Server not responding, trying again.]"]),
        (ServerBack(), ["[Server is back.]"], ["[Server is back.]"]),
        (SignedOff(NameTaken("x")), ["[Name x is taken.]"], ["[Name x is taken.]"]),
    ],
)
def test_events_are_told(event, group, channel):
    assert GROUP.event(event) == tuple(group)
    assert CHANNEL.event(event) == tuple(channel)


@pytest.mark.parametrize(
    ("delivery", "group", "channel"),
    [
        (Delivery("direct"), "[Message received by y.]", "[Message has been received by y.]"),
        (Delivery("relayed"), "[Message relayed to y by the server.]", "[Message relayed to y by the server.]"),
        (
            Delivery("saved", AT),
            "[Offline Message sent at 05:26:36 received by the server and saved.]",
            "[Messages received by the server and saved.]",
        ),
    ],
)
def test_what_became_of_a_message_is_told(delivery, group, channel):
    assert GROUP.delivery(delivery, "y") == (group,)
    assert CHANNEL.delivery(delivery, "y") == (channel,)


def test_a_missing_acknowledgement_is_told_but_not_a_known_detour():
    no_ack = ("[No ACK from y, message sent to server.]",)
    assert {reason: GROUP.fallback(reason, "y") for reason in Fallback} == {
        Fallback.NO_ACK: no_ack,
        Fallback.OFFLINE: (),
        Fallback.DETOUR: (),
    }
    assert {reason: CHANNEL.fallback(reason, "y") for reason in Fallback} == {
        Fallback.NO_ACK: no_ack,
        Fallback.OFFLINE: no_ack,
        Fallback.DETOUR: (),
    }


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (NotRegistered(), ["[You are offline. Type reg to come back.]"]),
        (InvalidRecipient(), ["[You cannot send to yourself.]"]),
        (InvalidText(0), ["[Nothing to send.]"]),
        (InvalidText(16385), ["[Too long: 16385 bytes, at most 16384.]"]),
        (InvalidText(None), ["[Not valid Unicode, message not sent.]"]),
        (UnknownRecipient("y"), ["[No such user: y]"]),
        (InvalidName("b@d\n"), ["[No such user: b@d\\n]"]),
        (MailboxFull("y"), ["[The mailbox of y is full, message not sent.]"]),
        (NameTaken("x"), ["[Name x is taken.]"]),
        (ServerNotResponding(), ["[Server not responding]", "[Exiting]"]),
        (TooFast(), ["[Too fast, message not sent.]"]),
        (NoHistory(), ["[No history is kept.]"]),
        (NotOpened("y"), NOT_OPENED),
        (ForgedReceipt("y"), FORGED),
        (KeyChanged("y", OLD, NEW), KEY_CHANGED),
        (ServerKeyChanged(OLD, NEW), SERVER_KEY_CHANGED),
        (SignedInElsewhere(), ["[Signed in from another place.]", "[Exiting]"]),
        (IdentityError("damaged"), ["[damaged]"]),
        (AddressError("no such\x07 place"), ["[no such\\x07 place]"]),
    ],
)
def test_errors_are_told(error, lines):
    assert GROUP.error(error) == tuple(lines)


def test_the_table_has_columns_as_wide_as_what_is_in_them():
    rows = [
        TableRow("alice", "127.0.0.1", 59217, True, AT, OLD, False),
        TableRow("bob-the-builder", "2001:db8::1", 9, False, AT + 1, NEW, True),
        TableRow("x", "10.0.0.1", 9, True, AT, "", False),
        TableRow("y", "10.0.0.1", 9, False, AT, "", True),
    ]
    assert (
        GROUP.table(rows)
        == CHANNEL.table(rows)
        == (
            "name             status    since     address          fingerprint",
            f"alice            on line   05:26:36  127.0.0.1:59217  {OLD}",
            f"bob-the-builder  off line  05:26:37  [2001:db8::1]:9  {NEW}  KEY CHANGED",
            "x                on line   05:26:36  10.0.0.1:9",
            "y                off line  05:26:36  10.0.0.1:9         KEY CHANGED",
        )
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\r\nb\tc\x00", r"a\r\nb\tc\x00"),
        ("\x7f\x85\x9f", r"\x7f\x85\x9f"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\u202ereversed\u2066", r"\u202ereversed\u2066"),
        ("\ud800", r"\ud800"),
        ("plain \\x1b stays", r"plain \x1b stays"),
        ("né 両方 👩\u200d👩\u200d👧 क्\u200cष {name} %s", "né 両方 👩\u200d👩\u200d👧 क्\u200cष {name} %s"),
    ],
)
def test_controls_are_shown_and_nothing_else_is_touched(text, shown):
    assert escape(text) == shown
    assert GROUP.event(MessageReceived("x", text)) == (f"x: {shown}",)


def is_control(character):
    return unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} or character in BIDI


def test_each_control_character_is_escaped_and_no_other():
    plane = [chr(code) for code in range(0x10000)]
    assert [c for c in plane if escape(c) != c] == [c for c in plane if is_control(c)]


@given(ANY_TEXT)
def test_no_control_character_ever_gets_out(text):
    assert not any(map(is_control, escape(text)))
    if not any(map(is_control, text)):
        assert escape(text) == text


@given(name=ANY_TEXT, text=ANY_TEXT, wording=st.sampled_from(Wording))
def test_no_event_and_no_error_gets_a_control_character_out(name, text, wording):
    book = Phrasebook(wording)
    lines = [
        *book.event(MessageReceived(name, text)),
        *book.event(GroupMessageReceived(name, text)),
        *book.event(LetterReceived(name, text, AT, group=False, first=True)),
        *book.event(LetterReceived(name, text, AT, group=True, first=False)),
        *book.event(ReceiptReceived(name, AT)),
        *book.event(MessageNotOpened(name, AT)),
        *book.event(ForgedReceiptReceived(name)),
        *book.event(LetterUnreadable(name)),
        *book.event(KeyWarning(name, text, text)),
        *book.table([TableRow(name, text, 9, True, AT, text, True)]),
        *book.history(Entry(AT, name, text, sent, group) for sent in (False, True) for group in (False, True)),
        *book.delivery(Delivery("direct"), name),
        *book.fallback(Fallback.NO_ACK, name),
        *book.error(UnknownRecipient(name)),
        *book.error(NotOpened(name)),
        *book.error(ServerKeyChanged(text, text)),
        *book.lines(Phrase.TRUSTED, name=name, key=text),
        *book.error(AddressError(text)),
        *book.lines(Phrase.UNKNOWN_COMMAND, text=text),
    ]
    assert len(lines) >= 20
    assert not any(is_control(character) for line in lines for character in line)


def test_what_someone_writes_does_not_become_a_line_or_a_field_of_its_own():
    assert GROUP.event(MessageReceived("x", "one / two {time}")) == ("x: one / two {time}",)
