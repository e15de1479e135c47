"""The presence client: one TCP connection that receives the changes of friends, and a task that keeps it alive.

The form of requests and answers is in presence/messages.py.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress

import trio

from trio_chat.errors import AddressError, PresenceLost, PresenceRefused
from trio_chat.presence.json_stream import JsonError, JsonStream
from trio_chat.presence.messages import FriendChanged, Refusal, Watch, encode_request, parse_answer
from trio_chat.tasks import open_background

CONNECT_TIMEOUT = 5.0
"""Seconds for the connection, and as many for the first answer."""
REQUEST_EVERY = 5.0
"""Seconds between two requests. The server closes the connection after 15 seconds without one."""
ANSWER_TIMEOUT = 15.0
"""Seconds without any answer after which the server is lost: three requests were not answered."""

Connect = Callable[[str, int], Awaitable[trio.abc.Stream]]


class Friends(AsyncIterator[FriendChanged]):
    """The changes of one's friends, in order and complete, as long as the context is open.

    Raises PresenceLost when the server has gone.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._received = JsonStream()
        self._first: FriendChanged | None = None

    async def begin(self) -> None:
        """Wait for the first answer. Raises PresenceLost, PresenceRefused."""
        self._first = await self._answer(CONNECT_TIMEOUT)

    async def __anext__(self) -> FriendChanged:
        change, self._first = self._first, None
        while change is None:
            change = await self._answer(ANSWER_TIMEOUT)
        return change

    async def _answer(self, seconds: float) -> FriendChanged | None:
        # Objects that were received together are taken without waiting: a reader of many must not hold up other tasks.
        await trio.lowlevel.checkpoint()
        try:
            with trio.fail_after(seconds):
                while (fields := self._received.take()) is None:
                    if not (data := await self._stream.receive_some()):
                        raise PresenceLost("the presence server has closed the connection")
                    self._received.feed(data)
            return parse_answer(fields)
        except Refusal as refused:
            raise PresenceRefused(refused.code, refused.text) from None
        except JsonError as error:
            raise PresenceLost("the presence server sent an invalid answer") from error
        except trio.TooSlowError:
            raise PresenceLost("the presence server is not responding") from None
        except trio.BrokenResourceError:
            raise PresenceLost("the presence server has closed the connection") from None


@asynccontextmanager
async def watch_friends(
    user_id: int, friends: Iterable[int | str], server: tuple[str, int], *, connect: Connect = trio.open_tcp_stream
) -> AsyncIterator[Friends]:
    """Be online at a presence service as the user `user_id`, and receive which friends come and go.

    The block begins when the server has answered; friends who are online already are the first changes. The server
    closes the connection if the changes are not read for long.

    Args:
        user_id: a positive integer.
        friends: users of the service, as integers, and names of the chat that shares its roster; 1,000 at most.
        server: its host and port.
        connect: opens a connection.

    Raises:
        AddressError: the host does not resolve.
        PresenceLost: nobody answers there, or the server has gone later.
        PresenceRefused: the server does not accept the user or a friend.
    """
    request = encode_request(Watch(user_id, tuple(friends), push=True))
    async with await _connect(connect, *server) as stream, open_background() as nursery:
        nursery.start_soon(_keep_alive, stream, request)
        changes = Friends(stream)
        await changes.begin()
        yield changes


async def _connect(connect: Connect, host: str, port: int) -> trio.abc.Stream:
    if not 1 <= port <= 65535:
        raise AddressError(f"not a port: {port}")
    try:
        with trio.fail_after(CONNECT_TIMEOUT):
            return await connect(host, port)
    except (OSError, ValueError, trio.TooSlowError) as error:
        # A failed look-up has an errno, or is a ValueError. Failed attempts to connect come as one OSError without.
        if isinstance(error, ValueError) or (isinstance(error, OSError) and error.errno is not None):
            raise AddressError(f"cannot find the host {host!r}") from error
        raise PresenceLost(f"no presence server answers at {host!r}, port {port}") from error


async def _keep_alive(stream: trio.abc.Stream, request: bytes) -> None:
    with suppress(trio.BrokenResourceError):  # the reading task finds out, too, and raises PresenceLost
        while True:
            await stream.send_all(request)
            await trio.sleep(REQUEST_EVERY)
