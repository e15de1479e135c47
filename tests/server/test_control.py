"""The control socket: its protocol, and that nobody but the same user can open it.

The protocol is tested on streams in memory and in virtual time, the socket with real ones in a folder of their own.
"""

import json
import os
import socket
import stat

import pytest
import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair

from trio_chat.errors import UnknownRecipient
from trio_chat.server.control import (
    COMMAND_TIMEOUT,
    MAX_COMMAND,
    MAX_PROGRAMS,
    CommandRefused,
    Control,
    NoServerRuns,
    open_control,
)
from trio_chat.server.operations import ForgetCommand, KickCommand, StatsCommand, WhoCommand
from trio_chat.transport.unix import listen_at

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there are no Unix sockets")


async def reply(command):
    """A server that knows bob."""
    match command:
        case KickCommand("bob"):
            return {"kicked": "bob"}
        case KickCommand(name):
            raise UnknownRecipient(name)
        case ForgetCommand(name, only_for):
            return {"freed": name, "for": only_for}
        case WhoCommand():
            return {"names": ["x" * 100_000]}
    return {"online": 2}


class Program:
    """A program that is connected, and what it has received."""

    def __init__(self, stream):
        self.stream = stream
        self.received = b""

    async def sends(self, data):
        await self.stream.send_all(data)

    async def reads(self):
        """The next object; None at the end of the connection."""
        while b"\n" not in self.received:
            data = await self.stream.receive_some()
            if not data:
                return None
            self.received += data
        line, _, self.received = self.received.partition(b"\n")
        return json.loads(line)


@pytest.fixture
async def connect(nursery):
    """`connect()` is a program at one Control."""
    control = Control(reply)

    def connect(make_pair=memory_stream_pair):
        here, there = make_pair()
        nursery.start_soon(control._serve_connection, there)
        return Program(here)

    return connect


# --- the protocol ---


async def test_each_line_is_answered_in_order(connect, autojump_clock):
    program = connect()
    await program.sends(b'{"command": "kick", "name": "bob"}\n{"command":"kick","name":"eve"}\n{"comm')
    assert await program.reads() == {"kicked": "bob"}
    assert await program.reads() == {"error": "no such user: eve"}
    await program.sends(b'and": "forget", "name": "bob", "for": "aaaa-bbbb-cccc-dddd"}\n')
    assert await program.reads() == {"freed": "bob", "for": "aaaa-bbbb-cccc-dddd"}
    await program.stream.send_eof() if hasattr(program.stream, "send_eof") else await program.stream.aclose()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"kick bob",
        b"[]",
        b"{}",
        b'{"command": 1}',
        b'{"command": "shutdown"}',
        b'{"command": "kick"}',
        b'{"command": "kick", "name": 7}',
        b'{"command": "kick", "name": "../x"}',
        b'{"command": "kick", "name": "bob", "why": "x"}',
        b'{"command": "forget", "name": "bob", "only_for": "aaaa-bbbb-cccc-dddd"}',
        b'{"command": "forget", "name": "bob", "for": "aaaa"}',
        b'{"command": "invite", "days": 0}',
        b'{"command": "invite", "days": 1e9}',
        b'{"command": "ban", "what": "' + b"x" * 65 + b'"}',
        b"\xff\xfe\x00",
        b"[" * 4000,
    ],
)
async def test_what_is_no_command_is_refused_and_the_next_line_is_read(connect, autojump_clock, line):
    program = connect()
    await program.sends(line + b'\n{"command": "stats"}\n')
    answer = await program.reads()
    assert list(answer) == ["error"]
    assert isinstance(answer["error"], str)
    assert await program.reads() == {"online": 2}


async def test_a_line_without_an_end_takes_no_memory(connect, autojump_clock):
    program = connect()
    with pytest.raises(trio.BrokenResourceError):
        for _ in range(100):
            await program.sends(b"x" * MAX_COMMAND)
            await trio.testing.wait_all_tasks_blocked()
    assert await program.reads() == {"error": "the line is too long"}
    assert await program.reads() is None


async def test_a_program_that_says_nothing_is_disconnected(connect, autojump_clock):
    program = connect()
    await trio.sleep(COMMAND_TIMEOUT - 1)
    await program.sends(b'{"command": "stats"}\n')
    assert await program.reads() == {"online": 2}
    began = trio.current_time()
    assert await program.reads() is None
    assert trio.current_time() - began == COMMAND_TIMEOUT


async def test_programs_that_never_read_keep_nobody_out_for_long(connect, autojump_clock):
    for _ in range(MAX_PROGRAMS):
        silent = connect(lockstep_stream_pair)
        await silent.sends(b'{"command": "who"}\n')
    refused = connect()
    assert await refused.reads() == {"error": "too many programs are connected"}
    assert await refused.reads() is None
    await trio.sleep(15)
    program = connect()
    await program.sends(b'{"command": "stats"}\n')
    assert await program.reads() == {"online": 2}


async def test_a_program_that_goes_before_its_answer_does_no_harm(connect, autojump_clock):
    for _ in range(10):
        program = connect()
        await program.sends(b'{"command": "who"}\n')
        await program.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
    program = connect()
    await program.sends(b'{"command": "stats"}\n')
    assert await program.reads() == {"online": 2}


# --- the socket ---


@pytest.fixture
def path(tmp_path):
    """In a folder that does not exist, with a name that is longer than the address of a socket may be."""
    return tmp_path / ("x" * 100) / "server-5000.sock"


async def test_commands_on_a_real_socket(path, nursery):
    await nursery.start(Control(reply).serve, path)
    async with open_control(path) as ask:
        assert await ask(KickCommand("bob")) == {"kicked": "bob"}
        assert await ask(WhoCommand()) == {"names": ["x" * 100_000]}
        with pytest.raises(CommandRefused, match="no such user: eve"):
            await ask(KickCommand("eve"))
        assert await ask(StatsCommand()) == {"online": 2}
        nursery.cancel_scope.cancel()


async def test_only_the_same_user_can_open_it(path, nursery, monkeypatch):
    modes = []
    bind = socket.socket.bind

    def watched(sock, address):
        bind(sock, address)
        folder = os.path.realpath(os.path.dirname(address))
        modes.append((stat.S_IMODE(os.stat(folder).st_mode), folder))

    monkeypatch.setattr(socket.socket, "bind", watched)
    old = os.umask(0)  # as bad as it can be
    try:
        await nursery.start(Control(reply).serve, path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    ((mode, folder),) = modes
    assert (mode, folder != str(path.parent)) == (0o700, True), "before it had its mode, nobody could reach it"
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    nursery.cancel_scope.cancel()


async def test_all_folders_that_are_made_for_it_are_private(path, nursery):
    path = path.parent / "data" / "trio_chat" / "sock"
    await nursery.start(Control(reply).serve, path)
    assert path.is_socket()
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in path.parents[:2]} == {0o700}
    nursery.cancel_scope.cancel()


async def test_it_is_removed_at_the_end_and_a_stale_one_is_replaced(path):
    path.parent.mkdir()
    for _ in range(2):
        async with listen_at(path, 1):
            assert path.is_socket()
        assert list(path.parent.iterdir()) == []
    async with listen_at(path, 1):
        os.link(path, path.with_name("kept"))
    path.with_name("kept").rename(path)  # as a server that was killed leaves it
    with pytest.raises(NoServerRuns, match="no server is running here"):
        async with open_control(path):
            pass
    async with listen_at(path, 1), open_control(path):
        pass
    assert list(path.parent.iterdir()) == []


async def test_a_live_one_is_respected(path, nursery, caplog):
    await nursery.start(Control(reply).serve, path)
    await nursery.start(Control(None).serve, path)
    assert f"no control socket {path}: another server uses it" in caplog.text
    async with open_control(path) as ask:
        assert await ask(StatsCommand()) == {"online": 2}
    nursery.cancel_scope.cancel()


async def test_what_is_not_a_socket_is_left_alone(path, nursery, caplog):
    path.parent.mkdir()
    path.write_text("mine")
    await nursery.start(Control(reply).serve, path)
    assert "no control socket" in caplog.text
    assert path.read_text() == "mine"


async def test_the_socket_of_a_newer_server_is_not_removed(path):
    path.parent.mkdir()
    async with listen_at(path, 1):
        path.unlink()
        path.write_text("another one's")
    assert path.read_text() == "another one's"


async def test_a_server_that_ends_before_it_answers(path, nursery):
    async def never(command):
        nursery.cancel_scope.cancel()
        await trio.sleep_forever()

    await nursery.start(Control(never).serve, path)
    with trio.CancelScope(shield=True), pytest.raises(NoServerRuns, match="the server has ended"):
        async with open_control(path) as ask:
            await ask(StatsCommand())
