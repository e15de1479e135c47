"""The prompt at a terminal: what a person types and sees, and how the terminal is left.

A real pseudo terminal, whose screen is drawn in memory; the tests wait for what must appear on it.
"""

import logging
import os
import stat
import termios
import threading
from collections import deque
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.pseudo_terminal import PseudoTerminal
from trio_chat import MessageReceived
from trio_chat.terminal import editor, prompt
from trio_chat.terminal.editor import MAX_KEPT_LINES, Keyboard, TypedLines
from trio_chat.terminal.prompt import MAX_UNPRINTED, Prompt, Tty
from trio_chat.terminal.styling import Line
from trio_chat.terminal.wordings import Phrasebook

ENTER, TAB, UP = "\r", "\t", "\x1b[A"
CTRL_A, CTRL_C, CTRL_D, CTRL_L, CTRL_R, CTRL_U = "\x01", "\x03", "\x04", "\x0c", "\x12", "\x15"


def question(count, command):
    return f"[{count} lines {command}?]" if command else f"[{count} lines?]"


def dropped(count):
    return [Line(f"[{count} lines not done]")]


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """The thread of a prompt may take its time to end, on a busy machine. It does not at a stopped terminal."""
    monkeypatch.setattr(prompt, "GRACE", 60)


class PersonAtPrompt:
    """A person at a prompt; `lines` are those that were typed."""

    def __init__(self, terminal, prompt, lines, scope):
        self.terminal, self.prompt, self.scope = terminal, prompt, scope
        self._lines = lines
        self.type, self.paste, self.sees = terminal.type, terminal.paste, terminal.sees

    def show(self, text):
        self.prompt.show(Line(text))

    async def next(self):
        with trio.fail_after(60):
            return await self._lines.receive()

    async def rest(self):
        with trio.fail_after(60):
            return [line async for line in self._lines]


@asynccontextmanager
async def person_at_prompt(columns=80, rows=24, *, at_once=False, is_left="free", **how):
    """A person at a prompt; afterwards the prompt is gone, and the terminal as before."""
    terminal = PseudoTerminal(columns, rows)
    try:
        with terminal.open() as stdin:
            at = Prompt(Keyboard(stdin), Tty(terminal.fd), question, dropped, **how)
            sender, lines = trio.open_memory_channel(100)
            async with trio.open_nursery() as outside:
                outside.start_soon(terminal.show)
                async with trio.open_nursery() as nursery:
                    await nursery.start(at.run, sender)
                    if not at_once:
                        await terminal.sees(">>>")
                    yield PersonAtPrompt(terminal, at, lines, nursery.cancel_scope)
                    nursery.cancel_scope.cancel()
                assert terminal.is_as_before
                terminal.go_on()
                if is_left == "stopped":
                    # Now its thread can end.
                    while trio.to_thread.current_default_thread_limiter().borrowed_tokens:
                        await trio.lowlevel.checkpoint()
                at.show(Line("(the end)"))
                await terminal.sees(lambda picture: picture.lines[-1:] == [">>> (the end)"])
                assert terminal.picture.modes & {"2004", "25"} == {"25"}, "pasting is as before, and there is a cursor"
                outside.cancel_scope.cancel()
    finally:
        terminal.close()


async def test_a_line_is_typed_and_stays_above_the_next_one():
    async with person_at_prompt() as person:
        person.type(f"send bob hi{ENTER}who{ENTER}")
        assert [await person.next(), await person.next()] == ["send bob hi", "who"]
        person.type("half")
        await person.sees(lambda picture: picture.lines == [">>> send bob hi", ">>> who", ">>> half"])


async def test_lines_appear_above_the_one_that_is_typed():
    async with person_at_prompt() as person:
        person.show("[Welcome]")
        person.type("half a ")
        await person.sees(">>> half a")
        person.show("x: hello")
        person.show("y: hello, too")
        person.type("line")
        await person.sees(
            lambda picture: picture.lines == [">>> [Welcome]", ">>> x: hello", ">>> y: hello, too", ">>> half a line"]
        )
        person.type(ENTER)
        assert await person.next() == "half a line"


async def test_lines_that_come_before_the_prompt_is_up_appear_above_it():
    async with person_at_prompt(at_once=True) as person:
        person.show("x: early")
        person.show("y: early, too")
        await person.sees(lambda picture: picture.lines == [">>> x: early", ">>> y: early, too", ">>>"])


async def test_a_long_line_is_edited_over_several_rows_while_others_talk():
    words = "send bob " + "long " * 30
    async with person_at_prompt(40, 12) as person:
        person.type(words)
        for number in range(30):
            person.show(f"x: {number}")
        await person.sees(lambda picture: ">>> x: 29" in picture.lines)
        person.type(f"{CTRL_A}yes: {ENTER}")
        assert await person.next() == f"yes: {words}"


async def test_the_prompt_follows_the_size_of_the_terminal():
    async with person_at_prompt() as person:
        person.type("half typed")
        await person.sees(">>> half typed")
        for size in ((40, 12), (100, 30)):
            person.terminal.resize(*size)
            await person.sees(lambda picture: picture.lines[-1:] == [">>> half typed"])
            person.type(".")
            person.show(f"x: {'a' * (size[0] - 7)}")
            await person.sees(f">>> x: {'a' * (size[0] - 7)}")
            person.type("\b")
        person.type(ENTER)
        assert await person.next() == "half typed"


async def test_a_resize_alone_is_followed():
    async with person_at_prompt() as person:
        person.type("send bob " + "x" * 50)
        await person.sees(">>> send bob " + "x" * 50)
        await trio.sleep(0.7)  # until nothing more comes of the keys
        person.terminal.resize(40, 12)
        await person.sees(lambda picture: picture.lines == [">>> send bob " + "x" * 27, "x" * 23])


async def test_the_terminal_never_echoes_by_itself_while_the_prompt_is_up(monkeypatch):
    echoes = []

    def write(tty, text):
        echoes.append(bool(termios.tcgetattr(tty.fileno())[3] & termios.ECHO))
        wrote(tty, text)

    wrote = Tty.write
    async with person_at_prompt() as person:
        monkeypatch.setattr(Tty, "write", write)
        for number in range(3):
            person.show(f"x: {number}")
            await person.sees(f">>> x: {number}")
        assert echoes
        assert not any(echoes)
        monkeypatch.undo()


async def test_ctrl_l_clears_the_screen_and_leaves_one_copy_of_the_line_that_is_typed():
    words, shown = "send bob " + "x" * 80, [">>> send bob " + "x" * 27, "x" * 40, "x" * 13]
    async with person_at_prompt(40, 12) as person:
        for number in range(20):
            person.show(f"x: {number}")
        await person.sees(">>> x: 19")
        person.type(words)
        await person.sees(lambda picture: picture.lines[-3:] == shown)
        person.type(CTRL_L)
        await person.sees(lambda picture: picture.lines == shown)
        # Nothing else would show that the second one has been done: what follows must not come before it.
        person.type(f"{CTRL_L}.")
        shown[-1] += "."
        await person.sees(lambda picture: picture.lines == shown)
        for text in ("y: new", "y: newer"):
            person.show(text)
            await person.sees(f">>> {text}")
        await person.sees(lambda picture: picture.lines == [">>> y: new", ">>> y: newer", *shown])
        assert person.terminal.picture.above == [f">>> x: {number}" for number in range(20)]
        person.type(ENTER)
        assert await person.next() == f"{words}."


async def test_ctrl_d_ends_the_input_after_what_was_typed():
    async with person_at_prompt() as person:
        person.type(f"who{ENTER}help{ENTER}")
        await person.sees(">>> help")
        person.type(CTRL_D)
        assert await person.rest() == ["who", "help"]


async def test_ctrl_d_in_a_line_is_not_the_end():
    async with person_at_prompt() as person:
        person.type(f"who{CTRL_D}{ENTER}")
        assert await person.next() == "who"


async def test_ctrl_c_clears_a_line_and_interrupts_in_an_empty_one():
    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        async with person_at_prompt() as person:
            person.type(f"who{ENTER}half")
            await person.sees(">>> half")
            person.type(CTRL_C)
            await person.sees(lambda picture: picture.lines == [">>> who", ">>>"])
            person.type(f"{UP}{ENTER}")
            assert [await person.next(), await person.next()] == ["who", "who"]
            person.type(CTRL_C)
            await trio.sleep_forever()


async def test_ctrl_c_ends_a_search_in_the_history_and_keeps_the_line():
    async with person_at_prompt() as person:
        person.type(f"who{ENTER}half")
        await person.sees(">>> half")
        person.type(f"{CTRL_R}wh")
        await person.sees(lambda picture: picture.lines[-1] != ">>> half")
        person.type(f"{CTRL_C}{ENTER}")
        assert [await person.next(), await person.next()] == ["who", "half"]


async def test_a_terminal_that_is_hung_up_has_ended():
    terminal = PseudoTerminal()
    with terminal.open() as stdin:
        at = Prompt(Keyboard(stdin), Tty(terminal.fd), question, dropped)
        sender, lines = trio.open_memory_channel(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(at.run, sender)
            with trio.fail_after(60):
                await trio.lowlevel.wait_readable(terminal.controller)
                os.close(terminal.controller)
                assert [line async for line in lines] == []
    terminal.close()


@pytest.mark.parametrize("checkpoints", range(20))
async def test_cancelled_before_it_is_up_it_restores_the_terminal(checkpoints):
    async with person_at_prompt(at_once=True) as person:
        person.show("x: hello")
        for _ in range(checkpoints):
            await trio.lowlevel.checkpoint()
        person.scope.cancel()
    assert ">>> x: hello" in person.terminal.picture.lines


async def test_at_the_end_everything_is_printed_and_the_prompt_is_gone():
    async with person_at_prompt() as person:
        person.type("half")
        await person.sees(">>> half")
        for number in range(100):
            person.show(f"x: {number}")
        person.scope.cancel()
    assert person.terminal.picture.everything == [f">>> x: {number}" for number in range(100)] + [">>> (the end)"]


async def test_a_line_that_is_typed_while_the_prompt_ends_is_sent(nursery):
    class Typed(deque):
        """Gets a line from the thread, which then ends, right after it was found empty."""

        def __bool__(self):
            if at._is_up:
                self.append("late")
                at._is_up = False
                return False
            return len(self) > 0

    terminal = PseudoTerminal()
    with terminal.open() as stdin:
        at = Prompt(Keyboard(stdin), Tty(terminal.fd), question, dropped)
        at._typed, at._is_up = Typed(), True
        sender, lines = trio.open_memory_channel(1)
        nursery.start_soon(at._send_typed, sender)
        await wait_all_tasks_blocked()
        at._stop(None)
        with trio.fail_after(60):
            assert await lines.receive() == "late"
    terminal.close()


async def test_lines_shown_when_the_event_loop_has_closed_are_printed(monkeypatch):
    def print_rest(at):
        trio.from_thread.run_sync(at.show, Line("x: late"))
        at._print_unprinted = lambda: print_and_show(at)
        original(at)

    def print_and_show(at):
        del at._print_unprinted
        at._print_unprinted()
        trio.from_thread.run_sync(at.show, Line("x: later"))

    original = Prompt._print_rest
    monkeypatch.setattr(Prompt, "_print_rest", print_rest)
    async with person_at_prompt() as person:
        person.type(CTRL_D)
        assert await person.rest() == []
    assert person.terminal.picture.everything[:2] == [">>> x: late", ">>> x: later"]


async def test_before_and_after_it_lines_are_printed_at_once(nursery):
    terminal = PseudoTerminal()
    with terminal.open() as stdin:
        Prompt(Keyboard(stdin), Tty(terminal.fd), question, dropped, colours=False).show(Line("[Exiting]"))
        nursery.start_soon(terminal.show)
        await terminal.sees(">>> [Exiting]")
        nursery.cancel_scope.cancel()
    terminal.close()


# --- a terminal that is stopped ---


async def test_a_stopped_terminal_stops_nothing_but_itself_and_fills_no_memory():
    shown = 0
    async with person_at_prompt() as person:
        person.terminal.stop()
        with trio.move_on_after(60) as until_full:
            while True:
                with trio.move_on_after(0.3) as waiting:
                    await person.prompt.ready()
                if not waiting.cancelled_caught:
                    person.show(f"{shown:05} {'x' * 994}")
                    shown += 1
                elif person.prompt._unprinted_size > MAX_UNPRINTED:  # not only a busy machine
                    break
        assert not until_full.cancelled_caught, "it is always ready"
        assert shown * 1000 <= 2 * MAX_UNPRINTED
        person.terminal.go_on()
        await person.prompt.ready()
        await person.sees(lambda picture: any(f"{shown - 1:05} x" in line for line in picture.everything))
    heads = [line[4:9] for line in person.terminal.picture.everything if line.startswith(">>> 0")]
    assert heads == [f"{number:05}" for number in range(shown)]


async def test_cancelled_at_a_stopped_terminal_it_ends_all_the_same(monkeypatch):
    monkeypatch.setattr(prompt, "GRACE", 0.2)
    async with person_at_prompt(at_once=True, is_left="stopped") as person:
        person.type("half")
        await person.sees(">>> half")
        person.terminal.stop()
        person.show("x" * 50_000)
        while person.prompt._unprinted:
            await trio.lowlevel.checkpoint()
        assert not person.terminal.is_as_before


@pytest.mark.parametrize("checkpoints", [0, 3])
async def test_cancelled_with_much_to_print_at_a_stopped_terminal_it_ends_all_the_same(checkpoints, monkeypatch):
    monkeypatch.setattr(prompt, "GRACE", 0.2)
    with trio.fail_after(60):
        async with person_at_prompt(at_once=True, is_left="stopped") as person:
            person.terminal.stop()
            for _ in range(checkpoints):
                await trio.lowlevel.checkpoint()
            for _ in range(2000):
                person.show("x" * 60)


# --- completion ---


async def test_commands_and_names_are_completed():
    asked = []

    def names():
        asked.append(threading.current_thread())
        return ["carol", "Bob", "bert"]

    async with person_at_prompt() as person:
        person.prompt.names = names
        person.type(f"tr{TAB}")
        await person.sees(">>> trust")
        person.type(f"ca{TAB}")
        await person.sees(">>> trust carol")
        person.type(ENTER)
        assert await person.next() == "trust carol"
        person.type(f"send bo{TAB}")
        await person.sees(">>> send Bob")
        person.type(f"hi {TAB}{ENTER}")
        assert await person.next() == "send Bob hi "
        person.type(f"send b{TAB}")
        await person.sees(lambda picture: [line.strip() for line in picture.lines[-2:]] == ["bert", "Bob"])
        person.type(f"{CTRL_U}WH{TAB}")
        await person.sees(">>> who")
        person.type(ENTER)
        assert (await person.next()).strip() == "who"
        assert set(asked) == {threading.current_thread()}


async def test_rooms_and_their_members_are_completed_where_they_can_be_typed():
    async with person_at_prompt() as person:
        person.prompt.names = lambda: ["bob"]
        person.prompt.rooms = lambda: ["Lunch", "build"]
        for typed, line in [
            (f"join_group lu{TAB}", "join_group Lunch"),
            (f"leave_group b{TAB}", "leave_group build"),
            (f"list_members LU{TAB}", "list_members Lunch"),
            (f"join_group #lu{TAB}", "join_group #Lunch"),
            (f"history #l{TAB}", "history #Lunch"),
            (f"history b{TAB}", "history bob"),
            (f"search #l{TAB}", "search #Lunch "),
            (f"search b{TAB}", "search b"),
            (f"send #b{TAB}", "send #build "),
            (f"send_group l{TAB}", "send_group l"),
            (f"create_group l{TAB}", "create_group l"),
            (f"invite b{TAB}", "invite bob"),
            (f"remove B{TAB}", "remove bob"),
            (f"owners b{TAB}", "owners bob"),
            (f"block b{TAB}", "block bob"),
            (f"unblock b{TAB}", "unblock bob"),
        ]:
            person.type(typed)
            await person.sees(f">>> {line}".rstrip())
            person.type(ENTER)
            assert await person.next() == line


# --- pastes ---


async def test_a_paste_of_several_lines_asks_once_and_sends_each():
    async with person_at_prompt() as person:
        person.paste("send x one\r\n\r\nsend y two\rwho\n")
        await person.sees("[3 lines?]")
        person.type("y")
        assert [await person.next() for _ in range(3)] == ["send x one", "send y two", "who"]
        await person.sees(lambda picture: picture.lines == [">>> send x one", ">>> send y two", ">>> who", ">>>"])
        person.type(f"next{ENTER}")
        assert await person.next() == "next"


@pytest.mark.parametrize("key", ["n", "N", "\x1b", CTRL_D, ENTER, "\n"])
async def test_a_paste_that_is_not_to_be_sent_leaves_the_line_as_it_was(key):
    async with person_at_prompt() as person:
        person.type("half a line")
        await person.sees(">>> half a line")
        person.paste("one\ntwo")
        await person.sees("[2 lines?]")
        person.type(key)
        await person.sees(lambda picture: picture.lines == [">>> [2 lines not done]", ">>> half a line"])
        person.type(f" more{ENTER}")
        assert await person.next() == "half a line more"


@pytest.mark.parametrize(("keys", "line"), [("hm", "half a linehm"), (f"{CTRL_A}my ", "my half a line")])
async def test_who_types_on_after_a_paste_does_not_send_it_and_loses_no_key(keys, line):
    async with person_at_prompt() as person:
        person.type("half a line")
        await person.sees(">>> half a line")
        person.paste("one\ntwo")
        await person.sees("[2 lines?]")
        person.type(f"{keys}{ENTER}")
        assert await person.next() == line
        await person.sees(lambda picture: picture.lines == [">>> [2 lines not done]", f">>> {line}", ">>>"])


async def test_a_second_paste_is_asked_for_in_place_of_the_first_one():
    async with person_at_prompt() as person:
        person.paste("one\ntwo")
        await person.sees("[2 lines?]")
        person.paste("three\nfour\nfive")
        await person.sees("[3 lines?]")
        person.type("y")
        assert [await person.next() for _ in range(3)] == ["three", "four", "five"]
        await person.sees(">>> [2 lines not done]")


@pytest.mark.parametrize(
    ("typed", "sent", "asked"),
    [
        ("send bob ", ["send bob one", "send bob two"], "[2 lines send bob?]"),
        ("  send  bob well: ", ["  send  bob well: one", "  send  bob two"], "[2 lines send bob?]"),
        ("send_all ", ["send_all one", "send_all two"], "[2 lines send_all?]"),
        ("send_group ", ["send_group one", "send_group two"], "[2 lines send_group?]"),
        ("SEND bob ", ["SEND bob one", "SEND bob two"], "[2 lines SEND bob?]"),
        ("send bob", ["send bobone", "two"], "[2 lines?]"),
        ("who ", ["who one", "two"], "[2 lines?]"),
        ("", ["one", "two"], "[2 lines?]"),
    ],
)
async def test_lines_pasted_into_a_message_are_messages_to_the_same_people(typed, sent, asked):
    async with person_at_prompt() as person:
        person.type(typed)
        person.paste("one\ntwo\n")
        await person.sees(asked)
        person.type("y")
        assert [await person.next(), await person.next()] == sent


async def test_a_paste_of_one_line_is_typed():
    async with person_at_prompt() as person:
        person.type("send bob ")
        person.paste("hi\n")
        await person.sees(">>> send bob hi")
        person.type(f", bob{ENTER}")
        assert await person.next() == "send bob hi, bob"


async def test_ctrl_c_clears_a_paste_and_the_line_before_it():
    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        async with person_at_prompt() as person:
            person.type("send bob ")
            person.paste("one\ntwo")
            await person.sees("[2 lines send bob?]")
            person.type(CTRL_C)
            await person.sees(lambda picture: picture.lines == [">>> [2 lines not done]", ">>>"])
            person.type(CTRL_C)
            await trio.sleep_forever()


async def test_pasted_control_characters_do_not_reach_the_terminal():
    async with person_at_prompt() as person:
        person.paste("send x \x1b[31mred\x07\nsend x \x9b2J")
        await person.sees("[2 lines?]")
        person.type("y")
        assert await person.next() == "send x \x1b[31mred\x07"
        await person.sees(r">>> send x \x9b2J")
        assert r">>> send x \x1b[31mred\x07" in person.terminal.picture.lines
        assert person.terminal.picture.bells == 0


# --- the history of typed lines ---


async def test_typed_lines_are_there_the_next_time(tmp_path):
    path = tmp_path / "typed"
    async with person_at_prompt(history=TypedLines(path)) as person:
        person.type(f"send bob grüße{ENTER}who{ENTER}who{ENTER}")
        assert [await person.next() for _ in range(3)] == ["send bob grüße", "who", "who"]
    assert path.read_text() == "send bob grüße\nwho\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    async with person_at_prompt(history=TypedLines(path)) as person:
        await person.sees(">>>")
        person.type(f"{UP}{UP}!{ENTER}")
        assert await person.next() == "send bob grüße!"


def test_the_history_is_bounded_and_nobody_else_may_read_it(tmp_path):
    path = tmp_path / "typed"
    path.write_text("".join(f"{number}\n" for number in range(3 * MAX_KEPT_LINES)))
    path.chmod(0o644)
    latest = [str(number) for number in range(2 * MAX_KEPT_LINES, 3 * MAX_KEPT_LINES)]
    assert list(TypedLines(path).load_history_strings()) == latest[::-1]
    assert path.read_text().split() == latest
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    history = TypedLines(path)
    history.store_string("one more")
    history.store_string("x" * (editor.MAX_KEPT_LENGTH + 1))
    history.store_string("two\nlines")
    assert path.read_text().splitlines() == [*latest, "one more"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_only_the_end_of_a_huge_history_is_read(tmp_path):
    path = tmp_path / "typed"
    path.write_bytes(b"x" * 10_000_000 + b"\nfine\n\x1b[31m\n\xff\n")
    assert list(TypedLines(path).load_history_strings())[:2] == ["\ufffd", "fine"]


@pytest.mark.parametrize("place", ["/dev/null/typed", "/"])
def test_without_a_usable_file_there_is_no_history(place):
    history = TypedLines(prompt.Path(place))
    assert list(history.load_history_strings()) == []
    history.store_string("who")


# --- colours and bells ---


def message(text="hi"):
    return Phrasebook(owner="bob").render(MessageReceived("alice", text))[0]


async def test_lines_have_colours():
    async with person_at_prompt() as person:
        person.prompt.show(message())
        await person.sees(">>> alice: hi")
        assert b"\x1b[0;38;5;99;1malice" in person.terminal.raw


async def test_without_colours_nothing_has_a_style():
    async with person_at_prompt(colours=False) as person:
        person.prompt.show(message())
        person.type("half")
        await person.sees(">>> half")
        styles = set(person.terminal.raw.split(b"\x1b["))
        assert not [style for style in styles if b"m" in style and not style.startswith((b"0m", b"m", b"?"))]


async def test_lines_that_come_together_ring_once():
    async with person_at_prompt() as person:
        for _ in range(50):
            person.prompt.show(message())
        person.show("[last]")
        await person.sees(">>> [last]")
        assert 1 <= person.terminal.picture.bells <= 3
        person.show("[Client Table Updated]")
        await person.sees(">>> [Client Table Updated]")
        assert 1 <= person.terminal.picture.bells <= 3


async def test_without_a_bell_nothing_rings():
    async with person_at_prompt(bell=False) as person:
        person.prompt.show(message())
        await person.sees(">>> alice: hi")
        assert person.terminal.picture.bells == 0


async def test_no_control_character_of_others_reaches_the_terminal():
    async with person_at_prompt() as person:
        person.prompt.show(message("a\x1b[2Jb\x9b2Jc\x07<b>d</b>"))
        await person.sees(r">>> alice: a\x1b[2Jb\x9b2Jc\x07<b>d</b>")


async def test_the_lines_of_a_message_stand_below_its_beginning():
    async with person_at_prompt() as person:
        person.prompt.show(Line("before"))
        for line in Phrasebook(owner="bob").render(MessageReceived("alice", "one\n>>> carol: two")):
            person.prompt.show(line)
        person.type("half")
        expected = [">>> before", ">>> alice: one", ">>>        >>> carol: two", ">>> half"]
        await person.sees(lambda picture: picture.lines == expected)


async def test_log_records_are_shown():
    async with person_at_prompt(logs=True) as person:
        person.type("half")
        await person.sees(">>> half")
        logging.getLogger("trio_chat").error("the store is\nfull")
        await person.sees(lambda picture: picture.lines == [">>> the store is", ">>> full", ">>> half"])
    assert not [handler for handler in logging.getLogger().handlers if isinstance(handler, prompt._Log)]
