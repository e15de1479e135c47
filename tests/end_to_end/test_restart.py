"""What survives when the server is killed: names, letters, group messages, and clients that wait until it is back.

Real processes with stores in their default files.
"""

from tests.end_to_end.processes import free_port, open_programs


async def test_letters_survive_a_killed_server_and_clients_find_it_again():
    async with open_programs() as programs:
        port = free_port()
        server = await programs.server("server", port)
        x = await programs.client("x", server, "--reconnect")
        y = await programs.client("y", server)
        await y.types("exit")
        await y.sees("[You are Offline. Bye.]")
        await y.exits(0)
        await programs.settle()
        await x.types("send y before")
        await x.sees("[Offline Message to y sent at 00:00:00 received by the server and saved.]")
        await x.types("send_all to all")
        await x.sees("[Group Message received by Server.]")
        server.process.kill()
        await server.process.wait()

        await x.types("send y meanwhile")
        await x.sees(
            "[Server not responding since 00:00:00, trying again.]",
            "[Messages that wait to be sent: 1.]",
            "[Your message to y waits: the server is not responding. It is sent later; cancel 3 withdraws it.]",
        )
        server = await programs.server("server", port)
        await x.sees("[Server is back.]", "[Your message to y of 00:00:00 was saved by the server.]")
        y = await programs.client("y", server)
        await y.sees(
            "[You have offline messages:]",
            "x: 00:00:00 before",
            "Group Chat x: 00:00:00 to all",
            "x: 00:00:00 meanwhile",
        )
        for _ in range(2):
            await x.sees("[Offline Message sent at 00:00:00 received by y.]")


async def test_a_client_waits_for_a_server_that_is_not_there_yet():
    async with open_programs() as programs:
        port = free_port()
        x = await programs.start("x", "client", "x", "127.0.0.1", port, "--reconnect")
        await x.sees("[Server not responding since 00:00:00, trying again.]")
        await programs.server("server", port, "--store", ":memory:")
        await x.sees("[Welcome, You are registered.]")
