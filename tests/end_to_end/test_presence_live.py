"""Presence with real processes and sockets: the ancestors' clients, the commands, and clients that behave badly."""

import json
import resource
import socket
import struct
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.end_to_end.patient_client import use_long_windows
from tests.end_to_end.processes import LOOK_EVERY, open_programs, switches
from tests.memory_listener import STILL_THERE, WHAT_THEY_COUNT, Visitor, came, run_demonstration, went
from trio_chat import open_chat

pytestmark = pytest.mark.xdist_group("presence")

HOST = "127.0.0.1"


async def server_of_both(programs):
    """A chat with a presence service; the latter's port is `presence_port`."""
    server = await programs.server("server", 0, "--presence-port", 0)
    line = await server.next_error()
    assert line.startswith(f"Presence on {HOST}:")
    server.presence_port = int(line.rpartition(":")[2])
    return server


@asynccontextmanager
async def open_visitors(port):
    """A function by which one enters after the other; at the end all have left."""
    visitors = []

    async def enter():
        visitors.append(Visitor(await trio.open_tcp_stream(HOST, port)))
        return visitors[-1]

    try:
        yield enter
    finally:
        with trio.CancelScope(shield=True):
            for visitor in visitors:
                await visitor.close()


async def test_friends_are_printed_as_they_come_and_go():
    async with open_programs() as programs:
        server = await server_of_both(programs)
        where = ("--server", f"{HOST}:{server.presence_port}")
        one = await programs.start("one", "friends", 1, 2, "x", *where)
        plain = await programs.start("plain", "friends", 3, 1, "X", "--json", *where)
        assert json.loads(await plain.next_line()) == came(1)

        await programs.start("two", "friends", 2, 1, *where)
        await one.sees("[2 is online]")
        x = await programs.client("x", server)
        await one.sees("[x is online]")
        assert json.loads(await plain.next_line()) == came("X")
        for command, seen, change in (
            ("dereg", "[x is away]", went("X")),
            ("reg", "[x is online]", came("X")),
            ("dereg", "[x is away]", went("X")),
        ):
            await x.types(command)
            await one.sees(seen)
            assert json.loads(await plain.next_line()) == change

        one.interrupt()
        await one.exits(130)
        assert json.loads(await plain.next_line()) == went(1)
        # All users that `plain` watches have left already. So nothing is sent while the server ends, which would be
        # printed or not, as the connection closes at the same time.
        server.interrupt()
        assert "has closed the connection" in await plain.next_error()
        await plain.exits(1)


async def test_a_reset_in_the_middle_of_an_answer():
    async with open_programs() as programs:
        server = await programs.server("presence", 0)
        async with open_visitors(server.port) as enter:
            one = await enter()
            assert await one.request(1, 2, push=True) == STILL_THERE
            for _ in range(20):
                two = await enter()
                two.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                await two.send(b'{"user_id": 2, "friends": [1]}' * 1000)
                assert await one.receive() == came(2)
                await two.close()
                assert await one.receive() == went(2)
        server.interrupt()
        await server.exits(130)


async def test_the_longest_request_and_one_byte_more():
    async with open_programs() as programs:
        server = await programs.server("presence", 0)
        async with open_visitors(server.port) as enter:
            one = await enter()
            request = b'{"user_id": 1, "friends": [%s]}' % b",".join(b"%d" % friend for friend in range(2, 1002))
            await one.send(request[:-1] + b" " * (65536 - len(request)) + b"}")
            assert await one.receive() == STILL_THERE
            await one.send(b'{"user_id": 1, "friends": [], "x": "' + b"x" * 300_000)
            assert (await one.receive())["error"] == 3
            assert await one.receive() is None


async def test_at_the_limit_of_open_files_the_service_goes_on():
    async with open_programs() as programs:
        server = await programs.server("presence", 0)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (64, 64))
        async with open_visitors(server.port) as enter:
            visitors = [await enter() for _ in range(80)]
            assert "Too many open files" in await server.next_error()
            assert await visitors[0].request(1, 2) == STILL_THERE
            for visitor in visitors[1:-1]:
                await visitor.close()
            assert await visitors[-1].request(2) == STILL_THERE
            assert await visitors[0].request(1, 2) == came(2)
        server.interrupt()
        await server.exits(130)


async def test_a_chat_goes_on_beside_500_half_open_connections(monkeypatch):
    use_long_windows(monkeypatch.setattr)
    async with open_programs() as programs:
        server = await server_of_both(programs)
        async with open_visitors(server.presence_port) as enter, open_chat("x", (HOST, server.port)) as chat:
            visitors = [await enter() for _ in range(500)]
            async with trio.open_nursery() as nursery:
                for visitor in visitors:
                    nursery.start_soon(dribble, visitor)
                # Each waits for the server's answer, and fails after five windows without one. How long it takes is
                # measured in benchmarks/.
                for number in range(100):
                    await chat.send_all(f"hi {number}")
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()


async def dribble(visitor):
    """A byte a second of a request. The server closes the connection if that takes too long."""
    with suppress(trio.BrokenResourceError):
        for byte in b'{"user_id": 1, "fri':
            await visitor.send(bytes([byte]))
            await trio.sleep(1)


async def test_the_clients_of_the_ancestors_count_the_same_changes_as_before(mock_clock):
    async with open_programs() as programs, trio.open_nursery() as nursery:
        server = await programs.server("presence", 0)
        nursery.start_soon(pass_time, mock_clock, server.process.pid)
        counts = await run_demonstration(partial(trio.open_tcp_stream, HOST, server.port))
        nursery.cancel_scope.cancel()
    assert counts == WHAT_THEY_COUNT


async def pass_time(clock, pid):
    """Let the clients' time pass when neither they nor the server have anything to do, however slow the machine is."""
    while True:
        before = None
        while (now := switches(pid)) is None or now != before:
            before = now
            await wait_all_tasks_blocked(LOOK_EVERY)
        clock.jump(0.1)
