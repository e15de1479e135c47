"""Who is blocked stays so at the next start, and reads what they would read of somebody who is away: real processes."""

import pytest

from tests.end_to_end.processes import open_programs

pytestmark = pytest.mark.xdist_group("programs")  # one after the other, beside the conversations


async def test_who_is_blocked_stays_so_and_sees_somebody_away():
    async with open_programs() as programs:
        server = await programs.server()
        x = await programs.client("x", server)
        y = await programs.client("y", server)
        await x.types("block y")
        blocked = await x.next_line()
        assert blocked.startswith("[y is blocked now, and is not told: ")
        key = blocked.removesuffix("]").rpartition(" ")[2]
        await x.types("exit")
        await x.sees("[You are Offline. Bye.]")
        await x.exits(0)

        x = await programs.client("x", server)
        await x.types("blocked")
        await x.sees(f"{key}  y")
        await y.types("send x hi")
        await y.sees("[Offline Message sent at 00:00:00 received by the server and saved.]")
        await y.types("send_all hi all")
        await y.sees("[Group Message received by Server.]")
        z = await programs.client("z", server)
        await z.types("send_all Nobody blocks me.")
        await z.sees("[Group Message received by Server.]")
        await y.sees("Group Chat z: Nobody blocks me.")
        await x.sees("Group Chat z: Nobody blocks me.")  # so it has taken what came before
        await x.types("unblock y")
        await x.sees("[y is not blocked any more.]")
        await x.types("send y I was away.")
        await x.sees("[Message received by y.]")
        await y.sees("x: I was away.")
        await x.types("history")
        assert (await x.next_line()).endswith(" Group Chat z: Nobody blocks me.]")
        assert (await x.next_line()).endswith(" to y: I was away.]")
