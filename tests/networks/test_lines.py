"""The lines themselves, with plain sockets in the namespaces: what the tests of the chat rely on."""

import ctypes
import socket
import threading
from pathlib import Path

import pytest
import trio

from tests.nat import Kind, Nat
from tests.network import Conditions
from tests.networks.lines import open_lines

pytestmark = pytest.mark.networks

CLONE_NEWNET = 0x40000000
IP_MTU_DISCOVER, IP_PMTUDISC_DONT, IP_PMTUDISC_DO = 10, 0, 2
PORT = 5000


def socket_on(host):
    """A UDP socket at PORT of this host."""
    opened = []

    def open_there():
        with Path("/run/netns", host.namespace).open() as namespace:
            assert ctypes.CDLL(None).setns(namespace.fileno(), CLONE_NEWNET) == 0
        opened.append(socket.socket(type=socket.SOCK_DGRAM))
        opened[0].bind((host.address, PORT))

    # A thread of its own, which ends: it does not come back from there.
    thread = threading.Thread(target=open_there)
    thread.start()
    thread.join()
    return trio.socket.from_stdlib_socket(opened[0])


async def received(there, within=1.0):
    """What comes first, with its source; None if nothing does."""
    with trio.move_on_after(within):
        return await there.recvfrom(65536)
    return None


async def test_a_datagram_arrives_after_the_delay():
    async with open_lines() as lines:
        lines.default = Conditions(delay=(0.2, 0.2))
        alice, bob = await lines.add("alice"), await lines.add("bob")
        with socket_on(alice) as here, socket_on(bob) as there:
            began = trio.current_time()
            await here.sendto(b"hi", (bob.address, PORT))
            assert await received(there) == (b"hi", (alice.address, PORT))
            assert trio.current_time() - began >= 0.2
            assert lines.sent == {bob: 30}


async def test_a_slow_line_has_its_rate_and_keeps_the_order():
    async with open_lines() as lines:
        alice, bob = await lines.add("alice"), await lines.add("bob")
        lines.set(Conditions(rate=10_000, queue=4_000), alice)
        with socket_on(alice) as here, socket_on(bob) as there:
            began = trio.current_time()
            for number in range(10):
                await here.sendto(bytes([number]) * 972, (bob.address, PORT))
            # Five wait or are on their way when the queue has more than 4,000 bytes.
            got = [(await received(there))[0][0] for _ in range(5)]
            assert trio.current_time() - began >= 0.5
            assert got == [0, 1, 2, 3, 4]
            assert await received(there, 0.3) is None


async def test_of_ten_packets_three_are_lost():
    async with open_lines() as lines:
        lines.default = Conditions(loss=0.3)
        alice, bob = await lines.add("alice"), await lines.add("bob")
        with socket_on(alice) as here, socket_on(bob) as there:
            for _ in range(10):
                await here.sendto(b"hi", (bob.address, PORT))
            for _ in range(7):
                assert await received(there)
            assert await received(there, 0.1) is None


async def test_a_long_packet_arrives_in_pieces_unless_it_must_not_be_split():
    async with open_lines() as lines:
        lines.mtu = 600
        alice, bob = await lines.add("alice"), await lines.add("bob")
        with socket_on(alice) as here, socket_on(bob) as there:
            here.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
            await here.sendto(bytes(1200), (bob.address, PORT))
            assert (await received(there))[0] == bytes(1200)
            here.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
            await here.sendto(bytes(1200), (bob.address, PORT))
            assert await received(there, 0.3) is None


async def test_a_host_that_has_moved_sends_from_its_new_address():
    async with open_lines() as lines:
        alice, bob = await lines.add("alice"), await lines.add("bob")
        with socket_on(bob) as there:
            before = alice.address
            await lines.move(alice)
            with socket_on(alice) as here:
                await here.sendto(b"hi", (bob.address, PORT))
                assert await received(there) == (b"hi", (alice.address, PORT))
                await there.sendto(b"old", (before, PORT))
                await there.sendto(b"new", (alice.address, PORT))
                assert await received(here) == (b"new", (bob.address, PORT))


@pytest.mark.parametrize("kind", Kind)
async def test_behind_a_nat_a_host_is_reached_by_those_it_has_written_to(kind):
    async with open_lines() as lines:
        nat = Nat("203.0.113.1", kind)
        alice, bob, carol = await lines.add("alice", nat), await lines.add("bob"), await lines.add("carol")
        with socket_on(alice) as here, socket_on(bob) as there, socket_on(carol) as elsewhere:
            await here.sendto(b"hi", (bob.address, PORT))
            data, seen = await received(there)
            assert (data, seen[0]) == (b"hi", nat.host)
            await there.sendto(b"hello", seen)
            assert await received(here) == (b"hello", (bob.address, PORT))
            await elsewhere.sendto(b"who?", seen)
            expected = (b"who?", (carol.address, PORT)) if kind is Kind.FULL_CONE else None
            assert await received(here, 0.3) == expected
            await there.sendto(b"inside", (alice.address, PORT))
            assert await received(here, 0.3) is None


@pytest.mark.parametrize("hairpin", [False, True])
async def test_two_behind_one_nat_reach_each_other_outside_if_it_has_hairpins(hairpin):
    async with open_lines() as lines:
        nat = Nat("203.0.113.1", Kind.FULL_CONE, hairpin=hairpin)
        alice, bob, server = await lines.add("alice", nat), await lines.add("bob", nat), await lines.add("server")
        with socket_on(alice) as here, socket_on(bob) as there, socket_on(server) as outside:
            seen = []
            for one in (here, there):
                await one.sendto(b"hi", (server.address, PORT))
                seen.append((await received(outside))[1])
            await here.sendto(b"hello", seen[1])
            assert await received(there, 0.3) == ((b"hello", seen[0]) if hairpin else None)
