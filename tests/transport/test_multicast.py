"""The real sockets of searches, on this machine: who is reached, and what comes from elsewhere.

Real time; each wait has a deadline. Other tests on this machine may search at the same time.
"""

import secrets
import socket
import sys
from contextlib import closing, suppress

import pytest
import trio
import trio.testing

from trio_chat.errors import AddressError
from trio_chat.transport.multicast import HOPS, SEARCH_HOST, SEARCH_PORT
from trio_chat.transport.udp import UDP

PATIENCE = 60


@pytest.fixture
async def searches():
    try:
        searches = UDP.open_search(listens=True)
    except AddressError as error:
        pytest.skip(f"this machine takes no part in multicast: {error}")
    with closing(searches):
        yield searches


@pytest.fixture
async def asking():
    with closing(UDP.open_search(listens=False)) as asking:
        yield asking


async def received_until(searches, last):
    """What is received up to this datagram, of those with the same first 8 bytes: the others are of other tests."""
    got = []
    with trio.fail_after(PATIENCE):
        while not got or got[-1][0] != last:
            data, source = await searches.receive()
            if data[:8] == last[:8]:
                got.append((data, source))
    return got


async def test_all_that_listen_receive_a_search_and_answer_it(searches, asking):
    question, answer = secrets.token_bytes(20), b"here I am"
    with closing(UDP.open_search(listens=True)) as other, closing(UDP.bind(None, 0)) as server:
        await asking.send(question)
        for one in (searches, other):
            (_, source), *_ = await received_until(one, question)
            server.send(answer, source)
            with trio.fail_after(PATIENCE):
                data, (_, port) = await asking.receive()
            assert (data, port) == (answer, server.address[1])


async def test_what_a_router_has_passed_on_is_left_out(searches, asking):
    mine = secrets.token_bytes(8)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        far.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, HOPS - 1)
        far.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        with suppress(OSError):
            far.sendto(mine + b"far", (SEARCH_HOST, SEARCH_PORT))
    await asking.send(mine + b"near")
    assert {data for data, _ in await received_until(searches, mine + b"near")} == {mine + b"near"}


async def test_after_the_end_nobody_receives(searches):
    async with trio.open_nursery() as nursery:

        async def receive():
            with pytest.raises(trio.ClosedResourceError):
                await searches.receive()

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        searches.close()
    with pytest.raises(trio.ClosedResourceError), trio.fail_after(PATIENCE):
        await searches.receive()


def test_where_the_system_does_not_tell_how_far_a_search_came_nobody_listens(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(AddressError, match="on this system"):
        UDP.open_search(listens=True)
