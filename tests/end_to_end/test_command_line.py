"""The commands as real processes: pipes, exit codes, the ancestors' flags, wrong or unusual addresses and keys.

Each wait has a deadline; what differs from run to run (ports, clock times) is not compared.
"""

import json
import re

import pytest

from tests.end_to_end.processes import free_port, open_programs, plain

pytestmark = [pytest.mark.usefixtures("conversations"), pytest.mark.xdist_group("conversations")]


async def exits(client):
    await client.types("exit")
    await client.sees("[You are Offline. Bye.]")
    await client.exits(0)


async def stops(server):
    server.interrupt()
    await server.rest()
    await server.exits(130)


async def test_a_pipe_is_read_to_its_end_each_command_after_the_last_one_was_answered():
    async with open_programs() as programs:
        server = await programs.server()
        y = await programs.client("y", server)
        z = await programs.client("z", server)
        await z.types("dereg")
        await z.sees("[You are Offline. Bye.]")

        x = await programs.start("x", "client", "x", "127.0.0.1", server.port)
        for command in ("send z are you away?", "send y hi", "send nobody hi", "send_all bye", "who knows"):
            await x.types(command)
        await x.ends_input()

        await x.sees(
            "[Welcome, You are registered.]",
            "[Offline Message sent at 23:32:21 received by the server and saved.]",
            "[Message received by y.]",
            "[No such user: nobody]",
            "[Group Message received by Server.]",
            "[Usage: who [--all]]",
            "[You are Offline. Bye.]",
        )
        await y.sees("x: hi", "Group Chat x: bye")
        await x.exits(0)


async def test_with_stay_a_client_goes_on_listening_after_the_end_of_its_input():
    async with open_programs() as programs:
        server = await programs.server()
        x = await programs.client("x", server, "--stay")
        y = await programs.client("y", server)
        await x.types("send y I shall only listen")
        await x.ends_input()
        await x.sees("[Message received by y.]")
        await y.sees("x: I shall only listen")

        await y.types("send x good")
        await x.sees("y: good")
        x.interrupt()
        await x.exits(130)


async def test_exit_deregisters_first():
    async with open_programs() as programs:
        server = await programs.server()
        x = await programs.client("x", server)
        await server.sees("[Client table updated.]", "{'x': ('x', '127.0.0.1', 3333, True)}")
        await x.types("exit")
        await server.sees("[Client table updated.]", "{'x': ('x', '127.0.0.1', 3333, False)}")
        await x.sees("[You are Offline. Bye.]")
        await x.exits(0)


async def test_at_a_terminal_ctrl_d_leaves_as_exit_does():
    async with open_programs() as programs:
        server = await programs.server()
        y = await programs.start_at_a_terminal("y", "client", "y", "127.0.0.1", server.port)
        await server.sees("[Client table updated.]", "{'y': ('y', '127.0.0.1', 3333, True)}")
        x = await programs.client("x", server)
        await y.types("send x hi")
        await x.sees("y: hi")
        await x.types("send y hello")
        await x.sees("[Message received by y.]")
        await y.types("\x04")
        shown = "\n".join((await y.rest())[0])
        await y.exits(0)
    for line in (">>> [Welcome, You are registered.]", ">>> [Message received by x.]", ">>> x: hello"):
        assert line in shown
    assert ">>> [You are Offline. Bye.]" in shown[shown.index("x: hello") :]


async def test_without_a_server_a_client_gives_up():
    async with open_programs() as programs:
        x = await programs.start("x", "client", "x", "127.0.0.1", free_port())
        y = await programs.start("y", "-c", "y", "127.0.0.1", free_port(), free_port(), "--wording", "channel")
        await x.sees("[Server not responding]", "[Exiting]")
        await y.sees("[Message sent failed]", "[Server is shut down]", "[Exiting]")
        await x.exits(1)
        await y.exits(1)


async def test_a_name_belongs_to_its_key_in_any_case(tmp_path):
    async with open_programs() as programs:
        server = await programs.server()
        bob = await programs.client("Bob", server)
        other_key = ("--identity", tmp_path / "other.key", "--store", ":memory:")
        other = await programs.start("bOB", "client", "bOB", "127.0.0.1", server.port, *other_key)
        await other.sees("[Name bOB is taken.]")
        await other.exits(2)
        await exits(bob)


async def test_the_same_key_signs_in_from_another_place_and_the_first_program_ends():
    async with open_programs() as programs:
        server = await programs.server()
        first = await programs.client("x", server)
        second = await programs.client("x", server, "--store", ":memory:")
        await first.sees("[Signed in from another place: go on there, or start again here.]", "[Exiting]")
        await first.exits(0)
        y = await programs.client("y", server)
        await y.types("send x still there?")
        await y.sees("[Message received by x.]")
        await second.sees("y: still there?")


async def test_if_the_server_has_another_key_a_client_warns_and_ends(tmp_path):
    async with open_programs() as programs:
        server = await programs.server("server", free_port())
        await exits(await programs.client("x", server))
        await stops(server)
        other = await programs.server("server", server.port, "--identity", tmp_path / "other.key")
        assert other.key != server.key

        x = await programs.start("x", "client", "x", "127.0.0.1", server.port)
        await x.sees(
            "[WARNING: the key of the server has changed!]",
            f"[It was {server.key}, now it is {other.key}.]",
            "[Someone may be posing as the server. If you know that the new key is right,"
            f" start with --server-key {other.key}]",
            "[Exiting]",
        )
        await x.exits(2)
        await programs.client("x", other, "--server-key", other.key)


@pytest.mark.parametrize("options", [(), ("--reconnect",), ("--reconnect", "--json")], ids=" ".join)
async def test_if_the_server_gets_another_key_a_running_client_warns_and_ends(tmp_path, options):
    async with open_programs() as programs:
        server = await programs.server("server", free_port())
        x = await programs.start("x", "client", "x", "127.0.0.1", server.port, *options)
        await x.next_line()
        await programs.settle()
        await stops(server)
        other = await programs.server(
            "server", server.port, "--identity", tmp_path / "other.key", "--store", ":memory:"
        )
        await x.types("send_all is it still you?")
        await x.types("send_all hello?")
        lines, _ = await x.rest()
        await x.exits(2)
    silent = [
        plain("[Server not responding since 00:00:00, trying again.]"),
        "[Messages that wait to be sent: 2.]",
        "[Messages that wait to be sent: 2. The next start with --reconnect sends them.]",
    ]
    silent = silent if options else []
    warning = ["[WARNING: the key of the server has changed!]", f"[It was {server.key}, now it is {other.key}.]"]
    if "--json" in options:
        events = [json.loads(line)["event"] for line in lines]
        assert events == ["table", "queued", "queued", "server_silent", "messages_wait", "error"]
        assert json.loads(lines[-1])["error"] == "ServerKeyChanged"
    else:
        assert [plain(line) for line in lines][: len(silent) + 2] == silent + warning
        assert lines[-1] == ">>> [Exiting]"
        assert len(lines) == len(silent) + 4


async def test_a_forgotten_name_can_be_registered_with_another_key(tmp_path):
    async with open_programs() as programs:
        server = await programs.server("server", free_port())
        await exits(await programs.client("bob", server))
        await stops(server)
        operator = await programs.start("operator", "server", "forget", "BOB", "--port", server.port)
        await operator.sees("The name BOB is free.")
        await operator.exits(0)

        server = await programs.server("server", server.port)
        new_key = ("--identity", tmp_path / "new.key", "--store", ":memory:")
        await programs.client("bob", server, *new_key)
        old = await programs.start("old", "client", "bob", "127.0.0.1", server.port)
        await old.sees("[Name bob is taken.]")
        assert (await old.next_error()).endswith("ask the operator of the server to free it")
        await old.exits(2)


async def test_the_flags_of_the_ancestors_take_the_ports_that_they_are_given():
    async with open_programs() as programs:
        server = await programs.server("-s", free_port())
        client_port = free_port()
        await programs.start("x", "-c", "x", "127.0.0.1", server.port, client_port)
        await server.sees("[Client table updated.]")
        assert await server.next_line() == f"{{'x': ('x', '127.0.0.1', {client_port}, True)}}"


async def test_an_address_that_cannot_be_used_is_one_line_on_standard_error():
    async with open_programs() as programs:
        taken = (await programs.server()).port
        attempts = {
            await programs.start("x", *arguments): clue
            for clue, *arguments in (
                (str(taken), "server", taken),
                (str(taken), "-c", "x", "127.0.0.1", taken, taken),
                ("x.invalid", "client", "x", "x.invalid", 5000),
                ("x.invalid", "server", 0, "--host", "x.invalid", "--store", ":memory:"),
                ("a server is running with the store ", "server", 0),
            )
        }
        for program, clue in attempts.items():
            output, complaints = await program.rest()
            assert output == []
            assert len(complaints) == 1, complaints
            assert clue in complaints[0]
            await program.exits(2)


async def test_a_wrong_usage_is_explained_without_a_traceback():
    async with open_programs() as programs:
        attempts = [
            await programs.start("x", *arguments)
            for arguments in (
                (),
                ("server", "65536"),
                ("client", "x", "127.0.0.1", "70000"),
                ("client", "x\n", "127.0.0.1", "5000"),
                ("-c", "x", "127.0.0.1"),
            )
        ]
        for program in attempts:
            output, complaints = await program.rest()
            assert output + complaints
            assert "Traceback" not in "".join(output + complaints)
            await program.exits(2)


@pytest.mark.parametrize("host", ["::1", "localhost"])
async def test_a_server_is_reached_by_ipv6_and_by_name(host):
    async with open_programs() as programs:
        server = await programs.server()
        x = await programs.client("x", server, host=host)
        y = await programs.client("y", server, host=host)
        await x.types("send y hi")
        await y.sees("x: hi")
        await x.sees("[Message received by y.]")


async def test_brackets_around_an_address_make_no_difference():
    async with open_programs() as programs:
        server = await programs.server()
        await exits(await programs.client("alice", server, host="[::1]"))
        shown = set()
        for host in ("::1", "[::1]"):
            program = await programs.start("alice", "fingerprint", "alice", host, server.port)
            shown.add(await program.next_line())
            await program.exits(0)
        assert len(shown) == 1, "the same files"


@pytest.mark.parametrize("has_met_it", [False, True])
async def test_a_mistyped_server_key_is_not_reported_as_another_server(has_met_it):
    async with open_programs() as programs:
        server = await programs.server()
        if has_met_it:
            await exits(await programs.client("x", server))
        wrong = "aaaa-bbbb-cccc-dddd"
        x = await programs.start("x", "client", "x", "127.0.0.1", server.port, "--server-key", wrong)
        output, complaints = await x.rest()
        await x.exits(2)
    assert output == []
    assert complaints == [
        "python -m trio_chat client: --server-key is wrong:"
        f" the key given for the server is {wrong}, but the server's key is {server.key}"
    ]


async def test_the_demo_shows_a_conversation_and_ends():
    async with open_programs() as programs:
        demo = await programs.start("demo", "demo")
        output, complaints = await demo.rest()
        assert complaints == []
        await demo.exits(0)
    for phrase in (
        r"\[Message received by \w+\.\]",
        r"\[Offline Message sent at \d\d:\d\d:\d\d received by the server and saved\.\]",
        r"\[You have offline messages:\]",
        r"\[Offline Message sent at \d\d:\d\d:\d\d received by \w+\.\]",
        r"\[Group Message received by Server\.\]",
        r"Group Chat \w+: \S",
    ):
        assert re.search(phrase, "\n".join(output)), phrase
