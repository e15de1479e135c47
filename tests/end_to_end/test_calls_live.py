"""A client whose server was killed is registered again as soon as a new one is there, without a wait for its heartbeat.

Real processes, with the server's store in its default file.
"""

import trio

from tests.end_to_end.processes import free_port, open_programs
from trio_chat.client.own_address import HEARTBEAT_EVERY


async def test_a_killed_server_calls_its_clients_when_it_is_back():
    async with open_programs() as programs:
        port = free_port()
        server = await programs.server("server", port)
        x = await programs.client("x", server)
        await server.sees("[Client table updated.]", "{'x': ('x', '127.0.0.1', 0, True)}")
        await server.is_killed()
        server = await programs.server("server", port)
        # Generous: it takes a moment. Without a call it would be the time until the next heartbeat.
        with trio.fail_after(HEARTBEAT_EVERY / 2):
            await server.sees("[Client table updated.]", "{'x': ('x', '127.0.0.1', 0, True)}")
        await x.types("send_all hi")
        await x.sees("[Group Message received by Server.]")
