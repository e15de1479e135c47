"""Programs that the system ends by SIGTERM, or a terminal that is closed by SIGHUP: they close their files and leave.

Real processes. Ctrl-C stays as in the ancestors: nobody is told.
"""

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from tests.end_to_end.processes import PATIENCE, free_port, open_programs
from tests.forkserver import ENVIRONMENT, ROOT, open_program

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")

BOB_IS_AWAY = "[Offline Message sent at 00:00:00 received by the server and saved.]"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_server_closes_its_files(number):
    async with open_programs() as programs:
        port = free_port()
        server = await programs.server("server", port)
        assert {f"server-{port}.db-wal", f"server-{port}.sock"} <= files_in(programs.data_folder)
        server.process.send_signal(number)
        await server.rest()
        await server.exits(128 + number)
        assert files_in(programs.data_folder) == {f"server-{port}.db", f"server-{port}.key"}


def files_in(data_folder):
    """The names of all files in it and below."""
    return {path.name for path in Path(data_folder).rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("options", [["--stay"], ["--reconnect", "--stay"], ["--json"]])
async def test_a_client_deregisters(number, options):
    """It was killed at once, and went on being shown as online for 50 seconds."""
    async with open_programs() as programs:
        server = await programs.server()
        alice = await programs.client("alice", server)
        bob = await programs.start("bob", "client", "bob", "127.0.0.1", server.port, *options)
        await bob.next_line()
        await programs.settle()
        bob.process.send_signal(number)
        await bob.rest()
        await bob.exits(128 + number)
        await programs.settle()
        await alice.types("send bob where are you?")
        await alice.sees(BOB_IS_AWAY)


async def test_a_client_whose_server_is_silent_ends_nevertheless():
    async with open_programs() as programs:
        server = await programs.server()
        bob = await programs.client("bob", server, "--reconnect", "--stay")
        server.freezes()
        bob.process.send_signal(signal.SIGTERM)
        await bob.sees("[The server is not responding: others may see you online for a minute.]")
        await bob.exits(128 + signal.SIGTERM)


async def test_a_terminal_that_is_closed_may_say_so_twice():
    """Its shell and the system each send SIGHUP, within a millisecond: the second killed the client."""
    async with open_programs() as programs:
        server = await programs.server()
        alice = await programs.client("alice", server)
        bob = await programs.client("bob", server, "--stay")
        server.freezes()
        for _ in range(2):
            bob.process.send_signal(signal.SIGHUP)
            await programs.settle()
        server.thaws()
        await bob.exits(128 + signal.SIGHUP)
        await programs.settle()
        await alice.types("send bob where are you?")
        await alice.sees(BOB_IS_AWAY)


async def test_a_client_keeps_what_was_typed_behind_a_command_that_waits():
    async with open_programs() as programs:
        server = await programs.server()
        bob = await programs.client("bob", server, "--reconnect", "--stay")
        server.freezes()
        await bob.types("list_groups")
        await bob.types("send carol hi")
        await programs.settle()
        bob.process.send_signal(signal.SIGTERM)
        lines, _ = await bob.rest()
        assert [line.removeprefix(">>> ") for line in lines] == [
            "[Not done: list_groups]",
            "[Your message to carol waits: the server is not responding. It is sent later; cancel 1 withdraws it.]",
            "[The server is not responding: others may see you online for a minute.]",
            "[Messages that wait to be sent: 1. The next start with --reconnect sends them.]",
        ]
        await bob.exits(128 + signal.SIGTERM)


async def test_what_nohup_starts_goes_on_when_the_terminal_is_closed():
    async with open_programs() as programs:
        server = await programs.server()
        command = ["nohup", sys.executable, "-m", "trio_chat", "server", "0", "--store", ":memory:"]
        identity = ["--identity", str(Path(programs.data_folder, "other.key"))]
        process = await trio.lowlevel.open_process(
            command + identity, stdin=-3, stdout=-1, stderr=-1, cwd=ROOT, env=ENVIRONMENT
        )
        with trio.fail_after(PATIENCE):
            shown = b""
            while b"Key: " not in shown:
                shown += await process.stderr.receive_some()
            process.send_signal(signal.SIGHUP)
            await programs.settle()
            assert process.poll() is None
            process.terminate()
            assert await process.wait() == 128 + signal.SIGTERM
        assert server.process.returncode is None


async def test_a_client_whose_output_nobody_reads_is_killed_by_the_second_signal():
    """It waits in a write, so it cannot end by itself."""
    async with open_programs() as programs:
        server = await programs.server()
        paths = {"XDG_DATA_HOME": programs.data_folder, "XDG_STATE_HOME": programs.data_folder}
        arguments = ["client", "bob", "127.0.0.1", server.port]
        process = await open_program("trio_chat", arguments, env=ENVIRONMENT | paths)
        programs.running.append(SimpleNamespace(process=process))  # so that `settle` waits for it, too
        with trio.fail_after(PATIENCE):
            assert b"Welcome" in await process.stdout.receive_some()
            await process.stdin.send_all(b"help\n" * 1000)
            await programs.settle()
            process.send_signal(signal.SIGTERM)
            await programs.settle()
            assert process.returncode is None
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == -signal.SIGTERM
