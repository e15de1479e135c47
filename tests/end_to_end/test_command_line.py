"""The commands as real processes: pipes, exit codes, the ancestors' flags, wrong or unusual addresses and keys.

Each wait has a deadline; what differs from run to run (ports, clock times) is not compared.
"""

import re

import pytest

from tests.end_to_end.processes import free_port, open_stage

pytestmark = [pytest.mark.usefixtures("performances"), pytest.mark.xdist_group("plays")]


async def exits(client):
    await client.types("exit")
    await client.sees("[You are Offline. Bye.]")
    await client.leaves(0)


async def stops(server):
    server.interrupt()
    await server.last_words()
    await server.leaves(130)


async def test_a_pipe_is_read_to_its_end_each_command_after_the_last_one_was_answered():
    async with open_stage() as stage:
        server = await stage.server()
        y = await stage.client("y", server)
        z = await stage.client("z", server)
        await z.types("dereg")
        await z.sees("[You are Offline. Bye.]")

        x = await stage.start("x", "client", "x", "127.0.0.1", server.port)
        for command in ("send z are you away?", "send y hi", "send nobody hi", "send_all bye", "who knows"):
            await x.types(command)
        await x.types_no_more()

        await x.sees(
            "[Welcome, You are registered.]",
            "[Offline Message sent at 23:32:21 received by the server and saved.]",
            "[Message received by y.]",
            "[No such user: nobody]",
            "[Group Message received by Server.]",
            "[Unknown command: who knows. Type help.]",
            "[You are Offline. Bye.]",
        )
        await y.sees("x: hi", "Group Chat x: bye")
        await x.leaves(0)


async def test_with_stay_a_client_goes_on_listening_after_the_end_of_its_input():
    async with open_stage() as stage:
        server = await stage.server()
        x = await stage.client("x", server, "--stay")
        y = await stage.client("y", server)
        await x.types("send y I shall only listen")
        await x.types_no_more()
        await x.sees("[Message received by y.]")
        await y.sees("x: I shall only listen")

        await y.types("send x good")
        await x.sees("y: good")
        x.interrupt()
        await x.leaves(130)


async def test_exit_deregisters_first():
    async with open_stage() as stage:
        server = await stage.server()
        x = await stage.client("x", server)
        await server.sees("[Client table updated.]", "{'x': ('x', '127.0.0.1', 3333, True)}")
        await x.types("exit")
        await server.sees("[Client table updated.]", "{'x': ('x', '127.0.0.1', 3333, False)}")
        await x.sees("[You are Offline. Bye.]")
        await x.leaves(0)


async def test_at_a_terminal_ctrl_d_leaves_as_exit_does():
    async with open_stage() as stage:
        server = await stage.server()
        y = await stage.start_at_a_terminal("y", "client", "y", "127.0.0.1", server.port)
        await server.sees("[Client table updated.]", "{'y': ('y', '127.0.0.1', 3333, True)}")
        x = await stage.client("x", server)
        await y.types("send x hi")
        await x.sees("y: hi")
        await x.types("send y hello")
        await x.sees("[Message received by y.]")
        await y.types("\x04")
        shown = "\n".join((await y.last_words())[0])
        await y.leaves(0)
    for line in (">>> [Welcome, You are registered.]", ">>> [Message received by x.]", ">>> x: hello"):
        assert line in shown
    assert ">>> [You are Offline. Bye.]" in shown[shown.index("x: hello") :]


async def test_without_a_server_a_client_gives_up():
    async with open_stage() as stage:
        x = await stage.start("x", "client", "x", "127.0.0.1", free_port())
        y = await stage.start("y", "-c", "y", "127.0.0.1", free_port(), free_port(), "--wording", "channel")
        await x.sees("[Server not responding]", "[Exiting]")
        await y.sees("[Message sent failed]", "[Server is shut down]", "[Exiting]")
        await x.leaves(1)
        await y.leaves(1)


async def test_a_name_belongs_to_its_key_in_any_case(tmp_path):
    async with open_stage() as stage:
        server = await stage.server()
        bob = await stage.client("Bob", server)
        other_key = ("--identity", tmp_path / "other.key", "--store", ":memory:")
        other = await stage.start("bOB", "client", "bOB", "127.0.0.1", server.port, *other_key)
        await other.sees("[Name bOB is taken.]")
        await other.leaves(2)
        await exits(bob)


async def test_the_same_key_signs_in_from_another_place_and_the_first_program_ends():
    async with open_stage() as stage:
        server = await stage.server()
        first = await stage.client("x", server)
        second = await stage.client("x", server, "--store", ":memory:")
        await first.sees("[Signed in from another place.]", "[Exiting]")
        await first.leaves(0)
        y = await stage.client("y", server)
        await y.types("send x still there?")
        await y.sees("[Message received by x.]")
        await second.sees("y: still there?")


async def test_if_the_server_has_another_key_a_client_warns_and_ends(tmp_path):
    async with open_stage() as stage:
        server = await stage.server("server", free_port())
        await exits(await stage.client("x", server))
        await stops(server)
        other = await stage.server("server", server.port, "--identity", tmp_path / "other.key")
        assert other.key != server.key

        x = await stage.start("x", "client", "x", "127.0.0.1", server.port)
        await x.sees(
            "[WARNING: the key of the server has changed!]",
            f"[It was {server.key}, now it is {other.key}.]",
            "[Someone may be posing as the server. If you know that the new key is right,"
            f" start with --server-key {other.key}]",
            "[Exiting]",
        )
        await x.leaves(2)
        await stage.client("x", other, "--server-key", other.key)


async def test_a_forgotten_name_can_be_registered_with_another_key(tmp_path):
    async with open_stage() as stage:
        server = await stage.server("server", free_port())
        await exits(await stage.client("bob", server))
        await stops(server)
        operator = await stage.start("operator", "server", "forget", "BOB", "--port", server.port)
        await operator.sees("The name BOB is free.")
        await operator.leaves(0)

        server = await stage.server("server", server.port)
        new_key = ("--identity", tmp_path / "new.key", "--store", ":memory:")
        await stage.client("bob", server, *new_key)
        old = await stage.start("old", "client", "bob", "127.0.0.1", server.port)
        await old.sees("[Name bob is taken.]")
        await old.leaves(2)


async def test_the_flags_of_the_ancestors_take_the_ports_that_they_are_given():
    async with open_stage() as stage:
        server = await stage.server("-s", free_port())
        client_port = free_port()
        await stage.start("x", "-c", "x", "127.0.0.1", server.port, client_port)
        await server.sees("[Client table updated.]")
        assert await server.says() == f"{{'x': ('x', '127.0.0.1', {client_port}, True)}}"


async def test_an_address_that_cannot_be_used_is_one_line_on_standard_error():
    async with open_stage() as stage:
        taken = (await stage.server()).port
        attempts = {
            await stage.start("x", *arguments): clue
            for clue, *arguments in (
                (str(taken), "server", taken),
                (str(taken), "-c", "x", "127.0.0.1", taken, taken),
                ("x.invalid", "client", "x", "x.invalid", 5000),
                ("x.invalid", "server", 0, "--host", "x.invalid", "--store", ":memory:"),
                ("another program holds it", "server", 0),
            )
        }
        for party, clue in attempts.items():
            said, complaints = await party.last_words()
            assert said == []
            assert len(complaints) == 1, complaints
            assert clue in complaints[0]
            await party.leaves(2)


async def test_a_wrong_usage_is_explained_without_a_traceback():
    async with open_stage() as stage:
        attempts = [
            await stage.start("x", *arguments)
            for arguments in (
                (),
                ("server", "65536"),
                ("client", "x", "127.0.0.1", "70000"),
                ("client", "x\n", "127.0.0.1", "5000"),
                ("-c", "x", "127.0.0.1"),
            )
        ]
        for party in attempts:
            said, complaints = await party.last_words()
            assert said + complaints
            assert "Traceback" not in "".join(said + complaints)
            await party.leaves(2)


@pytest.mark.parametrize("host", ["::1", "localhost"])
async def test_a_server_is_reached_by_ipv6_and_by_name(host):
    async with open_stage() as stage:
        server = await stage.server()
        x = await stage.client("x", server, host=host)
        y = await stage.client("y", server, host=host)
        await x.types("send y hi")
        await y.sees("x: hi")
        await x.sees("[Message received by y.]")


async def test_brackets_around_an_address_make_no_difference():
    async with open_stage() as stage:
        server = await stage.server()
        await exits(await stage.client("alice", server, host="[::1]"))
        shown = set()
        for host in ("::1", "[::1]"):
            party = await stage.start("alice", "fingerprint", "alice", host, server.port)
            shown.add(await party.says())
            await party.leaves(0)
        assert len(shown) == 1, "the same files"


@pytest.mark.parametrize("has_met_it", [False, True])
async def test_a_mistyped_server_key_is_not_reported_as_another_server(has_met_it):
    async with open_stage() as stage:
        server = await stage.server()
        if has_met_it:
            await exits(await stage.client("x", server))
        wrong = "aaaa-bbbb-cccc-dddd"
        x = await stage.start("x", "client", "x", "127.0.0.1", server.port, "--server-key", wrong)
        said, complaints = await x.last_words()
        await x.leaves(2)
    assert said == []
    assert complaints == [
        "python -m trio_chat client: --server-key is wrong:"
        f" the key given for the server is {wrong}, but the server's key is {server.key}"
    ]


async def test_the_demo_plays_a_conversation_and_ends():
    async with open_stage() as stage:
        demo = await stage.start("demo", "demo")
        said, complaints = await demo.last_words()
        assert complaints == []
        await demo.leaves(0)
    for phrase in (
        r"\[Message received by \w+\.\]",
        r"\[Offline Message sent at \d\d:\d\d:\d\d received by the server and saved\.\]",
        r"\[You have offline messages:\]",
        r"\[Offline Message sent at \d\d:\d\d:\d\d received by \w+\.\]",
        r"\[Group Message received by Server\.\]",
        r"Group Chat \w+: \S",
    ):
        assert re.search(phrase, "\n".join(said)), phrase
