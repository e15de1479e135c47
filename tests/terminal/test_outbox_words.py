"""Every line about messages in the outbox, word by word, in both wordings.

No clock, no network: results go in, lines come out.
"""

import time

import pytest
from msgspec.structs import replace

from trio_chat import (
    Banned,
    KeyChanged,
    KeyNotRemembered,
    MailboxFull,
    MembersNotTrusted,
    NameTaken,
    NoRoom,
    NotInvited,
    NotOpened,
    NotRegistered,
    RegistrationClosed,
    ServerKeyChanged,
    ServerNotResponding,
    ServerSilent,
    ServerTooNew,
    ServerTooOld,
    SignedInElsewhere,
    TooFast,
    TooManyNames,
    TooManyPeople,
    UnknownRecipient,
    WrongServerKey,
)
from trio_chat.client.events import MessageState, OutgoingChanged
from trio_chat.client.outgoing_queue import PAUSES
from trio_chat.errors import TriedTooLong
from trio_chat.terminal.phrases import Wording
from trio_chat.terminal.results import (
    Failed,
    MessageCancelled,
    MessageQueued,
    MessagesWait,
    NoAnswer,
    OutboxList,
    WaitingMessage,
)
from trio_chat.terminal.unfinished import NotDone, NotTold
from trio_chat.terminal.wordings import Phrasebook

GROUP, CHANNEL = Phrasebook(), Phrasebook(Wording.CHANNEL)
AT = 1648153596.7672942  # 20:26:36 UTC
MESSAGE = {"number": 3, "id": b"i", "recipient": "y", "room": "", "at": AT}
TO_OX = {"recipient": "", "room": "ox"}
TO_ALL = {"recipient": "", "room": "Everyone"}
WAITS = WaitingMessage(**MESSAGE, text="hi", tried=False)

REASONS = [
    (ServerNotResponding(), "the server is not responding. It is sent later"),
    (NotRegistered(), "you are offline. Type reg to send it"),
    (MailboxFull("y"), "the mailbox of y is full. It is sent later"),
    (TooFast(3.0), "you have sent too much at once. It is sent later"),
    (MembersNotTrusted("ox"), "the server does not show who is in the group. It is sent later"),
    (KeyChanged("y", "old", "new"), "the key of y has changed. If the new one is right, trust y sends it"),
    (KeyNotRemembered("y", "k"), "the key of y is not known yet. If who shows the right one, trust y sends it"),
    (NameTaken("x"), "your name has another owner at the server. Ask its operator"),
    (Banned(), "you are banned from this server. Ask its operator"),
    (TooManyNames(), "your key has too many names at the server. Ask its operator"),
    (NoRoom(), "the server has no room for new names. Ask its operator"),
    (RegistrationClosed(), "the server takes no new names. Ask its operator"),
    (NotInvited(), "the server wants an invitation for your name. Ask its operator"),
    (TooManyPeople(), "the server sends too many names. Ask its operator"),
    (WrongServerKey("a{0}", "b"), "the key given for the server is a{0}, but the server's key is b"),
]
"""Why a message to y waits, and what to do."""


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def texts(result, book=GROUP):
    return [line.text for line in book.render(result)]


@pytest.mark.parametrize(
    ("state", "fields", "group", "channel"),
    [
        ("received", {}, "[Message received by y.]", "[Message has been received by y.]"),
        ("relayed", {}, "[Message relayed to y by the server.]", None),
        (
            "saved",
            {"sent_at": AT},
            "[Offline Message to y sent at 20:26:36 received by the server and saved.]",
            "[Message to y received by the server and saved.]",
        ),
        ("posted", TO_ALL, "[Group Message received by Server.]", "[Message received by the server.]"),
        ("posted", TO_OX, "(ox) [Message received by Server.]", None),
        ("received", {"waited": True}, "[Your message to y of 20:26:36 was received.]", None),
        ("relayed", {"waited": True}, "[Your message to y of 20:26:36 was relayed by the server.]", None),
        ("saved", {"waited": True, "sent_at": AT}, "[Your message to y of 20:26:36 was saved by the server.]", None),
        (
            "posted",
            TO_OX | {"waited": True},
            "[Your message to group ox of 20:26:36 was received by the server.]",
            None,
        ),
        (
            "posted",
            TO_ALL | {"waited": True},
            "[Your message to everyone of 20:26:36 was received by the server.]",
            None,
        ),
    ],
)
def test_a_message_was_sent(state, fields, group, channel):
    change = OutgoingChanged(**MESSAGE | fields, state=MessageState(state))
    assert texts(change) == [group]
    assert texts(change, CHANNEL) == [channel or group]


@pytest.mark.parametrize(("error", "why"), REASONS, ids=[type(error).__name__ for error, _ in REASONS])
def test_a_message_has_to_wait(error, why):
    change = OutgoingChanged(**MESSAGE, state=MessageState.WAITING, error=error)
    assert texts(change) == texts(change, CHANNEL) == [f"[Your message to y waits: {why}; cancel 3 withdraws it.]"]
    (queued,) = GROUP.queued(change)
    short = why.partition(". ")[0]
    assert queued.text == f"[Your message to y waits: {short}. The next send --queue or client --reconnect sends it.]"


ENDS_IT = {SignedInElsewhere, ServerKeyChanged, ServerTooOld, ServerTooNew}
"""After these the program ends."""


def test_every_error_with_which_a_message_waits_has_words():
    assert {*PAUSES} - {type(error) for error, _ in REASONS} == ENDS_IT


@pytest.mark.parametrize("waited", [False, True])
@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (UnknownRecipient("y"), ["[Your message to y of 20:26:36 was not sent:]", "[No such user: y]"]),
        (
            NotOpened("y"),
            ["[Your message to y of 20:26:36 has failed:]", "[Message received by y, who could not open it.]"],
        ),
        (
            TriedTooLong(),
            [
                "[Your message to y of 20:26:36 has failed:]",
                "[It was tried for 14 days, and nobody knows whether it has arrived: ask its recipient.]",
            ],
        ),
    ],
)
def test_a_message_has_failed(error, lines, waited):
    change = OutgoingChanged(**MESSAGE, state=MessageState.FAILED, error=error, waited=waited)
    assert texts(change) == texts(change, CHANNEL) == lines


@pytest.mark.parametrize(
    ("result", "lines"),
    [
        (MessageQueued(**MESSAGE), []),
        (OutboxList(()), ["[No message waits to be sent.]"]),
        (
            OutboxList((WAITS, replace(WAITS, number=4, tried=True, **TO_OX))),
            ["3  2022-03-24 20:26:36  to y: hi", "4  2022-03-24 20:26:36  to group ox (tried): hi"],
        ),
        (MessageCancelled(**MESSAGE, tried=False), ["[Your message to y of 20:26:36 is withdrawn.]"]),
        (
            MessageCancelled(**MESSAGE, tried=True),
            ["[Your message to y of 20:26:36 is withdrawn. It was tried before, and may have arrived.]"],
        ),
        (
            MessagesWait(2),
            ["[Messages that wait to be sent: 2. The next start with --reconnect sends them.]"],
        ),
        (
            ServerSilent(AT, 2),
            ["[Server not responding since 20:26:36, trying again.]", "[Messages that wait to be sent: 2.]"],
        ),
        (Failed(NotDone("list_groups")), ["[Not done: list_groups]"]),
        (Failed(NotDone("send y hi", "y")), ["[Your message to y was not sent.]"]),
        (Failed(NotTold()), ["[The server is not responding: others may see you online for a minute.]"]),
    ],
)
def test_other_lines(result, lines):
    assert texts(result) == texts(result, CHANNEL) == lines


def test_the_outbox_shows_the_beginning_of_a_text_in_one_line():
    rows = [replace(WAITS, text=text) for text in ("a\nb\x1b", "c" * 40, "d" * 41, "e" * 39 + "\nf")]
    assert [line.partition("to y: ")[2] for line in texts(OutboxList(tuple(rows)))] == [
        "a b\\x1b",
        "c" * 40,
        "d" * 40 + "...",
        "e" * 39 + " ...",
    ]


def test_a_client_that_goes_on_does_not_say_that_it_ends():
    assert texts(Failed(ServerNotResponding())) == ["[Server not responding]", "[Exiting]"]
    assert texts(NoAnswer("who")) == ["[Server not responding: no answer to who. Try again later.]"]
