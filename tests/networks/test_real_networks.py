"""The programs on bad networks: real processes in network namespaces, real time.

Each docstring says what was before. What was measured is printed. The same in virtual time: tests/test_far_networks.py
and tests/test_routers.py.
"""

import re
from contextlib import asynccontextmanager

import pytest
import trio

from tests.end_to_end.processes import PATIENCE, open_programs, plain
from tests.nat import Kind, Nat
from tests.network import Conditions
from tests.networks.lines import open_lines
from trio_chat.client.own_address import LOOK_EVERY

pytestmark = [pytest.mark.networks, pytest.mark.xdist_group("networks")]

PORT = 5000
RECEIVED = "[Message received by bob.]"
SLOW = Conditions(rate=8000.0, delay=(0.01, 0.01), queue=20_000)
"""64 kbit/s, with a queue of 2.5 s."""


class Hosts:
    """Hosts with a program each. The server is on the first one."""

    def __init__(self, programs, lines):
        self.programs, self.lines = programs, lines
        self.hosts = {}
        self.server = None

    async def serve(self):
        """Start the server."""
        host = self.hosts["server"] = await self.lines.add("server")
        self.server = await self.programs.server("server", PORT, "--store", ":memory:", on=host.command)

    async def start(self, name, *options, nat=None):
        """Start a client on a host of its own."""
        host = self.hosts[name] = await self.lines.add(name, nat)
        arguments = ("client", name, self.hosts["server"].address, PORT, *options)
        return await self.programs.start(name, *arguments, on=host.command)

    async def client(self, name, *options, **where):
        """The same; the client has registered."""
        program = await self.start(name, *options, **where)
        await program.sees("[Welcome, You are registered.]")
        return program

    async def sent_to(self, name):
        """How many bytes were sent to this host so far."""
        return self.lines.sent[self.hosts[name]]


@asynccontextmanager
async def open_hosts(conditions=None, mtu=None):
    """A server on a host, and lines with such conditions."""
    async with open_programs() as programs, open_lines() as lines:
        lines.default = conditions or lines.default
        lines.mtu = mtu or lines.mtu
        hosts = Hosts(programs, lines)
        await hosts.serve()
        yield hosts


async def shown(program, sender, texts):
    """Wait until these texts of the sender were shown, each once, in this order, and nothing else of them."""
    got = []
    with trio.fail_after(PATIENCE):
        while len(got) < len(texts):
            line = plain(await program.next_line())
            if found := re.fullmatch(rf"{sender}: (?:HH:MM:SS )?(.*?)(?: \(written .*\))?", line):
                got.append(found[1])
    assert got == texts


def measured(what, figure):
    print(f"{what}: {figure}")


def far_away(round_trip, loss=0.0):
    return Conditions(loss=loss, delay=(round_trip / 2, round_trip / 2 + 0.001))


async def test_all_of_230_messages_arrive_where_30_percent_are_lost_both_ways():
    """Before: both programs ended, after the 33rd message."""
    async with open_hosts(Conditions(loss=0.3)) as hosts:
        alice, bob = await hosts.client("alice"), await hosts.client("bob")
        texts = [f"text-{n}" for n in range(230)]
        began = trio.current_time()
        for text in texts:
            await alice.types(f"send bob {text}")
        await shown(bob, "alice", texts)
        measured("230 messages at 30 % loss", f"{trio.current_time() - began:.1f} s")
        assert alice.process.returncode is bob.process.returncode is None


async def test_all_of_30_programs_start_where_30_percent_are_lost_both_ways():
    """Before: 9 of 30 did not. Then 1 or 2 of the last ones, for whom the table has many parts."""
    async with open_hosts(Conditions(loss=0.3)) as hosts:
        began = trio.current_time()
        for program in [await hosts.start(f"user{n}") for n in range(30)]:
            await program.sees("[Welcome, You are registered.]")
        measured("30 starts at 30 % loss", f"{trio.current_time() - began:.1f} s")


@pytest.mark.parametrize("round_trip", [0.17, 0.3, 0.45, 0.6, 0.82, 1.5])
async def test_all_of_15_messages_are_shown_at_each_round_trip(round_trip):
    """Before: from 510 ms on each was told to be saved, and never shown; from 840 ms on nobody could start."""
    async with open_hosts(far_away(round_trip)) as hosts:
        alice, bob = await hosts.client("alice"), await hosts.client("bob")
        await trio.sleep(4 * round_trip)  # until alice has bob's row
        texts = [f"text-{n}" for n in range(15)]
        began = trio.current_time()
        for text in texts:
            await alice.types(f"send bob {text}")
        if round_trip < 0.5:
            await alice.sees(RECEIVED)  # directly: before, the first one got no acknowledgement
        await shown(bob, "alice", texts)
        measured(f"15 messages at {1000 * round_trip:.0f} ms", f"{trio.current_time() - began:.1f} s")


async def test_a_text_of_16_kib_passes_at_64_kbit_a_second_in_under_4_s():
    """Before: it ended its sender, and 306 KiB were sent for it."""
    async with open_hosts() as hosts:
        alice, bob = await hosts.client("alice"), await hosts.client("bob")
        await trio.sleep(0.5)
        hosts.lines.set(SLOW, hosts.hosts["alice"])
        text, sent, began = "x" * 16_384, await hosts.sent_to("bob"), trio.current_time()
        await alice.types(f"send bob {text}")
        await alice.sees(RECEIVED)
        took, size = trio.current_time() - began, await hosts.sent_to("bob") - sent
        await shown(bob, "alice", [text])
        measured("16 KiB at 64 kbit/s", f"{took:.2f} s, {size:,} bytes")
        assert took < 4
        assert size < 1.5 * len(text)


async def test_20_letters_of_1_kb_arrive_in_under_8_s_on_return_at_64_kbit_a_second():
    """Before: 10 arrived, the same batch again and again, 324 KiB in 60 s."""
    async with open_hosts() as hosts:
        alice, bob = await hosts.client("alice"), await hosts.client("bob")
        await bob.types("dereg")
        await bob.sees("[You are Offline. Bye.]")
        await trio.sleep(0.5)
        texts = [f"text-{n}-".ljust(1024, ".") for n in range(20)]
        for text in texts:
            await alice.types(f"send bob {text}")
        for _ in texts:
            await alice.sees("[Offline Message sent at 00:00:00 received by the server and saved.]")
        hosts.lines.set(SLOW, hosts.hosts["bob"])
        sent, began = await hosts.sent_to("bob"), trio.current_time()
        await bob.types("reg")
        await shown(bob, "alice", texts)
        took, size = trio.current_time() - began, await hosts.sent_to("bob") - sent
        measured("20 letters of 1 KB at 64 kbit/s", f"{took:.2f} s, {size:,} bytes")
        assert took < 8


@pytest.mark.parametrize("mtu", [600, 1000])
async def test_long_texts_pass_where_only_short_packets_do(mtu):
    """Before: short texts passed, and one of 16 KiB ended its sender. Nobody says why: ICMP is filtered."""
    async with open_hosts(mtu=mtu) as hosts:
        alice, bob = await hosts.client("alice"), await hosts.client("bob")
        await trio.sleep(0.5)
        text = "x" * 16_384
        for _ in range(4):
            await alice.types(f"send bob {text}")
            await alice.sees(RECEIVED)
        await shown(bob, "alice", [text] * 4)


async def test_what_is_written_in_a_cut_of_90_s_arrives_after_it():
    """Before: a client that sent ended after 3 s, and an idle one was told nothing."""
    async with open_hosts() as hosts:
        alice, bob = await hosts.client("alice", "--reconnect"), await hosts.client("bob", "--reconnect")
        await trio.sleep(0.5)
        hosts.lines.default = Conditions(loss=1.0)
        await alice.types("send bob text-1")
        await trio.sleep(90)
        hosts.lines.default = Conditions()
        began = trio.current_time()
        await shown(bob, "alice", ["text-1"])
        measured("after a cut of 90 s", f"{trio.current_time() - began:.1f} s")
        lines = [line async for line in until(alice, "[Server is back.]")]
        assert any(line.startswith("[Server not responding since") for line in lines)


async def until(program, last):
    """The lines of a program up to this one."""
    while (line := plain(await program.next_line())) != last:
        yield line


async def test_who_gets_another_address_is_found_there_within_seconds():
    """Before: with the next heartbeat, up to 20 seconds later."""
    async with open_hosts(far_away(0.02)) as hosts:
        alice, bob = await hosts.client("alice"), await hosts.client("bob")
        await trio.sleep(LOOK_EVERY + 1)
        host = hosts.hosts["bob"]
        await hosts.lines.move(host)
        began = trio.current_time()
        while f"'{host.address}'" not in await hosts.server.next_line():
            pass
        took = trio.current_time() - began
        measured("another address in the table", f"{took:.1f} s")
        assert took < 2 * LOOK_EVERY
        await trio.sleep(0.5)
        await alice.types("send bob text-1")
        await alice.sees(RECEIVED)
        await shown(bob, "alice", ["text-1"])


async def test_people_behind_routers_that_forget_in_15_s_stay_online_and_write_directly():
    """Before: marked offline although they were there, and the messages of one of them went by the server."""
    async with open_hosts(far_away(0.04)) as hosts:
        alice, bob = [
            await hosts.client(name, nat=Nat(f"203.0.113.{n}", Kind.PORT_RESTRICTED, lasts=15.0))
            for n, name in enumerate(("alice", "bob"), 1)
        ]
        await trio.sleep(70)
        for n in range(3):
            await alice.types(f"send bob text-{n}")
            await alice.sees(RECEIVED)
        await bob.types("send alice text-3")
        await bob.sees(*[f"alice: text-{n}" for n in range(3)], "[Message received by alice.]")
        hosts.server.interrupt()
        lines, _ = await hosts.server.rest()
        assert not any("False" in line for line in lines), "nobody was marked offline"


async def test_two_behind_one_router_write_directly():
    """Before: by the server. The router does not send back inside what is sent to its outside."""
    async with open_hosts(far_away(0.04)) as hosts:
        nat = Nat("203.0.113.1")
        alice, bob = await hosts.client("alice", nat=nat), await hosts.client("bob", nat=nat)
        await trio.sleep(0.5)
        await alice.types("send bob text-0")
        await alice.sees("[No ACK from bob, message sent to server.]", "[Message relayed to bob by the server.]")
        for n in range(1, 4):
            await alice.types(f"send bob text-{n}")
            await alice.sees(RECEIVED)
        await shown(bob, "alice", [f"text-{n}" for n in range(4)])
