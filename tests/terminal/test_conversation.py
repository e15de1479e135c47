"""Conversations with a scripted chat: what is typed, which events come, and what is printed.

There is no network, and time is virtual where it matters.
"""

import time
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

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
    NotBlocked,
    NotRegistered,
    ServerKeyChanged,
    ServerNotResponding,
    SignedInElsewhere,
    SignedOff,
    TableChanged,
    TooFast,
    TooManyBlocked,
    UnknownRecipient,
)
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
INVALID_NAME = "[Not a name: b@d. A name has 1 to 32 letters, digits, _ . - and begins with a letter or digit.]"
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
        self.fallback = None
        self.seconds = 0.0
        self.calls = []
        self.left = None
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

    def trust(self, name):
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

    async def search(self, words):
        return await self._answer("search", words) or []

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
    assert printed[3:] == list(help_lines())
    assert chat.calls == []


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
]


@pytest.mark.parametrize("typed", ["history", "search hi"])
async def test_the_history_is_shown(chat, tokyo, typed):
    chat.answers = {"history": WRITTEN, "search": WRITTEN}
    assert await run(chat, typed) == [
        r"[2022-03-25 05:26:36 y: hi\x1b[31m]]",
        "[2022-03-25 05:26:37 to y: and hi]",
        "[2022-03-25 05:26:37 Group Chat Y: to everyone]",
        "[2022-03-25 05:26:38 Group Chat to all: to everyone]",
    ]


async def test_the_history_in_the_other_wording(chat, tokyo):
    chat.answers = {"history": WRITTEN}
    assert await run(chat, "history", phrasebook=CHANNEL) == [
        r"[2022-03-25 05:26:36 y : hi\x1b[31m]]",
        "[2022-03-25 05:26:37 to y : and hi]",
        "[2022-03-25 05:26:37 Channel_Message Y : to everyone]",
        "[2022-03-25 05:26:38 Channel_Message to all : to everyone]",
    ]


@pytest.mark.parametrize(
    ("typed", "call"),
    [
        ("history", ("history", None, 20)),
        ("history 5", ("history", None, 5)),
        ("history y", ("history", "y", 20)),
        ("history y 1000", ("history", "y", 1000)),
        ("search  hi there ", ("search", "hi there")),
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
        ("send y hi", TooFast(30.0), "[Too fast: try again in 30 s.]"),
    ],
)
async def test_an_error_is_shown_and_the_conversation_goes_on(chat, typed, error, line):
    chat.answers["send"] = error
    assert await run(chat, typed, "send_all hi") == [line, "[Group Message received by Server.]"]


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
        ("search", "search WORDS"),
        ("history 0", "history [NAME] [1-1000]"),
        ("who y", "who"),
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


@pytest.mark.parametrize("error", [SignedInElsewhere(), ServerKeyChanged(OLD, NEW)])
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
