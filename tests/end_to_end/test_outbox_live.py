"""Messages that wait while the server is away, and a client that never does: the stories of its users.

Real processes; each wait has a deadline, and no test measures a time.
"""

import json
import re

import pytest

from tests.end_to_end.processes import free_port, open_programs
from tests.end_to_end.test_terminal_live import CTRL_D, ENTER, open_clients

pytestmark = pytest.mark.xdist_group("programs")  # one after the other, at the same time as the scripts

SILENT = "[Server not responding since 00:00:00, trying again.]"
ALL_WAITING = "[Messages that wait to be sent: {}. The next start with --reconnect sends them.]"
UNTOLD = "[The server is not responding: others may see you online for a minute.]"


def waits(to, number):
    return (
        f"[Your message to {to} waits: the server is not responding. It is sent later; cancel {number} withdraws it.]"
    )


async def is_killed(server):
    """Its table is of no interest."""
    server.process.kill()
    await server.process.wait()


async def has_printed(program, *lines):
    """The program prints these lines next, in any order."""
    printed = [re.sub(r"\d\d:\d\d:\d\d", "00:00:00", await program.next_line()) for _ in lines]
    assert sorted(printed) == sorted(lines)


async def test_a_message_does_not_end_the_program_when_the_server_is_gone():
    async with open_programs() as programs:
        server = await programs.server("server", free_port())
        x = await programs.client("x", server, "--reconnect")
        y = await programs.client("y", server)
        await y.types("exit")
        await y.sees("[You are Offline. Bye.]")
        await y.exits(0)
        await programs.settle()
        await is_killed(server)
        await x.types("send y one")
        await x.sees(SILENT, "[Messages that wait to be sent: 1.]", waits("y", 1))
        await x.types("search anything")
        await x.sees("[Nothing found.]")

        server = await programs.server("server", server.port)
        await has_printed(x, "[Server is back.]", "[Your message to y of 00:00:00 was saved by the server.]")
        y = await programs.client("y", server)
        await y.sees("[You have offline messages:]", "x: 00:00:00 one")
        await x.sees("[Offline Message sent at 00:00:00 received by y.]")
        await x.types("history")
        assert (await x.next_line()).endswith("to y: one]")


async def test_a_message_that_waits_blocks_no_other_command_and_not_the_end():
    async with open_programs() as programs:
        server = await programs.server("server", free_port())
        x = await programs.client("x", server, "--reconnect")
        y = await programs.client("y", server)
        await programs.settle()
        await is_killed(server)
        await x.types("send_all one")
        await x.types("send y two")
        await x.sees("[Message received by y.]")
        await y.sees("x: two")
        await x.types("who")
        for _ in range(3):
            await x.next_line()
        await x.sees(SILENT, "[Messages that wait to be sent: 1.]", waits("everyone", 1))
        await x.types("list_groups")
        await x.types("exit")
        await x.sees("[Not done: list_groups]", UNTOLD, ALL_WAITING.format(1))
        await x.exits(0)


async def test_the_end_of_input_is_the_end_also_while_a_message_waits():
    async with open_programs() as programs:
        server = await programs.server("server", free_port())
        x = await programs.client("x", server, "--reconnect")
        await is_killed(server)
        await x.types("send_all one")
        await x.ends_input()
        lines, _ = await x.rest()
        await x.exits(0)
        assert lines[-2:] == [f">>> {UNTOLD}", f">>> {ALL_WAITING.format(1)}"]


async def test_a_killed_client_goes_on_where_it_was():
    async with open_programs() as programs:
        server = await programs.server("server", free_port())
        x = await programs.client("x", server, "--reconnect")
        y = await programs.client("y", server, "--reconnect")
        await is_killed(server)
        for n in range(3):
            await x.types(f"send_all {n}")
        await x.sees(SILENT, "[Messages that wait to be sent: 3.]")
        await has_printed(x, *(waits("everyone", n + 1) for n in range(3)))
        await x.is_killed()

        server = await programs.server("server", server.port)
        x = await programs.start("x", "client", "x", "127.0.0.1", server.port)
        await x.sees("[Welcome, You are registered.]", ALL_WAITING.format(3))
        await x.types("cancel 2")
        await x.sees("[Your message to everyone of 00:00:00 is withdrawn.]")
        await x.ends_input()
        await x.sees("[You are Offline. Bye.]")
        await x.exits(0)
        x = await programs.client("x", server, "--reconnect")
        late = "[Your message to everyone of 00:00:00 was received by the server.]"
        await x.sees(late, late)
        texts = []
        while len(texts) < 2:
            line = await y.next_line()
            texts += [line[-1]] if line.startswith("Group Chat x: ") else []
        assert texts == ["0", "2"]


async def test_a_pipe_sends_before_it_ends():
    async with open_programs() as programs:
        server = await programs.server()
        y = await programs.client("y", server)
        x = await programs.start("x", "client", "x", "127.0.0.1", server.port, "--reconnect")
        await x.types("send y hi")
        await x.ends_input()
        await x.sees("[Welcome, You are registered.]", "[Message received by y.]", "[You are Offline. Bye.]")
        await x.exits(0)
        await y.sees("x: hi")


async def test_a_person_leaves_before_there_is_a_server(tmp_path):
    async with open_clients(tmp_path) as clients:
        await is_killed(clients.server)
        people = [await clients.start(name, "--reconnect") for name in ("x", "y", "z")]
        for person in people:
            await person.sees(">>>")
            person.type(f"send w hi{ENTER}")
            await person.sees(">>> send w hi")
        for person, end in zip(people, (f"exit{ENTER}", f"quit{ENTER}", CTRL_D), strict=True):
            person.type(end)
        for person in people:
            await person.leaves(0)
            assert any(line.startswith(">>> [Your message to w waits: the server is") for line in person.picture.lines)


async def test_a_program_is_told_what_becomes_of_its_messages():
    async with open_programs() as programs:
        server = await programs.server("server", free_port())
        x = await programs.start("x", "client", "x", "127.0.0.1", server.port, "--reconnect", "--json")
        await x.next_line()
        await is_killed(server)
        await x.types("send_all hi")
        shown = []
        while not shown or shown[-1]["event"] != "outgoing":
            shown.append(json.loads(await x.next_line()))
        queued = next(one for one in shown if one["event"] == "queued")
        change = shown[-1]
        assert (change["id"], change["state"], change["error"]) == (queued["id"], "waiting", "ServerNotResponding")
        await x.ends_input()
        lines, _ = await x.rest()
        assert [json.loads(line)["event"] for line in lines][-2:] == ["error", "messages_wait"]


async def test_send_queue_with_and_without_a_server():
    async with open_programs() as programs:
        port = free_port()

        async def send(text):
            return await programs.start(
                "robot", "send", "y", text, "--as", "robot", "--server", f"127.0.0.1:{port}", "--queue"
            )

        robot = await send("one")
        await robot.sees(
            "[Your message to y waits: the server is not responding."
            " The next send --queue or client --reconnect sends it.]"
        )
        await robot.exits(4)
        server = await programs.server("server", port)
        y = await programs.client("y", server)
        robot = await send("two")
        await robot.sees("[Your message to y of 00:00:00 was received.]", "[Message received by y.]")
        await robot.exits(0)
        await y.sees("robot: one", "robot: two")
        await y.types("exit")
        await y.sees("[You are Offline. Bye.]")
        await y.exits(0)
        robot = await send("three")
        await robot.sees("[Offline Message to y sent at 00:00:00 received by the server and saved.]")
        await robot.exits(3)
        robot = await programs.start("robot", "client", "robot", "127.0.0.1", port)
        await robot.sees("[Welcome, You are registered.]")
        await robot.types("outbox")
        await robot.sees("[No message waits to be sent.]")
