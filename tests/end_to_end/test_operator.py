"""An operator and their server: each command as it is typed, and what clients see of it.

Real processes, which share a data folder; each wait has a deadline.
"""

import json
import stat
from pathlib import Path

import pytest

from tests.end_to_end.processes import free_port, open_programs

pytestmark = pytest.mark.xdist_group("programs")  # one after the other, at the same time as the scripts


async def operator(programs, server, *words, code=0):
    """The lines that a command of the operator prints: standard output, then standard error."""
    program = await programs.start("operator", "server", *words, "--port", server.port)
    output, complaints = await program.rest()
    await program.exits(code)
    return output, complaints


async def test_an_operator_invites_kicks_and_bans():
    async with open_programs() as programs:
        server = await programs.server("server", free_port(), "--registration", "invitation")
        (code,), (until,) = await operator(programs, server, "invite", "--name", "bob", "--days", 2)
        assert until.startswith("It admits bob until ")
        alice = await programs.start("alice", "client", "alice", "127.0.0.1", server.port, "--invitation", code)
        _, complaints = await alice.rest()
        assert "the server needs a valid invitation for this name: ask its operator for one" in complaints[0]
        assert complaints[0].endswith("(--invitation CODE)")
        await alice.exits(2)
        bob = await programs.client("bob", server, "--invitation", code)

        (heading, row), _ = await operator(programs, server, "who")
        assert heading.split() == ["name", "status", "since", "address", "fingerprint"]
        assert row.split()[:3] == ["bob", "on", "line"]
        fingerprint = row.split()[-1]
        (line,), _ = await operator(programs, server, "who", "--json")
        assert [one["fingerprint"] for one in json.loads(line)["names"]] == [fingerprint]

        assert await operator(programs, server, "kick", "BOB") == (["bob is signed off."], [])
        await bob.sees("[The operator has signed you off. Type reg to come back.]")
        await bob.types("reg")
        await bob.sees("[RegSent]", "[You have no offline messages.]")

        lines, _ = await operator(programs, server, "ban", "bob")
        assert lines == [
            "The name bob is banned.",
            f"The key {fingerprint} of bob is banned.",
            "They can come back under another name, with another key: then ban their address, too.",
            "bob is signed off.",
        ]
        banned = "[You are banned from this server. Ask its operator. When the ban is lifted, type reg.]"
        await bob.sees(banned)
        await bob.types("reg")
        await bob.sees("[RegSent]", banned)
        assert await operator(programs, server, "bans") == (["name bob", f"key {fingerprint} of bob"], [])
        lines, _ = await operator(programs, server, "stats")
        assert {tuple(line.rsplit(maxsplit=1)) for line in lines} >= {("names", "1"), ("online", "0"), ("bans", "2")}
        lines, _ = await operator(programs, server, "ban", "nobody")
        assert lines == [
            "The name nobody is banned.",
            "Nobody has this name. The ban counts all the same: nobody can register it.",
        ]
        lines, _ = await operator(programs, server, "unban", "bob")
        assert lines[0] == "The name bob is no longer banned."
        await bob.types("reg")
        await bob.sees("[RegSent]", "[You have no offline messages.]")


async def test_an_operator_frees_and_deletes_names(tmp_path):
    async with open_programs() as programs:
        server = await programs.server("server", free_port(), "--store", ":memory:")
        bob, carol = await programs.client("bob", server), await programs.client("carol", server)
        new_key = ("--identity", tmp_path / "new.key", "--store", ":memory:")
        taken = await programs.start("new", "client", "bob", "127.0.0.1", server.port, *new_key)
        await taken.sees("[Name bob is taken.]")
        shown = await programs.start("shown", "fingerprint", "--identity", tmp_path / "new.key")
        (fingerprint,), _ = await shown.rest()
        lines, _ = await operator(programs, server, "forget", "bob", "--for", fingerprint)
        assert lines == [f"The name bob is free, but only for the key {fingerprint}."]
        await bob.sees("[The operator has freed your name. Type reg to come back.]")
        await bob.types("reg")
        await bob.sees("[RegSent]", "[Name bob is taken.]")
        await programs.client("bob", server, *new_key)

        assert await operator(programs, server, "delete", "bob") == (["The name bob is deleted."], [])
        await programs.settle()
        await carol.types("send bob hello?")
        warning = [await carol.next_line() for _ in range(3)]
        assert warning[0] == "[WARNING: the key of bob has changed!]"
        await carol.sees("[No such user: bob]")
        _, complaints = await operator(programs, server, "delete", "bob", code=2)
        assert complaints[0].endswith(" server delete: no such user: bob")


async def test_nobody_else_can_open_the_control_socket_and_it_goes_with_the_server():
    async with open_programs() as programs:
        server = await programs.server()
        folder = Path(programs._environment["XDG_DATA_HOME"], "trio_chat")
        path = folder / f"server-{server.port}.sock"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        watch = await programs.start("watch", "server", "stats", "--watch", "--json", "--port", server.port)
        for _ in range(2):
            assert json.loads(await watch.next_line())["names"] == 0
        server.interrupt()
        await server.rest()
        await server.exits(130)
        assert not path.exists()
        await watch.rest()
        await watch.exits(2)
        _, complaints = await operator(programs, server, "who", code=2)
        assert complaints[0].endswith(f" server who: no server is running here that can be reached at {path}")
