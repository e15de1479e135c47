"""Conversations played with a chat that is all script: what is typed, what happens, what is printed."""

import time
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from trio_chat import (
    Delivery,
    Entry,
    Fallback,
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
    NotRegistered,
    ServerNotResponding,
    SignedInElsewhere,
    SignedOff,
    TableChanged,
    TooFast,
    UnknownRecipient,
)
from trio_chat.terminal.commands import help_lines
from trio_chat.terminal.conversation import converse
from trio_chat.terminal.wordings import Phrasebook, Wording

GROUP, CHANNEL = Phrasebook(Wording.GROUP), Phrasebook(Wording.CHANNEL)
WELCOME = "[Welcome, You are registered.]"
BYE = "[You are Offline. Bye.]"
NO_SERVER = pytest.RaisesGroup(ServerNotResponding, flatten_subgroups=True)
ELSEWHERE = pytest.RaisesGroup(SignedInElsewhere, flatten_subgroups=True)
OLD, NEW = "aaaa-bbbb-cccc-dddd", "2222-3333-4444-5555"
WARNING = (
    "[WARNING: the key of y has changed!]",
    f"[It was {OLD}, now it is {NEW}.]",
    "[Someone may be posing as y. Ask by another way; if the new key is right, type: trust y]",
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
    """A chat of `x` that does as it is told: `answers` gives, for each call, what it returns or raises, and when."""

    def __init__(self):
        self.name = "x"
        self.online = True
        self.waiting = 0
        self.table = {}
        self.untrusted = set()
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
            self.left = "on line" if self.online else "off line"

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


class Play:
    """One conversation; `typed` goes in line by line, or at its own time through `keys`."""

    def __init__(self, chat, book=GROUP):
        self.chat, self.book = chat, book
        self.printed = []
        self.keys, self._lines = trio.open_memory_channel(10)

    async def run(self, *typed, stay=False):
        for line in typed:
            self.keys.send_nowait(line)
        self.keys.close()
        return await self.wait(stay=stay)

    async def wait(self, stay=False):
        await converse(self.chat.open(), self._lines, self.printed.append, self.book, stay=stay)
        return self.printed


async def run(chat, *typed, book=GROUP):
    """What is printed between the welcome and the good-bye."""
    printed = await Play(chat, book).run(*typed)
    if book is GROUP:
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
    assert await run(chat, "send y hi", "send_all hi", "dereg", "reg", book=CHANNEL) == [
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
    play = Play(chat)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(play.run, "send y hi")
        await trio.sleep(1)
        assert play.printed == [WELCOME, "[No ACK from y, message sent to server.]"]
    assert play.printed[2:] == ["[Message relayed to y by the server.]", BYE]


async def test_a_message_to_one_who_is_known_to_be_away(chat):
    chat.fallback = Fallback.OFFLINE
    chat.answers["send"] = Delivery("saved", 0.5)
    assert await run(chat, "send y hi", book=CHANNEL) == [
        "[No ACK from y, message sent to server.]",
        "[Messages received by the server and saved.]",
    ]


async def test_commands_wait_for_each_other_and_events_do_not(chat, autojump_clock):
    chat.seconds = 2.0
    play = Play(chat)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(play.run, "send y one", "send z two")
        await trio.sleep(1)
        chat.happens.send_nowait(MessageReceived("z", "meanwhile"))
        await trio.sleep(2)
        assert play.printed[1:] == ["z: meanwhile", "[Message received by y.]"]
    assert [call[1] for call in chat.calls[:2]] == ["y", "z"]
    assert play.printed[-2:] == ["[Message received by z.]", BYE]


async def test_going_and_coming_back_to_letters(chat, autojump_clock):
    chat.answers["register"] = 2
    play = Play(chat)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(play.wait)
        await play.keys.send("dereg")
        await play.keys.send("reg")
        await trio.sleep(1)
        chat.happens.send_nowait(LetterReceived("y", "one", 0.0, group=False, first=True))
        chat.happens.send_nowait(LetterReceived("z", "two", 0.0, group=True, first=False))
        await trio.sleep(1)
        assert play.printed[:4] == [WELCOME, BYE, "[RegSent]", "[You have offline messages:]"]
        one, two = play.printed[4:]
        assert one.startswith("y: ")
        assert one.endswith(" one")
        assert two.startswith("Group Chat z: ")
        play.keys.close()


async def test_coming_back_to_no_letters(chat):
    assert await run(chat, "dereg", "reg") == [BYE, "[RegSent]", "[You have no offline messages.]"]


async def test_reg_and_dereg_take_ones_own_name_in_any_case(chat):
    chat.answers["register"] = 1
    assert await run(chat, "dereg X", "reg x") == [BYE, "[RegSent]"]


@pytest.mark.parametrize("typed", ["reg y", "dereg y", "dereg x y"])
async def test_reg_and_dereg_take_nobody_elses_name(chat, typed):
    assert await run(chat, typed) == ["[You can only do that for yourself.]"]
    assert chat.calls == [("deregister",)]


async def test_reg_while_on_line(chat):
    assert await run(chat, "reg") == ["[You are already registered.]"]
    assert ("register",) not in chat.calls


@pytest.mark.parametrize("typed", ["send y hi", "send_all hi", "dereg"])
async def test_off_line_one_is_told_how_to_come_back(chat, typed):
    chat.online = False
    chat.answers = dict.fromkeys(["send", "send_all", "deregister"], NotRegistered())
    assert await Play(chat).run(typed) == [WELCOME, "[You are offline. Type reg to come back.]"]


async def test_who_help_and_exit_work_off_line(chat):
    chat.online = False
    chat.table = {"x": Row("x", online=False)}
    printed = await Play(chat).run("who", "help", "exit", "send y never")
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


async def test_who_shows_by_which_key_each_is_known(chat):
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


async def test_a_key_that_has_changed_is_warned_of_until_it_is_trusted(chat, autojump_clock):
    play = Play(chat)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(play.wait)
        chat.happens.send_nowait(KeyWarning("y", OLD, NEW))
        await trio.sleep(1)
        chat.answers = {"send": KeyChanged("y", OLD, NEW), "trust": NEW}
        await play.keys.send("send y hi")
        await play.keys.send("trust y")
        await trio.sleep(1)
        chat.answers.clear()
        await play.keys.send("send y hi")
        play.keys.close()
    accepted = f"[The key of y is trusted now: {NEW}]"
    assert play.printed == [WELCOME, *WARNING, *WARNING, accepted, "[Message received by y.]", BYE]
    assert ("trust", "y") in chat.calls


@pytest.fixture
def tokyo(monkeypatch):
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


WRITTEN = [
    Entry(1648153596.7, "y", "hi\x1b[31m]\n"),
    Entry(1648153597.0, "y", "and hi", sent=True),
    Entry(1648153597.9, "Y", "to everyone", group=True),
    Entry(1648153598.0, "", "to everyone", sent=True, group=True),
]


@pytest.mark.parametrize("typed", ["history", "search hi"])
async def test_what_was_written_is_shown(chat, tokyo, typed):
    chat.answers = {"history": WRITTEN, "search": WRITTEN}
    assert await run(chat, typed) == [
        r"[2022-03-25 05:26:36 y: hi\x1b[31m]\n]",
        "[2022-03-25 05:26:37 to y: and hi]",
        "[2022-03-25 05:26:37 Group Chat Y: to everyone]",
        "[2022-03-25 05:26:38 Group Chat to all: to everyone]",
    ]


async def test_what_was_written_in_the_other_wording(chat, tokyo):
    chat.answers = {"history": WRITTEN}
    assert await run(chat, "history", book=CHANNEL) == [
        r"[2022-03-25 05:26:36 y : hi\x1b[31m]\n]",
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
async def test_the_history_is_asked_for_what_was_typed(chat, typed, call):
    assert await run(chat, typed) == ["[Nothing found.]"]
    assert chat.calls[0] == call


@pytest.mark.parametrize("typed", ["history", "search hi"])
async def test_where_no_history_is_kept(chat, typed):
    chat.answers = {"history": NoHistory(), "search": NoHistory()}
    assert await run(chat, typed) == ["[No history is kept.]"]


async def test_nothing_and_nonsense(chat):
    assert await run(chat, "", "  ", "dance\x1b[2J now") == ["[Unknown command: dance\\x1b[2J. Type help.]"]


@pytest.mark.parametrize(
    ("typed", "error", "line"),
    [
        ("send y hi", UnknownRecipient("y"), "[No such user: y]"),
        ("send b@d hi", InvalidName("b@d"), "[No such user: b@d]"),
        ("send x hi", InvalidRecipient(), "[You cannot send to yourself.]"),
        ("send y", InvalidText(0), "[Nothing to send.]"),
        ("send y ...", InvalidText(20000), "[Too long: 20000 bytes, at most 16384.]"),
        ("send y hi", MailboxFull("y"), "[The mailbox of y is full, message not sent.]"),
        ("send y hi", NameTaken("x"), "[Name x is taken.]"),
        ("send y hi", TooFast(), "[Too fast, message not sent.]"),
    ],
)
async def test_what_cannot_be_sent_is_told_and_life_goes_on(chat, typed, error, line):
    chat.answers["send"] = error
    assert await run(chat, typed, "send_all hi") == [line, "[Group Message received by Server.]"]


async def test_nobody_whom_the_server_does_not_know_can_be_trusted(chat):
    chat.answers["trust"] = UnknownRecipient("y")
    assert await run(chat, "trust y") == ["[No such user: y]"]


async def test_send_alone_sends_nothing(chat):
    assert await run(chat, "send") == ["[Nothing to send.]"]
    assert chat.calls == [("deregister",)]


async def test_a_name_that_is_taken_meanwhile(chat):
    chat.answers["register"] = NameTaken("x")
    chat.answers["send"] = NotRegistered()
    assert await Play(chat).run("dereg", "reg", "send y hi") == [
        WELCOME,
        BYE,
        "[RegSent]",
        "[Name x is taken.]",
        "[You are offline. Type reg to come back.]",
    ]


# --- how it ends ---


@pytest.mark.parametrize("typed", [("exit", "send y never"), ()])
async def test_exit_and_the_end_of_input_deregister(chat, typed):
    assert await Play(chat).run(*typed) == [WELCOME, BYE]
    assert chat.calls == [("deregister",)]
    assert chat.left == "off line"


async def test_what_has_arrived_is_shown_before_leaving(chat):
    for number in range(50):
        chat.happens.send_nowait(MessageReceived("y", str(number)))
    printed = await Play(chat).run("exit")
    assert [line for line in printed if line.startswith("y: ")] == [f"y: {number}" for number in range(50)]


async def test_with_stay_the_end_of_input_is_not_the_end(chat, autojump_clock):
    play = Play(chat)
    with trio.move_on_after(100):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: play.run("send y hi", stay=True))
            await trio.sleep(50)
            chat.happens.send_nowait(MessageReceived("y", "still there?"))
    assert play.printed == [WELCOME, "[Message received by y.]", "y: still there?"]
    assert chat.left == "by an exception"


async def test_with_stay_exit_still_exits(chat):
    assert await Play(chat).run("exit", stay=True) == [WELCOME, BYE]


@pytest.mark.parametrize("typed", ["send y hi", "send_all hi", "dereg", "exit"])
async def test_a_server_that_does_not_respond_ends_it(chat, typed):
    chat.answers = dict.fromkeys(["send", "send_all", "deregister"], ServerNotResponding())
    play = Play(chat)
    with NO_SERVER:
        await play.run(typed, "who")
    assert play.printed == [WELCOME]
    assert chat.left == "by an exception"


async def test_a_server_that_does_not_respond_to_reg_ends_it(chat):
    chat.online = False
    chat.answers["register"] = ServerNotResponding()
    play = Play(chat)
    with NO_SERVER:
        await play.run("reg")
    assert play.printed == [WELCOME, "[RegSent]"]


async def test_a_server_that_is_gone_when_we_come_back_by_ourselves_ends_it(chat):
    chat.happens.send_nowait(SignedOff(ServerNotResponding()))
    play = Play(chat)
    with NO_SERVER:
        await play.wait()
    assert play.printed == [WELCOME]


async def test_a_name_that_is_lost_to_someone_else_does_not_end_it(chat, autojump_clock):
    play = Play(chat)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(play.wait)
        await trio.sleep(1)
        chat.online = False
        chat.happens.send_nowait(SignedOff(NameTaken("x")))
        await trio.sleep(1)
        await play.keys.send("reg")
        await play.keys.send("exit")
    assert play.printed[1:] == ["[Name x is taken.]", "[RegSent]", "[You have no offline messages.]", BYE]


@pytest.mark.parametrize("typing", ["going on", "ended, with --stay", "ended"])
async def test_whoever_signs_in_at_another_place_ends_here(chat, typing, autojump_clock):
    play = Play(chat)
    if typing != "going on":
        play.keys.close()
    chat.seconds = 1.0  # which leaving takes
    chat.happens.send_nowait(MessageReceived("y", "before"))
    chat.happens.send_nowait(SignedOff(SignedInElsewhere()))
    with trio.fail_after(10), ELSEWHERE:
        await play.wait(stay=typing.endswith("--stay"))
    assert play.printed == [WELCOME, "y: before"]
    assert chat.left == "by an exception"


@pytest.mark.parametrize("typed", ["send y hi", "send_all hi", "exit"])
async def test_that_one_is_on_line_elsewhere_may_come_as_an_answer(chat, typed):
    chat.answers = dict.fromkeys(["send", "send_all", "deregister"], SignedInElsewhere())
    play = Play(chat)
    with ELSEWHERE:
        await play.run(typed, "who")
    assert play.printed == [WELCOME]


async def test_a_chat_that_cannot_be_opened_says_nothing(chat):
    @asynccontextmanager
    async def taken():
        raise NameTaken("x")
        yield

    printed = []
    with pytest.RaisesGroup(NameTaken):
        await converse(taken(), chat.events, printed.append, GROUP)
    assert printed == []


async def test_who_cannot_print_leaves(chat):
    def say(line):
        raise BrokenPipeError

    with pytest.RaisesGroup(BrokenPipeError, flatten_subgroups=True):
        await converse(chat.open(), chat.events, say, GROUP)
    assert chat.left == "by an exception"
