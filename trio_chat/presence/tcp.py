"""The TCP sockets of the presence service: a send does not wait, and a task waits for a slow client only.

trio's own streams send only in a task, and each task costs a turn of the scheduler; news for 5,000 clients are 5,000.
Bytes only: what they mean is known in server.py.
"""

import errno
import socket
from typing import Protocol

import trio

from trio_chat.errors import AddressError
from trio_chat.protocol.limits import origin

UNKNOWN = "unknown"
"""Stands for all addresses that are not known."""


class ClientStream(Protocol):
    """One client's connection. Tests have streams in memory."""

    origin: str
    """What limits count it by, as `limits.origin`."""

    def send_now(self, data: bytes) -> int:
        """Send without waiting. Returns how many of the bytes were taken. Raises BrokenResourceError."""
        ...

    async def wait_writable(self) -> None:
        """Wait until more bytes may be taken. Raises ClosedResourceError after `close`."""
        ...

    async def receive_some(self, max_bytes: int) -> bytes:
        """Wait for bytes; none if the client has sent its last ones. Raises BrokenResourceError."""
        ...

    def send_eof(self) -> None:
        """There will be no more bytes for the client."""
        ...

    def close(self) -> None:
        """Release the connection."""
        ...


class ClientListener(Protocol):
    """Where clients connect."""

    async def accept(self) -> ClientStream:
        """Wait for the next one. Raises OSError, and may be called again."""
        ...

    def close(self) -> None:
        """Accept no more of them."""
        ...


class TcpStream:
    """A connected socket, which belongs to this stream from now on."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self._socket = connected
        self.origin = _origin_of(connected)

    def send_now(self, data: bytes) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError("the client has closed the connection") from error

    async def wait_writable(self) -> None:
        self._check_open()
        await trio.lowlevel.wait_writable(self._socket)

    async def receive_some(self, max_bytes: int) -> bytes:
        while True:
            self._check_open()
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(max_bytes)
            except BlockingIOError:
                pass  # select(2): a socket may be reported as ready without any data
            except OSError as error:
                raise trio.BrokenResourceError("the client has reset the connection") from error

    def send_eof(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise trio.BrokenResourceError("the client has closed the connection") from error

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            # First: a task that waits is woken, and does not wait for another socket that gets the same file number.
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def _check_open(self) -> None:
        if self._socket.fileno() < 0:
            raise trio.ClosedResourceError("this connection is closed")


class TcpListener:
    """A listening socket of trio's, which belongs to this listener from now on."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self._listener = listener

    @property
    def address(self) -> tuple[str, int]:
        """Where it is bound."""
        host, port = self._listener.socket.getsockname()[:2]
        return host, port

    async def accept(self) -> TcpStream:
        # Through trio's stream, as it knows what to set: TCP_NODELAY, and how much the kernel keeps for a slow client.
        accepted = (await self._listener.accept()).socket
        kind = accepted.family, accepted.type, accepted.proto
        return TcpStream(socket.socket(*kind, fileno=accepted.detach()))

    def close(self) -> None:
        self._listener.socket.close()


async def listen(host: str, port: int) -> list[TcpListener]:
    """Listen on all addresses of a host, but with port 0 on the first one alone. Raises AddressError."""
    where = f"{host}:{port}"
    if not 0 <= port <= 65535:
        raise AddressError(f"not a port: {port}")
    try:
        first, *others = map(TcpListener, await trio.open_tcp_listeners(port, host=host))
    except OSError as error:
        reason = "the port is in use" if error.errno == errno.EADDRINUSE else error.strerror
        raise AddressError(f"cannot listen on {where!r}: {reason}") from error
    except ValueError as error:
        raise AddressError(f"cannot listen on {where!r}: not a host name") from error
    if port:
        return [first, *others]
    for other in others:  # each address got a port of its own, and only one port can be returned
        other.close()
    return [first]


def _origin_of(connected: socket.socket) -> str:
    try:
        host, port = connected.getpeername()[:2]
    except OSError:  # the client has reset the connection
        return UNKNOWN
    return origin((host.removeprefix("::ffff:") if "." in host else host, port))
