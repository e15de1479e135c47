"""What a typed line means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_chat.terminal.commands import (
    COMMANDS,
    Dereg,
    Empty,
    Exit,
    Help,
    History,
    Reg,
    Search,
    Send,
    SendAll,
    Trust,
    Unknown,
    Who,
    help_lines,
    parse,
)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("send bob hi", Send("bob", "hi")),
        ("send bob hi there, you", Send("bob", "hi there, you")),
        ("send_all hello everyone", SendAll("hello everyone")),
        ("reg", Reg(None)),
        ("reg alice", Reg("alice")),
        ("dereg", Dereg(None)),
        ("dereg alice", Dereg("alice")),
        ("who", Who()),
        ("trust bob", Trust("bob")),
        ("history", History(None, 20)),
        ("history 5", History(None, 5)),
        ("history bob", History("bob", 20)),
        ("history bob 5", History("bob", 5)),
        ("history 7 1000", History("7", 1000)),
        ("search hi", Search("hi")),
        ("search hi there  *", Search("hi there  *")),
        ("help", Help()),
        ("exit", Exit()),
        ("", Empty()),
        ("   ", Empty()),
        ("dance", Unknown("dance")),
        ("dance with me", Unknown("dance")),
        ("Send bob hi", Unknown("Send")),
        ("sendbob hi", Unknown("sendbob")),
        ("send\tbob hi", Unknown("send\tbob")),
    ],
)
def test_a_line_becomes_a_command(line, command):
    assert parse(line) == command


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("send bob  two blanks before", Send("bob", " two blanks before")),
        ("send bob two behind  ", Send("bob", "two behind  ")),
        ("send bob  ", Send("bob", " ")),
        ("send_all  x ", SendAll(" x ")),
        ("send bob \ttab\r", Send("bob", "\ttab\r")),
        ("send bob a\x1b[31mred\x00", Send("bob", "a\x1b[31mred\x00")),
    ],
)
def test_a_text_is_everything_after_one_space_and_kept_as_typed(line, command):
    assert parse(line) == command


@given(st.text())
def test_no_text_is_altered(text):
    assert parse(f"send bob {text}") == Send("bob", text)
    assert parse(f"send_all {text}") == SendAll(text)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("send", Send("", "")),
        ("send ", Send("", "")),
        ("send bob", Send("bob", "")),
        ("send bob ", Send("bob", "")),
        ("send_all", SendAll("")),
        ("send_all ", SendAll("")),
    ],
)
def test_what_is_left_out_is_empty(line, command):
    assert parse(line) == command


@pytest.mark.parametrize("line", ["  who", "who  ", " who "])
def test_blanks_around_other_words_do_not_matter(line):
    assert parse(line) == Who()
    assert parse("  send  bob hi") == Send("bob", "hi")
    assert parse("reg  alice ") == Reg("alice")
    assert parse("trust  bob ") == Trust("bob")
    assert parse("history  bob  3 ") == History("bob", 3)
    assert parse("search  hi ") == Search("hi")
    assert parse("search  ") == Unknown("search")


@pytest.mark.parametrize("line", ["exit stage left", "who goes there", "help me", "trust me, Bob"])
def test_a_forgotten_send_does_not_end_the_program(line):
    assert parse(line) == Unknown(line)


@pytest.mark.parametrize("line", ["trust", "trust  "])
def test_nobody_is_trusted_without_being_named(line):
    assert parse(line) == Unknown("trust")


@pytest.mark.parametrize(
    "line",
    [
        "history 0",
        "history 1001",
        "history bob 0",
        "history bob alice",
        "history bob 5 5",
        "history bob -1",
        "history " + 9999 * "1",
        "search",
    ],
)
def test_nonsense_about_the_history_is_no_command(line):
    assert parse(line) == Unknown(line)


def test_help_shows_each_command_of_the_table():
    lines = help_lines()
    assert [line.split()[0] for line in lines] == list(COMMANDS)
    assert lines[0].startswith("send NAME TEXT  ")
    assert all(row.usage in line and row.meaning in line for row, line in zip(COMMANDS.values(), lines, strict=True))


def test_help_fits_a_terminal_of_80_columns():
    assert all(len(f">>> {line}") <= 80 for line in help_lines())
