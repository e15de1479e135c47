"""`send`: its exit codes and its line, the name that it does not take, the messages that it leaves to the client.

Most tests use a fake chat; the last ones a server on loopback, or a simulated network in virtual time.
"""

import io
import re
import sys
from contextlib import asynccontextmanager
from functools import partial

import attrs
import pytest
import trio

import trio_chat.cli.client
from tests.stage import SERVER, identity_of
from trio_chat import (
    Delivery,
    ForgedReceipt,
    GroupMessageReceived,
    KeyChanged,
    LetterReceived,
    MailboxFull,
    MessageReceived,
    NameTaken,
    NotAMember,
    NotOpened,
    NotRegistered,
    ReceiptReceived,
    ServerKeyChanged,
    ServerNotResponding,
    SignedInElsewhere,
    StoreFailed,
    TooFast,
    UnknownRecipient,
    WrongReceipt,
    open_chat,
    open_client_store,
    open_identity,
    serve_chat,
)
from trio_chat.cli.keys import client_file
from trio_chat.cli.main import main
from trio_chat.storage.memory import MemoryClientStore

pytestmark = pytest.mark.usefixtures("data_folder")

HOST = "127.0.0.1"
OLD, NEW = "aaaa-bbbb-cccc-dddd", "2222-3333-4444-5555"


@pytest.fixture
def type_in(monkeypatch):
    """Makes standard input of some bytes."""

    def type_in(data):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return type_in


@attrs.define
class FakeChat:
    """What opening, sending and leaving give or raise. `left` tells how the block ended."""

    opening: Exception | None = None
    sending: Exception | Delivery = attrs.Factory(partial(Delivery, "direct"))
    leaving: Exception | None = None
    sent: tuple | None = None
    left: str | None = None
    options: dict = attrs.Factory(dict)

    @asynccontextmanager
    async def open(self, name, server, **options):
        self.options = {"name": name, "server": server} | options
        if self.opening:
            raise self.opening
        self.left = "by an exception"
        yield self
        self.left = "politely"
        if self.leaving:
            raise self.leaving

    async def send(self, recipient, text):
        self.sent = (recipient, text)
        if isinstance(self.sending, Exception):
            raise self.sending
        return self.sending

    async def post(self, room, text):
        await self.send(room, text)


@pytest.fixture
def chat(monkeypatch):
    """A fake that is opened instead of a chat."""
    chat = FakeChat()
    monkeypatch.setattr(trio_chat.cli.client, "open_chat", chat.open)
    return chat


def send(*args, server=f"{HOST}:5000", to="bob"):
    return main(["send", to, *args, "--as", "robot", "--server", server])


# --- what it prints ---


@pytest.mark.parametrize(
    ("delivery", "code", "line"),
    [
        (Delivery("direct"), 0, "[Message received by bob.]"),
        (Delivery("relayed"), 0, "[Message relayed to bob by the server.]"),
        (Delivery("saved", 0.0), 3, "received by the server and saved.]"),
    ],
)
def test_the_result_of_a_message(delivery, code, line, chat, capsys):
    chat.sending = delivery
    assert send("hi there") == code
    assert chat.sent == ("bob", "hi there")
    assert chat.options["backlog"] == 0, "it receives no message, because it would not show any"
    out, err = capsys.readouterr()
    assert out.startswith(">>> [")
    assert out.endswith(f"{line}\n")
    assert (out.count("\n"), err, chat.left) == (1, "", "politely")


@pytest.mark.parametrize(
    "refusal",
    [
        *(UnknownRecipient("bob"), MailboxFull("bob"), TooFast(30.0), KeyChanged("bob", OLD, NEW)),
        *(NotOpened("bob"), WrongReceipt("bob"), ForgedReceipt("bob")),
    ],
)
def test_a_refused_message_is_one_line_on_stderr_and_the_client_deregisters(refusal, chat, capsys):
    chat.sending = refusal
    assert send("hi") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(f" send: {refusal}\n")
    assert chat.left == "politely"


def test_a_changed_key_is_a_reason_why_the_message_was_not_sent(chat, capsys):
    chat.sending = KeyChanged("bob", OLD, NEW)
    assert send("hi") == 2
    assert " send: not sent: the key of bob has changed: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("when", "error", "code", "first"),
    [
        ("opening", ServerNotResponding(), 1, "[Server not responding]"),
        ("sending", ServerNotResponding(), 1, "[Server not responding]"),
        ("opening", NameTaken("robot"), 2, "[Name robot is taken.]"),
        ("opening", ServerKeyChanged(OLD, NEW), 2, "[WARNING: the key of the server has changed!]"),
        ("opening", SignedInElsewhere(), 2, "[Signed in from another place: go on there, or start again here.]"),
        ("sending", SignedInElsewhere(), 2, "[Signed in from another place: go on there, or start again here.]"),
        ("sending", NotRegistered(), 2, "[Signed in from another place: go on there, or start again here.]"),
        ("opening", StoreFailed("the store failed"), 1, None),
    ],
)
def test_without_a_registration_nothing_is_sent(when, error, code, first, chat, capsys):
    setattr(chat, when, error)
    assert send("hi") == code
    out, err = capsys.readouterr()
    assert out.splitlines()[:1] == ([f">>> {first}"] if first else [])
    assert err.endswith("ask the operator of the server to free it\n") == isinstance(error, NameTaken)
    assert err.endswith(" send: the store failed\n") == isinstance(error, StoreFailed)
    assert bool(err) == isinstance(error, NameTaken | StoreFailed)
    assert chat.left == ("by an exception" if when == "sending" else None)


@pytest.mark.parametrize(
    ("sending", "code"), [(Delivery("direct"), 0), (Delivery("saved", 0.0), 3), (TooFast(30.0), 2)]
)
def test_a_server_that_dies_as_we_leave_does_not_change_the_result_of_the_message(sending, code, chat, capsys):
    chat.sending = sending
    for chat.leaving in (ServerNotResponding(), ServerKeyChanged(OLD, NEW)):
        assert send("hi") == code
        assert not {"responding", "WARNING"} & set(re.findall(r"\w+", capsys.readouterr().out))


def test_ctrl_c(chat):
    chat.opening = KeyboardInterrupt()
    assert send("hi") == 130


# --- the text ---


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"hi\n", "hi"),
        (b"hi\r\n", "hi"),
        (b"hi", "hi"),
        (b"one\ntwo\n\n", "one\ntwo\n"),
        ("grüße".encode(), "grüße"),
        (b"x" * 16384 + b"\r\n", "x" * 16384),
    ],
)
def test_a_text_from_standard_input(data, text, type_in, chat):
    type_in(data)
    assert send("-") == 0
    assert chat.sent == ("bob", text)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"\n", "a text has 1 to 16384 bytes, not 0"),
        (b"x" * 16385, "a text has 1 to 16384 bytes, not 16385"),
        (b"x" * 20000, "a text has 1 to 16384 bytes, not 20000"),
        (b"\xff", "not valid Unicode"),
    ],
)
def test_a_text_from_standard_input_that_cannot_be_sent(data, complaint, type_in, chat, capsys):
    type_in(data)
    assert send("-") == 2
    assert capsys.readouterr().err.endswith(f" send: {complaint}\n")
    assert chat.options == {}


def test_a_closed_standard_input_is_an_empty_text(monkeypatch, chat, tmp_path, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    assert send("-") == 2
    with open(tmp_path / "x", "wb") as not_to_be_read:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(not_to_be_read))
        assert send("-") == 2
    assert capsys.readouterr().err.count("not 0\n") == 2


# --- the arguments ---


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        # What a shell leaves of: send #lunch hi; of: send bob #1 is done.
        ([], "Missing argument 'NAME'. Quote a # in a shell: '#lunch'"),
        (["bob"], "Missing argument 'TEXT'. Quote a # in a shell: '#lunch'"),
        (["bob", "hi"], "Missing option '--as'"),
        (["bob", "hi", "--as", "robot"], "Missing option '--server'"),
        (["bob", "hi", "--as", "robot", "--server", "localhost"], "'localhost' is not HOST:PORT"),
        (["bob", "hi", "--as", "robot", "--server", "localhost:0"], "not a port: 0"),
        (["bob", "hi", "--as", "robot", "--server", "localhost:65536"], "not a port: 65536"),
        (["bob", "hi", "--as", "robot", "--server", "no..host\n:5000"], "cannot find the host 'no..host\\n'"),
        (["bob", "hi", "--as", "../x", "--server", "::1:5000"], "is not HOST:PORT"),
        (["bob", "hi", "--as", "../x", "--server", "[::1]:5000"], "not a valid name: '../x'"),
        (["#", "hi", "--as", "x", "--server", "[::1]:5000"], "not a valid name: ''"),
        (["##lunch", "hi", "--as", "x", "--server", "[::1]:5000"], "not a valid name: '#lunch'"),
        (["b@d\x1b", "hi", "--as", "x", "--server", "[::1]:5000"], "not a valid name: 'b@d\\x1b'"),
        (["bob", "", "--as", "robot", "--server", "[::1]:5000"], "a text has 1 to 16384 bytes, not 0"),
        (["bob", "\udcff", "--as", "robot", "--server", "[::1]:5000"], "not valid Unicode"),
        (
            ["bob", "hi", "there", "--as", "robot", "--server", "[::1]:5000"],
            "extra argument (there): put the text in quotes",
        ),
        (["bob", "-1", "--as", "robot", "--server", "[::1]:5000"], "No such option"),
        (["bob", "hi", "--as", "x", "--server", "[::1]:5000", "--server-key", "abc"], "'abc' is not a fingerprint"),
        (
            ["bob", "hi", "--as", "x", "--server", "[::1]:5000", "--store", "/dev/null"],
            "cannot use the store /dev/null",
        ),
        (["bob", "hi", "--as", "x", "--server", "[::1]:5000", "--identity", "/dev/null"], "it is not a file"),
    ],
)
def test_invalid_arguments_are_refused_in_one_line(args, complaint, capsys):
    assert main(["send", *args]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert complaint in err
    assert err.count("\n") == 1


def test_the_options_are_those_of_the_client(chat, data_folder, tmp_path):
    key, store = tmp_path / "own.key", tmp_path / "own.db"
    options = ["--server-key", OLD.upper(), "--identity", str(key), "--store", str(store)]
    assert main(["send", "--as", "Robot", "--server", "[::1]:5000", *options, "--", "bob", "-1"]) == 0
    assert chat.sent == ("bob", "-1")
    assert (chat.options["name"], chat.options["server"]) == ("Robot", ("::1", 5000))
    assert chat.options["server_key"] == OLD
    assert chat.options["identity"] == open_identity(key)
    assert store.exists()
    assert not data_folder.exists()


def test_it_uses_the_key_and_the_store_of_the_client_of_that_name(chat, data_folder):
    assert send("hi") == 0
    assert chat.options["identity"] == open_identity(data_folder / "clients" / f"robot@{HOST}_5000.key")
    assert (data_folder / "clients" / f"robot@{HOST}_5000.db").exists()


async def test_send_does_not_take_the_name_from_a_running_client(chat, data_folder, capsys):
    async with open_client_store(data_folder / "clients" / f"robot@{HOST}_5000.db"):
        assert await trio.to_thread.run_sync(send, "hi") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(" send: robot is in use by another program here: write there, or end it first\n")
    assert chat.options == {}


# --- with a server ---


@pytest.fixture
async def server(nursery):
    """A server on loopback, as it is given to `--server`."""
    host, port = await nursery.start(partial(serve_chat, 0, host=HOST))
    yield (host, port)
    nursery.cancel_scope.cancel()


async def send_to(server, *args, to="bob"):
    with trio.fail_after(60):
        return await trio.to_thread.run_sync(partial(send, *args, server=f"{HOST}:{server[1]}", to=to))


async def test_a_message_arrives_or_waits(server, capsys):
    store, identity = MemoryClientStore(), identity_of("bob")
    with trio.fail_after(60):
        async with open_chat("bob", server, identity=identity, store=store) as bob:
            assert await send_to(server, "Hello, Bob!") == 0
            assert [event async for event in _first(bob, MessageReceived)] == [MessageReceived("robot", "Hello, Bob!")]
            bob.mark_shown()
            # It has deregistered before it ended, which the table shows soon.
            while bob.table["robot"].online:  # noqa: ASYNC110 - there is no event for it
                await trio.sleep(0.01)
        assert await send_to(server, "Are you away?") == 3
        async with open_chat("bob", server, identity=identity, store=store) as bob:
            (letter,) = [event async for event in _first(bob, LetterReceived)]
    assert (letter.sender, letter.text) == ("robot", "Are you away?")
    assert capsys.readouterr().err == ""


async def test_a_message_to_a_group_reaches_those_who_are_in_it(server, capsys):
    with trio.fail_after(60):
        async with open_chat("bob", server, identity=identity_of("bob")) as bob:
            await bob.create_room("Lunch")
            assert await send_to(server, "Hello?", to="#lunch") == 2
            command = f"echo join_group lunch | trio-chat client robot {HOST}:{server[1]}"
            complaint = f" send: robot is not in the group lunch: to join it once, type: {command}\n"
            assert capsys.readouterr().err.endswith(complaint)

            robot = open_identity(client_file("robot", server, "key"))
            async with open_chat("robot", server, identity=robot) as chat:
                await chat.join("lunch")
            assert await send_to(server, "Soup is ready.", to="#lunch") == 0
            received = [event async for event in _first(bob, GroupMessageReceived)]
    assert received == [GroupMessageReceived("robot", "Soup is ready.", room="Lunch")]
    assert capsys.readouterr() == (">>> (Lunch) [Message received by Server.]\n", "")


async def test_a_message_to_the_group_of_everyone_is_one_to_all(server, capsys):
    with trio.fail_after(60):
        async with open_chat("bob", server, identity=identity_of("bob")) as bob:
            assert await send_to(server, "Hello, all!", to="#Everyone") == 0
            received = [event async for event in _first(bob, GroupMessageReceived)]
    assert received == [GroupMessageReceived("robot", "Hello, all!")]
    assert capsys.readouterr() == (">>> [Group Message received by Server.]\n", "")


async def test_a_group_and_a_person_of_the_same_name_are_not_mixed_up(server, capsys):
    with trio.fail_after(60):
        async with open_chat("bob", server, identity=identity_of("bob")) as bob:
            assert await send_to(server, "hi", to="#bob") == 2
            assert " send: no such room: bob: " in capsys.readouterr().err
            await bob.create_room("bob")
            assert await send_to(server, "hi", to="#bob") == 2, "robot is not in it, and it does not go to the person"
            assert await send_to(server, "to the person") == 0
            received = [event async for event in _first(bob, MessageReceived)]
    assert received == [MessageReceived("robot", "to the person")]


def test_the_command_that_helps_names_the_files_that_were_given(chat, tmp_path, capsys):
    chat.sending = NotAMember("lunch")
    files = ["--identity", str(tmp_path / "my key"), "--store", ":memory:"]
    assert send("hi", *files, to="#lunch") == 2
    command = f"trio-chat client robot {HOST}:5000 --identity '{tmp_path}/my key' --store :memory:"
    assert capsys.readouterr().err.endswith(f" | {command}\n")


async def _first(chat, kind):
    async for event in chat.events:
        if isinstance(event, kind):
            yield event
            return


async def test_a_name_that_belongs_to_another_key_is_refused(server, tmp_path, capsys):
    assert await send_to(server, "hi") == 2
    capsys.readouterr()
    assert await send_to(server, "hi", "--identity", str(tmp_path / "k"), "--store", ":memory:") == 2
    assert capsys.readouterr() == (">>> [Name robot is taken.]\n", "")


async def test_send_receives_nothing_and_all_of_it_waits(stage, autojump_clock):
    """An earlier letter, a message at that moment, and the receipt: the next client with that store gets them."""
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    me = partial(
        open_chat, "robot", SERVER, identity=identity_of("robot"), network=stage.network, clock=trio.current_time
    )
    async with me(store=MemoryClientStore(), host="10.0.9.1"):
        await stage.pass_time(1)
    assert (await alice.chat.send("robot", "before")).how == "saved"
    await bob.kill()
    await stage.pass_time(120)

    store = MemoryClientStore()
    async with me(store=store, host="10.0.9.1", backlog=0) as chat:
        assert (await chat.send("alice", "hi")).how == "direct"
        assert (await chat.send("bob", "a receipt, please")).how == "saved"
        assert (await alice.chat.send("robot", "meanwhile")).how == "saved"
        await stage.pass_time(60)  # longer than it takes
    await stage.enter("bob")
    await stage.pass_time(5)
    assert alice.texts() == ["hi"]

    robot = await stage.enter("robot", store=store)
    await stage.pass_time(5)
    assert sorted(robot.texts()) == ["before", "meanwhile"]
    assert [event.recipient for event in robot.received if isinstance(event, ReceiptReceived)] == ["bob"]
