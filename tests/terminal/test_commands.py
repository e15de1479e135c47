"""What a typed line means: the command that it stands for, or why it is none."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_chat.terminal.commands import (
    COMMANDS,
    USAGE_WIDTH,
    Block,
    CancelMessage,
    CreateGroup,
    Dereg,
    Empty,
    Exit,
    Help,
    History,
    Invite,
    JoinGroup,
    LeaveGroup,
    ListBlocked,
    ListGroupMembers,
    ListGroups,
    ListOutbox,
    Owners,
    Reg,
    Remove,
    Search,
    Send,
    SendAll,
    SendGroup,
    TrustKey,
    Unblock,
    UnknownCommand,
    Who,
    WrongUsage,
    help_lines,
    parse,
)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("send bob hi", Send("bob", "hi")),
        ("send bob hi there, you", Send("bob", "hi there, you")),
        ("send_all hello everyone", SendAll("hello everyone")),
        ("create_group lunch", CreateGroup("lunch")),
        ("create_group lunch --private", CreateGroup("lunch", private=True)),
        ("create_group  --private  lunch ", CreateGroup("lunch", private=True)),
        ("create_group --PRIVATE", CreateGroup("--PRIVATE")),
        ("join_group lunch", JoinGroup("lunch")),
        ("send_group hello you", SendGroup("hello you")),
        ("list_groups", ListGroups()),
        ("list_members", ListGroupMembers(None)),
        ("list_members lunch", ListGroupMembers("lunch")),
        ("leave_group", LeaveGroup(None)),
        ("leave_group lunch", LeaveGroup("lunch")),
        ("leave_group lunch --anyway", LeaveGroup("lunch", anyway=True)),
        ("leave_group --anyway #lunch", LeaveGroup("lunch", anyway=True)),
        ("leave_group --anyway", LeaveGroup(None, anyway=True)),
        ("invite bob", Invite("bob")),
        ("Invite  Bob ", Invite("Bob")),
        ("remove bob", Remove("bob")),
        ("owners", Owners(None)),
        ("owners  ", Owners(None)),
        ("owners bob", Owners("bob")),
        ("reg", Reg(None)),
        ("reg alice", Reg("alice")),
        ("dereg", Dereg(None)),
        ("dereg alice", Dereg("alice")),
        ("who", Who()),
        ("who --all", Who(everybody=True)),
        ("trust bob", TrustKey("bob")),
        ("block bob", Block("bob")),
        ("unblock bob", Unblock("bob")),
        ("blocked", ListBlocked()),
        ("history", History(None, 20)),
        ("history 5", History(None, 5)),
        ("history bob", History("bob", 20)),
        ("history bob 5", History("bob", 5)),
        ("history #lunch 5", History("#lunch", 5)),
        ("history 7 1000", History("7", 1000)),
        ("search hi", Search("hi")),
        ("search hi there  *", Search("hi there  *")),
        ("search  #Lunch  hi there ", Search("hi there", "#Lunch")),
        ("search #lunch ", Search("#lunch")),
        ("search hi #lunch", Search("hi #lunch")),
        ("outbox", ListOutbox()),
        ("cancel 3", CancelMessage(3)),
        ("Cancel  007 ", CancelMessage(7)),
        ("help", Help()),
        ("help SEND", Help("send")),
        ("help  quit ", Help("exit")),
        ("exit", Exit()),
        ("QUIT", Exit()),
        ("", Empty()),
        ("   ", Empty()),
        ("SEND Bob Hi", Send("Bob", "Hi")),
        ("Who", Who()),
        ("/who", Who()),
        ("/help send", Help("send")),
        ("help /send", Help("send")),
        ("Join_Group Lunch", JoinGroup("Lunch")),
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
        ("send_group  x ", SendGroup(" x ")),
        ("send bob \ttab\r", Send("bob", "\ttab\r")),
        ("send bob a\x1b[31mred\x00", Send("bob", "a\x1b[31mred\x00")),
    ],
)
def test_a_text_is_everything_after_one_space_and_kept_as_typed(line, command):
    assert parse(line) == command


@given(st.text(min_size=1))
def test_no_text_is_altered(text):
    assert parse(f"send bob {text}") == Send("bob", text)
    assert parse(f"send_all {text}") == SendAll(text)
    assert parse(f"send_group {text}") == SendGroup(text)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("create_group #lunch", CreateGroup("lunch")),
        ("create_group #lunch --private", CreateGroup("lunch", private=True)),
        ("join_group  #Lunch ", JoinGroup("Lunch")),
        ("leave_group #lunch", LeaveGroup("lunch")),
        ("list_members #lunch", ListGroupMembers("lunch")),
        ("join_group ##lunch", JoinGroup("#lunch")),
    ],
)
def test_a_group_can_be_typed_with_the_mark_that_history_wants(line, command):
    assert parse(line) == command


@pytest.mark.parametrize(
    ("line", "usage"),
    [
        ("send", "send NAME TEXT"),
        ("send ", "send NAME TEXT"),
        ("SEND bob", "send NAME TEXT"),
        ("send bob ", "send NAME TEXT"),
        ("send_all", "send_all TEXT"),
        ("send_all ", "send_all TEXT"),
        ("send_group", "send_group TEXT"),
        ("send_group ", "send_group TEXT"),
        ("create_group", "create_group GROUP [--private]"),
        ("create_group my group", "create_group GROUP [--private]"),
        ("create_group --private", "create_group GROUP [--private]"),
        ("create_group # --private", "create_group GROUP [--private]"),
        ("create_group --private lunch dinner", "create_group GROUP [--private]"),
        ("create_group lunch --private --private", "create_group GROUP [--private]"),
        ("invite", "invite NAME"),
        ("invite bob carol", "invite NAME"),
        ("remove  ", "remove NAME"),
        ("owners bob carol", "owners [NAME]"),
        ("join_group  ", "join_group GROUP"),
        ("join_group #", "join_group GROUP"),
        ("leave_group #", "leave_group [GROUP] [--anyway]"),
        ("list_groups lunch", "list_groups"),
        ("list_members lunch dinner", "list_members [GROUP]"),
        ("leave_group --anyway --anyway", "leave_group [GROUP] [--anyway]"),
        ("leave_group lunch dinner", "leave_group [GROUP] [--anyway]"),
        ("trust", "trust NAME"),
        ("trust  ", "trust NAME"),
        ("trust me, Bob", "trust NAME"),
        ("search", "search [#GROUP] WORDS"),
        ("search  ", "search [#GROUP] WORDS"),
        ("block", "block NAME"),
        ("block bob carol", "block NAME"),
        ("unblock ", "unblock NAME"),
        ("blocked bob", "blocked"),
        ("history -5", "history [NAME] [1-1000]"),
        ("history 0", "history [NAME] [1-1000]"),
        ("history 1001", "history [NAME] [1-1000]"),
        ("history bob 0", "history [NAME] [1-1000]"),
        ("history bob alice", "history [NAME] [1-1000]"),
        ("history bob 5 5", "history [NAME] [1-1000]"),
        ("history bob -1", "history [NAME] [1-1000]"),
        ("history " + 9999 * "1", "history [NAME] [1-1000]"),
        ("outbox 3", "outbox"),
        ("cancel", "cancel NUMBER"),
        ("cancel all", "cancel NUMBER"),
        ("cancel -1", "cancel NUMBER"),
        ("cancel 1 2", "cancel NUMBER"),
        ("cancel ²", "cancel NUMBER"),
        ("cancel " + 19 * "9", "cancel NUMBER"),
        ("exit stage left", "exit"),
        ("quit smoking", "exit"),
        ("who alice", "who [--all]"),
        ("Help me now", "help [COMMAND]"),
    ],
)
def test_missing_and_wrong_words_show_the_usage_of_a_command(line, usage):
    with pytest.raises(WrongUsage, match=f"^usage: {re.escape(usage)}$"):
        parse(line)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("dance", "dance"),
        ("dance with me", "dance"),
        ("help dance", "dance"),
        ("sendbob hi", "sendbob"),
        ("send\tbob hi", "send\tbob"),
    ],
)
def test_a_message_without_send_is_not_a_command(line, word):
    with pytest.raises(UnknownCommand) as raised:
        parse(line)
    assert raised.value.word == word


@pytest.mark.parametrize("line", ["  who", "who  ", " who "])
def test_blanks_around_other_words_do_not_matter(line):
    assert parse(line) == Who()
    assert parse("  send  bob hi") == Send("bob", "hi")
    assert parse("reg  alice ") == Reg("alice")
    assert parse("join_group  lunch ") == JoinGroup("lunch")
    assert parse("leave_group  ") == LeaveGroup(None)
    assert parse("list_members  lunch ") == ListGroupMembers("lunch")
    assert parse("trust  bob ") == TrustKey("bob")
    assert parse("block  bob ") == Block("bob")
    assert parse("history  bob  3 ") == History("bob", 3)
    assert parse("search  hi ") == Search("hi")


def test_help_shows_each_command_of_the_table():
    lines = help_lines()
    assert [line.split()[0] for line in lines] == list(COMMANDS)
    assert lines[0].startswith("send NAME TEXT  ")
    assert all(row.usage in line and row.meaning in line for row, line in zip(COMMANDS.values(), lines, strict=True))


def test_help_of_a_command_is_its_line():
    assert help_lines("send") == help_lines()[:1]


def test_what_commands_do_is_in_one_column():
    meanings = [row.meaning for row in COMMANDS.values()]
    assert [line[USAGE_WIDTH + 2 :] for line in help_lines()] == meanings


def test_help_says_whose_name_reg_and_dereg_take():
    explained = [line.split()[0] for line in help_lines() if line.endswith("; NAME can only be your own")]
    assert explained == ["reg", "dereg"]


def test_help_fits_a_terminal_of_80_columns():
    assert all(len(f">>> {line}") <= 80 for line in help_lines())


@pytest.mark.parametrize(
    ("word", "similar"),
    [
        ("join", ("join_group",)),
        ("LIST", ("list_groups", "list_members")),
        ("list_group", ("list_groups",)),
        ("hist", ("history",)),
        ("sned", ("send",)),
        ("hello", ()),
        ("h", ()),
    ],
)
def test_commands_that_may_be_meant_are_named(word, similar):
    with pytest.raises(UnknownCommand) as caught:
        parse(f"{word} something")
    assert caught.value.similar == similar
