"""What was written is there at the next start: with real processes, and stores where the command line puts them."""

import re

import pytest

from tests.end_to_end.processes import open_programs

pytestmark = pytest.mark.xdist_group("programs")  # one after the other, beside the conversations


async def shows(program, *lines):
    """Its next lines are these, behind the date and the time."""
    for line in lines:
        printed = await program.next_line()
        assert re.fullmatch(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d " + re.escape(line) + r"\]", printed), printed


async def leaves(program):
    await program.types("exit")
    await program.sees("[You are Offline. Bye.]")
    await program.exits(0)


async def test_the_history_is_there_at_the_next_start():
    async with open_programs() as programs:
        server = await programs.server()
        x = await programs.client("x", server)
        y = await programs.client("y", server)
        await x.types("send y The build is green.")
        await x.sees("[Message received by y.]")
        await y.sees("x: The build is green.")
        await y.types("send_all Well done!")
        await y.sees("[Group Message received by Server.]")
        await x.sees("Group Chat y: Well done!")
        await leaves(x)
        await y.types("send x Bye.")
        await y.sees("[Offline Message sent at 00:00:00 received by the server and saved.]")

        x = await programs.client("x", server)
        await x.sees("[You have offline messages:]", "y: 00:00:00 Bye.")
        await x.types("history")
        await shows(x, "to y: The build is green.", "Group Chat y: Well done!", "y: Bye.")
        await x.types("history Y 2")
        await shows(x, "Group Chat y: Well done!", "y: Bye.")
        await x.types("search GREEN bui")
        await shows(x, "to y: The build is green.")
        await x.types('search "AND (')
        await x.sees("[Nothing found.]")
        await leaves(x)

        await y.sees("[Offline Message sent at 00:00:00 received by x.]")
        await y.types("history")
        await shows(y, "x: The build is green.", "Group Chat to all: Well done!", "to x: Bye.")


@pytest.mark.parametrize("options", [["--no-history"], ["--no-history", "--store", ":memory:"]])
async def test_with_no_history_none_is_kept(options):
    async with open_programs() as programs:
        server = await programs.server()
        x = await programs.client("x", server, *options)
        y = await programs.client("y", server)
        await x.types("send y hi")
        await x.sees("[Message received by y.]")
        await y.sees("x: hi")
        for command in ("history", "search hi"):
            await x.types(command)
            await x.sees("[No history is kept.]")
        await leaves(x)

        if ":memory:" not in options:
            x = await programs.client("x", server)
            await x.types("history")
            await x.sees("[Nothing found.]")
