"""The sockets of the presence service: what is sent without waiting, and what happens when either side closes.

With real sockets over loopback. Nothing depends on how much the system takes at once, only on that it is not all.
"""

import socket

import pytest
import trio

from trio_chat.presence.tcp import UNKNOWN, TcpStream, listen

MUCH = b"x" * 2**24


@pytest.fixture
async def ends():
    """The service's end of a connection, and the client's."""
    [listener] = await listen("127.0.0.1", 0)
    client = await trio.open_tcp_stream(*listener.address)
    stream = await listener.accept()
    yield stream, client
    stream.close()
    listener.close()
    await client.aclose()


async def read_until_closed(stream, pieces):
    try:
        while data := await stream.receive_some():
            pieces.append(data)
    except trio.BrokenResourceError:
        pass


async def test_what_is_not_taken_at_once_is_taken_when_the_client_reads(ends, nursery):
    stream, client = ends
    sent = stream.send_now(MUCH)
    assert 0 < sent < len(MUCH)
    while taken := stream.send_now(MUCH[sent:]):
        sent += taken
    pieces = []
    nursery.start_soon(read_until_closed, client, pieces)
    while sent < len(MUCH):
        await stream.wait_writable()
        sent += stream.send_now(MUCH[sent:])
    stream.send_eof()
    while sum(map(len, pieces)) < sent:
        await trio.lowlevel.checkpoint()
    assert b"".join(pieces) == MUCH


async def test_what_a_client_sends_is_received_until_its_end(ends):
    stream, client = ends
    await client.send_all(b"hello")
    assert await stream.receive_some(3) == b"hel"
    assert await stream.receive_some(3) == b"lo"
    await client.send_eof()
    assert await stream.receive_some(3) == b""


async def test_to_close_it_wakes_the_tasks_that_wait(ends, nursery):
    stream, _ = ends
    while stream.send_now(MUCH):
        pass
    closed = []

    async def wait(wait_for):
        with pytest.raises(trio.ClosedResourceError):
            await wait_for()
        closed.append(wait_for)

    async with trio.open_nursery() as waiting:
        waiting.start_soon(wait, stream.wait_writable)
        waiting.start_soon(wait, lambda: stream.receive_some(10))
        await trio.testing.wait_all_tasks_blocked()
        stream.close()
    assert len(closed) == 2
    for wait_for in (stream.wait_writable, lambda: stream.receive_some(10)):
        await wait(wait_for)
    for send in (lambda: stream.send_now(b"x"), stream.send_eof):
        with pytest.raises(trio.BrokenResourceError):
            send()


async def test_a_client_that_resets_the_connection(ends):
    stream, client = ends
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    await client.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some(10)
    with pytest.raises(trio.BrokenResourceError):
        stream.send_now(b"x")


async def test_a_connection_counts_by_its_address(ends):
    stream, _ = ends
    assert stream.origin == "127.0.0.1"
    with socket.socket() as unconnected:
        assert TcpStream(unconnected).origin == UNKNOWN
