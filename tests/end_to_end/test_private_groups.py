"""Private groups with real processes: who is in one reads it, and the server's disk and memory never have the words."""

import re
from pathlib import Path

import pytest

from tests.end_to_end.processes import free_port, open_programs

pytestmark = pytest.mark.xdist_group("programs")  # one after the other, beside the conversations

PRIVATE = "[Group plan is private, and you are not in it. Ask one of its owners to type invite with your name.]"
SEALED = "Zwetschgendatschi"
OPEN = "Apfelstrudel"
"""Written to an open group: so that the search is known to find what is there."""


def memory(pid: int) -> bytes:
    """What a process of ours has in its memory, as far as it can be read."""
    found = []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            if re.search(r"^\S+ rw", line):
                start, end = (int(place, 16) for place in line.split()[0].split("-"))
                memory.seek(start)
                # Some areas, such as [vvar], cannot be read.
                try:
                    found.append(memory.read(end - start))
                except OSError:
                    continue
    return b"".join(found)


def disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="the memory of a process can be read on Linux only")
async def test_a_private_group_is_for_those_who_are_invited(tmp_path):
    async with open_programs() as programs:
        port, store = free_port(), tmp_path / "server.db"
        server = await programs.server("server", port, "--store", store)
        x, y, z = [await programs.client(name, server) for name in "xyz"]
        await x.types("create_group plan --private")
        await x.sees("[Group plan created by Server.]", "[It is private. Type invite NAME to add somebody.]")
        await x.types("invite y")
        await x.sees("(plan) [y is in the group now.]")
        await y.sees("(plan) [x has added you to this group. Type join_group plan to write to it.]")
        await y.types("join_group plan")
        await y.sees("[Entered group plan successfully]")
        await y.types(f"send_group {SEALED}")
        await y.sees("(plan) [Message received by Server.]")
        await x.sees(f"(plan) Group_Message y: {SEALED}")

        # For z there is no such group.
        await z.types("list_groups")
        await z.sees("[Available group chats:]")
        await z.types("join_group plan")
        await z.sees(PRIVATE)
        await z.types("create_group open")
        await z.sees("[Group open created by Server.]")
        await z.types(f"send_group {OPEN}")
        await z.sees("(open) [Message received by Server.]")

        # What comes while y is away waits for y, sealed.
        await y.types("exit")
        await y.sees("[You are Offline. Bye.]")
        await y.exits(0)
        await x.types(f"send_group more {SEALED}")
        await x.sees("(plan) [Message received by Server.]")
        for found in (disk(tmp_path), memory(server.process.pid)):
            assert OPEN.encode() in found
            assert SEALED.encode() not in found

        # A killed server knows the group, and so do its members.
        server.process.kill()
        await server.rest()
        server = await programs.server("server", port, "--store", store)
        y = await programs.client("y", server)
        await y.sees("[You have offline messages:]", f"(plan) Group_Message x: 00:00:00 more {SEALED}")
        await y.types("list_members plan")
        await y.sees("(plan) [Members in the group plan:]", "(plan) x", "(plan) y")

        # Who is removed gets nothing more; who leaves, too. (z registers again when they type.)
        await z.types("list_groups")
        await z.sees("[Available group chats:]", "open (current)")
        await x.types("invite z")
        await x.sees("(plan) [z is in the group now.]")
        await y.sees("(plan) [x has added z.]")
        await z.sees("(plan) [x has added you to this group. Type join_group plan to write to it.]")
        await x.types("remove y")
        await x.sees("(plan) [y is not in the group any more.]")
        await y.sees("(plan) [x has removed you.]")
        await z.sees("(plan) [x has given the group a new key. Not in it any more: y.]")
        await x.types("send_group without y")
        await x.sees("(plan) [Message received by Server.]")
        await z.sees("(plan) Group_Message x: without y")
        await z.types("leave_group plan")
        await z.sees("[Leave group chat plan]")
        await x.sees(
            "(plan) [z has left. The program of an owner gives the group a new key: now, or when one is online.]"
        )
        await x.sees("(plan) [Not in the group any more: z.]")
        await x.types("list_members")
        await x.sees("(plan) [Members in the group plan:]", "(plan) x")
        await programs.settle()  # until y has the new address of x in its table
        await y.types("send x bye")
        await y.sees("[Message received by x.]")
        await x.sees("y: bye")
