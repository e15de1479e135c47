"""The network in memory that other tests use: it has the faults that were requested, and the same in every run.

Virtual time, and dice from a seed for each direction.
"""

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.network import BATCH, Conditions, MemoryNetwork, open_memory_network
from trio_chat.errors import AddressError

A = ("10.0.0.1", 1)
B = ("10.0.0.2", 2)
C = ("10.0.0.3", 3)
D = ("10.0.0.4", 4)


def number(n: int) -> bytes:
    return n.to_bytes(4, "big")


async def receive(socket) -> list[int]:
    """The numbers that arrive within a second, in order of arrival."""
    numbers: list[int] = []
    with trio.move_on_after(1):
        while True:
            numbers += [int.from_bytes(data, "big") for data, _ in await socket.receive_batch()]
    return numbers


async def survivors(network: MemoryNetwork, a, b, count: int = 1000) -> list[int]:
    for n in range(count):
        a.send(number(n), b.address)
    return await receive(b)


# --- a network without faults ---


async def test_a_datagram_arrives_at_once_with_its_source(network, autojump_clock):
    a, b = network.bind(None, 0), network.bind("10.0.0.1", 5000)
    a.send(b"hi", b.address)
    assert await b.receive_batch() == [(b"hi", a.address)]
    assert a.address[0] == "127.0.0.1"
    assert b.address == ("10.0.0.1", 5000)
    assert trio.current_time() == 0
    assert network.counts.arrived == 1


async def test_a_waiting_receiver_is_woken(network, autojump_clock, nursery):
    a, b = network.bind(*A), network.bind(*B)
    got = []

    async def listen():
        got.extend(await b.receive_batch())

    nursery.start_soon(listen)
    await trio.testing.wait_all_tasks_blocked()
    a.send(b"wake up", B)
    await trio.testing.wait_all_tasks_blocked()
    assert got == [(b"wake up", A)]


async def test_a_batch_is_bounded_and_other_tasks_get_their_turn(network, autojump_clock, nursery):
    a, b = network.bind(*A), network.bind(*B)
    for n in range(600):
        a.send(number(n), B)
    turns = []

    async def bystander():
        while True:
            turns.append(1)
            await trio.lowlevel.checkpoint()

    nursery.start_soon(bystander)
    sizes = [len(await b.receive_batch()) for _ in range(3)]
    nursery.cancel_scope.cancel()
    assert sizes == [BATCH, BATCH, 600 - 2 * BATCH]
    assert len(turns) >= 2


async def test_a_full_queue_drops_and_counts(network, autojump_clock):
    a, b = network.bind(*A), network.bind(*B)
    for n in range(5000):
        a.send(number(n), B)
    assert await receive(b) == list(range(4096))
    assert network.counts.overflowed == 5000 - 4096


async def test_datagrams_to_an_unbound_address_are_counted(network, autojump_clock):
    network.bind(*A).send(b"hello?", B)
    assert network.counts.unreachable == 1


async def test_a_datagram_that_is_too_large_is_an_error(network, autojump_clock):
    a = network.bind(*A)
    a.send(bytes(1200), B)
    with pytest.raises(AssertionError, match="1201 bytes"):
        a.send(bytes(1201), B)


async def test_the_log_has_what_was_sent_and_when(network, autojump_clock):
    a = network.bind(*A)
    network.cut(A, B)
    a.send(b"lost", B)
    await trio.sleep(2)
    network.heal()
    a.send(b"gone", B)
    assert list(network.log) == [(0, A, B, b"lost", ()), (2, A, B, b"gone", (0,))]


async def test_a_socket_behind_a_router_is_seen_and_reached_at_the_address_of_the_router(network, autojump_clock):
    a, b = network.bind(*A), network.bind(*B)
    network.translate(B, C)
    b.send(b"hello", A)
    assert await a.receive_batch() == [(b"hello", C)]
    a.send(b"to where it was", B)
    a.send(b"to where it is", C)
    assert await b.receive_batch() == [(b"to where it is", A)]
    network.translate(B, D)
    a.send(b"to where it was", C)
    a.send(b"to where it is", D)
    assert await b.receive_batch() == [(b"to where it is", A)]


async def test_a_forged_datagram_arrives_whatever_the_conditions(network, autojump_clock):
    b = network.bind(*B)
    network.default = Conditions(loss=1.0)
    network.inject(b"\xff" * 9000, A, B)
    assert await b.receive_batch() == [(b"\xff" * 9000, A)]
    assert not network.log


# --- ports and names ---


async def test_free_ports_differ_and_a_taken_one_is_refused(network, autojump_clock):
    a = network.bind(None, 0)
    assert network.bind(None, 0).address != a.address
    with pytest.raises(AddressError, match="the port is in use"):
        network.bind("127.0.0.1", a.address[1])
    a.close()
    assert network.bind("0.0.0.0", a.address[1]).address == a.address  # noqa: S104


async def test_an_invalid_address_is_refused(network, autojump_clock):
    with pytest.raises(AddressError, match="cannot listen on nowhere:1: not a numeric address"):
        network.bind("nowhere", 1)
    with pytest.raises(AddressError, match="not a port: 65536"):
        network.bind(None, 65536)
    with pytest.raises(AddressError, match="not a port: -1"):
        await network.resolve("localhost", -1)


async def test_resolve(network, autojump_clock):
    network.names["two.example"] = ["10.0.0.1", "10.0.0.2"]
    assert await network.resolve("localhost", 5) == [("127.0.0.1", 5)]
    assert await network.resolve("::1", 5) == [("::1", 5)]
    assert await network.resolve("two.example", 5) == [("10.0.0.1", 5), ("10.0.0.2", 5)]
    with pytest.raises(AddressError, match="nobody"):
        await network.resolve("nobody", 5)


async def test_closing_wakes_the_receiver_and_silences_the_sender(network, autojump_clock, nursery):
    a, b = network.bind(*A), network.bind(*B)
    woken = trio.Event()

    async def listen():
        with pytest.raises(trio.ClosedResourceError):
            await a.receive_batch()
        woken.set()

    nursery.start_soon(listen)
    await trio.testing.wait_all_tasks_blocked()
    a.close()
    with trio.fail_after(1):
        await woken.wait()
    a.close()
    a.send(b"after closing", B)
    with pytest.raises(trio.ClosedResourceError):
        await a.receive_batch()
    assert await receive(b) == []


async def test_a_late_datagram_reaches_the_socket_that_has_the_port_now(network, autojump_clock):
    a, b = network.bind(*A), network.bind(*B)
    network.default = Conditions(delay=(0.5, 0.5))
    a.send(number(7), B)
    b.close()
    assert await receive(network.bind(*B)) == [7]


# --- faults ---


async def test_loss_has_the_rate_that_was_asked_for(network, autojump_clock):
    a, b = network.bind(*A), network.bind(*B)
    network.default = Conditions(loss=0.3)
    arrived = await survivors(network, a, b, 4000)
    assert 0.67 < len(arrived) / 4000 < 0.73
    assert arrived == sorted(arrived)
    assert network.counts.lost == 4000 - len(arrived)


async def test_duplication_has_the_rate_that_was_asked_for(network, autojump_clock):
    a, b = network.bind(*A), network.bind(*B)
    network.default = Conditions(duplicate=0.25)
    arrived = await survivors(network, a, b, 2000)
    assert set(arrived) == set(range(2000))
    assert 0.22 < (len(arrived) - 2000) / 2000 < 0.28
    assert network.counts.doubled == len(arrived) - 2000


async def test_a_delay_is_exact(network, autojump_clock):
    a, b = network.bind(*A), network.bind(*B)
    network.default = Conditions(delay=(0.4, 0.4))
    a.send(b"slow", B)
    network.default = Conditions(delay=(0.1, 0.1))
    a.send(b"quick", B)
    assert await b.receive_batch() == [(b"quick", A)]
    assert trio.current_time() == pytest.approx(0.1)
    assert await b.receive_batch() == [(b"slow", A)]
    assert trio.current_time() == pytest.approx(0.4)


async def test_a_delay_that_varies_reorders_and_loses_nothing(network, autojump_clock):
    a, b = network.bind(*A), network.bind(*B)
    network.default = Conditions(delay=(0.01, 0.2))
    arrived = await survivors(network, a, b)
    assert arrived != sorted(arrived)
    assert sorted(arrived) == list(range(1000))


async def test_equal_delays_keep_the_order(network, autojump_clock):
    a, b = network.bind(*A), network.bind(*B)
    network.default = Conditions(delay=(0.1, 0.1))
    for n in reversed(range(100)):
        a.send(number(n), B)
    assert await receive(b) == list(reversed(range(100)))


async def test_conditions_for_one_direction_or_one_host(network, autojump_clock):
    a, b, c = network.bind(*A), network.bind(*B), network.bind(*C)
    network.set(Conditions(loss=1.0), source=A, destination=B)
    assert await survivors(network, a, b, 3) == []
    assert await survivors(network, b, a, 3) == [0, 1, 2]
    assert await survivors(network, a, c, 3) == [0, 1, 2]
    network.set(Conditions(loss=1.0), destination=C[0])
    assert await survivors(network, a, c, 3) == []
    assert await survivors(network, c, a, 3) == [0, 1, 2]
    network.set(Conditions(), source=A)
    assert await survivors(network, a, b, 3) == [0, 1, 2]
    assert await survivors(network, b, c, 3) == []
    network.set(Conditions(loss=1.0), source=A, destination=B)
    assert await survivors(network, a, b, 3) == []


async def test_a_partition_and_its_end(network, autojump_clock):
    a, b, c = network.bind(*A), network.bind(*B), network.bind(*C)
    network.cut(A, B)
    assert await survivors(network, a, b, 3) == []
    assert await survivors(network, b, a, 3) == []
    assert await survivors(network, c, a, 3) == [0, 1, 2]
    network.heal(B, A)
    assert await survivors(network, b, a, 3) == [0, 1, 2]
    assert await survivors(network, a, b, 3) == [0, 1, 2]


async def test_a_partition_in_one_direction_or_of_a_whole_host(network, autojump_clock):
    a, b, c = network.bind(*A), network.bind(*B), network.bind(*C)
    network.cut(A, B, both=False)
    assert await survivors(network, a, b, 3) == []
    assert await survivors(network, b, a, 3) == [0, 1, 2]
    network.cut(C[0])
    assert await survivors(network, a, c, 3) == []
    assert await survivors(network, c, b, 3) == []
    network.heal()
    assert await survivors(network, a, b, 3) == [0, 1, 2]
    assert await survivors(network, c, b, 3) == [0, 1, 2]


async def test_a_filter_can_lose_exactly_the_first_of_a_kind(network, autojump_clock):
    a, b = network.bind(*A), network.bind(*B)
    seen = []

    def not_the_first_even(data, source, destination):
        if destination == B and data[-1] % 2 == 0:
            seen.append(data)
            return len(seen) > 1
        return True

    network.filters.append(not_the_first_even)
    assert await survivors(network, a, b, 6) == [1, 2, 3, 4, 5]


# --- the same in every run, and each direction independent ---

ROUGH = Conditions(loss=0.3, duplicate=0.1, delay=(0.01, 0.3))


def run(seed: int, *, back: bool = False, conditions: Conditions = ROUGH) -> list[int]:
    """Return what B receives of 200 datagrams from A. `back` adds traffic from B to A and from a third party."""

    async def main() -> list[int]:
        async with open_memory_network(seed) as network:
            a, b, c = network.bind(*A), network.bind(*B), network.bind(*C)
            network.default = conditions
            for n in range(200):
                if back:
                    b.send(number(n), A)
                    c.send(number(n), A)
                a.send(number(n), B)
            return await receive(b)

    return trio.run(main, clock=MockClock(autojump_threshold=0))


def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    assert run(1) == run(1)
    assert run(1) != run(2)


def test_traffic_in_one_direction_does_not_change_the_dice_of_another():
    assert run(1) == run(1, back=True)


def test_the_two_directions_of_a_pair_have_their_own_dice():
    async def main() -> None:
        async with open_memory_network() as network:
            a, b = network.bind(*A), network.bind(*B)
            network.default = Conditions(loss=0.5)
            assert await survivors(network, a, b) != await survivors(network, b, a)

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_other_conditions_do_not_change_the_dice():
    only_loss = Conditions(loss=ROUGH.loss)
    assert sorted(set(run(3))) == run(3, conditions=only_loss)


async def test_a_network_without_its_courier_task_cannot_delay(autojump_clock):
    network = MemoryNetwork()
    a, b = network.bind(*A), network.bind(*B)
    a.send(b"at once", B)
    assert await b.receive_batch() == [(b"at once", A)]
    network.default = Conditions(delay=(1.0, 1.0))
    with pytest.raises(AssertionError, match="open_memory_network"):
        a.send(b"later", B)


def test_an_hour_of_delays_costs_no_time():
    async def main() -> float:
        async with open_memory_network() as network:
            a, b = network.bind(*A), network.bind(*B)
            network.default = Conditions(delay=(3600.0, 3600.0))
            a.send(b"snail", B)
            await b.receive_batch()
            return trio.current_time()

    assert trio.run(main, clock=MockClock(autojump_threshold=0)) >= 3600
