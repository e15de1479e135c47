"""The presence commands: arguments, what is printed, exit codes."""

import os
import signal
from contextlib import suppress
from functools import partial

import click
import pytest
import trio

from tests.forkserver import open_program
from tests.memory_listener import Visitor, came
from trio_chat import Roster, open_chat, serve_presence
from trio_chat.cli.arguments import IN_MEMORY, friend, host, host_and_port
from trio_chat.cli.main import main
from trio_chat.cli.server import run_server
from trio_chat.storage.server_memory import MemoryServerStore

pytestmark = pytest.mark.usefixtures("data_folder")

HOST = "127.0.0.1"


@pytest.fixture
async def roster(nursery):
    """A roster with a service for it."""
    roster = Roster()
    roster.address = await nursery.start(partial(serve_presence, 0, host=HOST, roster=roster))
    yield roster
    nursery.cancel_scope.cancel()


async def run(*args):
    with trio.fail_after(60):
        return await trio.to_thread.run_sync(main, [str(arg) for arg in args])


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["friends"], "Missing argument 'USER-ID'"),
        (["friends", "1"], "Missing argument 'FRIEND...'"),
        (["friends", "alice", "2"], "'alice' is not a number from 1 on. Only a FRIEND may be a name."),
        (["friends", "0", "2"], "'0' is not a number from 1 on"),
        (["friends", "1", "2", "--server", "127.0.0.1"], "'127.0.0.1' is not HOST:PORT"),
        (["friends", "1", "2", "--server", "\x1b:x"], r"'\x1b:x' is not HOST:PORT"),
        (["friends", "1", "2", "--server", "127.0.0.1:0"], "not a port: 0"),
        (["friends", "1", "2", "--server", "x.invalid:80"], "cannot find the host 'x.invalid'"),
        (["presence", "65536"], "65536 is not in the range"),
        (["presence", "0", "--host", "x.invalid"], "cannot listen on 'x.invalid:0'"),
        (["presence", "0", "--host", "no..host\n"], r"cannot listen on 'no..host\n:0': not a host name"),
        (["server", "0", "--store", ":memory:", "--presence-port", "-1"], "-1 is not in the range"),
        (["server", "0", "--store", ":memory:", "--presence-port", "0", "--presence-host", "x.invalid"], "x.invalid"),
    ],
)
def test_invalid_arguments_are_refused_in_one_line(args, complaint, capsys):
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert complaint in err
    assert err.count("\n") == 1


async def test_a_name_is_refused_where_there_is_no_chat(nursery, capsys):
    host, port = await nursery.start(partial(serve_presence, 0, host=HOST))
    assert await run("friends", 1, 2, "abc", "--server", f"{host}:{port}") == 2
    assert "friends: refused with error 5: '[server] There is no chat here: friends are num" in capsys.readouterr().err
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("args", [["presence"], ["server", "0", "--store", ":memory:", "--presence-port"]])
async def test_a_port_in_use_is_reported_in_one_line(args, roster, capsys):
    port = roster.address[1]
    assert await run(*args, port) == 2
    assert capsys.readouterr().err.endswith(f"cannot listen on '{HOST}:{port}': the port is in use\n")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("localhost:08081", ("localhost", 8081)),
        ("[::1]:80", ("::1", 80)),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
    ],
)
def test_hosts_with_ports(given, meant):
    assert host_and_port(given) == meant


def test_an_address_in_brackets_is_the_same_host():
    assert [host(given) for given in ("[::1]", "::1", "[fe80::1%eth0]", "localhost")] == [
        *("::1", "::1", "fe80::1%eth0", "localhost")
    ]


def test_friends_are_numbers_and_names():
    assert [friend(given) for given in ("2", "007", "bob", "2nd", "-1", "٣", "9" * 20)] == [
        *(2, 7, "bob", "2nd", "-1", "٣"),
        "9" * 20,
    ]


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ([], [">>> [Bob is online]", ">>> [2 is online]", ">>> [Bob is away]"]),
        (
            ["--json"],
            [
                '{"user_id": "Bob", "online": true}',
                '{"user_id": 2, "online": true}',
                '{"user_id": "Bob", "online": false}',
            ],
        ),
    ],
)
async def test_one_line_for_each_change(options, lines, nursery, capsys):
    roster = Roster()
    roster.note("bob", True)
    roster.enter(2)
    there = trio.Event()
    roster.watch([1], lambda *coming: there.set())

    async def serve(task_status):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as inner:
                address = await inner.start(partial(serve_presence, 0, roster=roster))
                task_status.started((address, scope))

    (host, port), scope = await nursery.start(serve)
    printed = ""
    async with trio.open_nursery() as inner:
        codes = []

        async def watch():
            codes.append(await run("friends", 1, "Bob", 2, "--server", f"{host}:{port}", *options))

        inner.start_soon(watch)
        with trio.fail_after(60):
            await there.wait()
            roster.note("bob", False)
            while printed.count("\n") < 3:
                await trio.sleep(0.01)
                printed += capsys.readouterr().out
        scope.cancel()
    assert codes == [1]
    assert printed.splitlines() == lines
    assert capsys.readouterr().err.endswith("friends: the presence server has closed the connection\n")


@pytest.mark.parametrize("_turn", range(8))  # trio runs the tasks of one moment in any order
async def test_ctrl_c_while_the_chat_is_at_work_tells_no_watcher_that_everybody_has_gone(
    nursery, monkeypatch, tmp_path, _turn
):
    lines, listening, ended = [], trio.Event(), trio.Event()

    async def serve():
        with pytest.raises(KeyboardInterrupt):
            await run_server(0, HOST, IN_MEMORY, str(tmp_path / "server.key"), (HOST, 0))
        ended.set()

    async def interrupted(*_):
        signal.raise_signal(signal.SIGINT)
        await trio.sleep_forever()

    def echo(line, err=False):
        lines.append(line)
        if line.startswith("Presence on"):
            listening.set()

    monkeypatch.setattr(click, "echo", echo)
    monkeypatch.setattr(MemoryServerStore, "append", interrupted)
    nursery.start_soon(serve)
    with trio.fail_after(60):
        await listening.wait()
        chat_port, presence_port = (int(line.rpartition(":")[2]) for line in (lines[0], lines[-1]))
        async with open_chat("bob", (HOST, chat_port)) as bob:
            watcher = Visitor(await trio.open_tcp_stream(HOST, presence_port))
            assert await watcher.request(1, "bob", push=True) == came("bob")
            nursery.start_soon(bob.send_all, "hi")
            assert await watcher.receive() is None
            await watcher.close()
            await ended.wait()
            nursery.cancel_scope.cancel()


async def test_ctrl_c_leaves_the_prompt_of_the_shell_on_a_line_of_its_own(nursery):
    roster, here, there = Roster(), *os.openpty()
    roster.enter(2)
    host, port = await nursery.start(partial(serve_presence, 0, host=HOST, roster=roster))
    args = ["friends", 1, 2, "--server", f"{host}:{port}"]
    async with trio.lowlevel.FdStream(here) as screen:
        with os.fdopen(there, "wb", buffering=0) as terminal:
            watcher = await open_program("trio_chat", args, stdout=terminal, stderr=terminal, env=dict(os.environ))
        with trio.fail_after(60):
            shown = b""
            while b"online" not in shown:
                shown += await screen.receive_some()
            watcher.send_signal(signal.SIGINT)
            with suppress(trio.BrokenResourceError):  # how Linux reports that no program has it open
                async for data in screen:
                    shown += data
            assert await watcher.wait() == 130
    assert shown == b">>> [2 is online]\r\n\r\n"
    nursery.cancel_scope.cancel()


async def test_a_refusal_is_reported_with_its_reason(roster, capsys):
    assert await run("friends", 1, 1, "--server", "{}:{}".format(*roster.address)) == 2
    assert 'refused with error 6: "[server] You can\'t be friend with yourself"' in capsys.readouterr().err


async def test_no_server_answers(capsys):
    listener, *_ = await trio.open_tcp_listeners(0, host=HOST)
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    assert await run("friends", 1, 2, "--server", f"{HOST}:{port}", "--json") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(f"friends: no presence server answers at '{HOST}', port {port}\n")
