"""The presence client: who of one's friends comes and goes, as the server tells it.

One TCP connection with a task that keeps it alive; what is said there is in presence/messages.py.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress

import trio

from trio_chat.errors import AddressError, PresenceLost, PresenceRefused
from trio_chat.presence.json_stream import JsonError, JsonStream
from trio_chat.presence.messages import FriendChanged, Refusal, Watch, encode_request, parse_answer
from trio_chat.tasks import open_background

__all__ = ["FriendChanged", "Friends", "watch_friends"]

PATIENCE = 5.0
"""Seconds that it may take to be connected, and then to be answered."""
SIGN_OF_LIFE_EVERY = 5.0
"""Seconds between two requests: the server gives us up after 15."""
SILENCE = 15.0
"""Seconds without a word, in spite of them, after which the server is gone."""
CHUNK = 4096

Connect = Callable[[str, int], Awaitable[trio.abc.Stream]]


class Friends(AsyncIterator[FriendChanged]):
    """The news of one's friends, in order and complete, for as long as the context is open.

    Raises PresenceLost when the server goes.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._received = JsonStream()
        self._first: FriendChanged | None = None

    async def begin(self) -> None:
        """Wait for the first answer. Raises PresenceLost, PresenceRefused."""
        self._first = await self._answer(PATIENCE)

    async def __anext__(self) -> FriendChanged:
        change, self._first = self._first, None
        while change is None:
            change = await self._answer(SILENCE)
        return change

    async def _answer(self, patience: float) -> FriendChanged | None:
        await trio.lowlevel.checkpoint()
        try:
            with trio.fail_after(patience):
                while (fields := self._received.take()) is None:
                    self._received.feed(await self._receive())
            return parse_answer(fields)
        except Refusal as refused:
            raise PresenceRefused(refused.code, refused.text) from None
        except JsonError as error:
            raise PresenceLost("the presence server says what is no answer") from error
        except trio.TooSlowError:
            raise PresenceLost("the presence server is not responding") from None

    async def _receive(self) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some(CHUNK)
        except trio.BrokenResourceError:
            data = b""
        if not data:
            raise PresenceLost("the presence server has closed the connection")
        return data


@asynccontextmanager
async def watch_friends(
    user_id: int, friends: Iterable[int | str], server: tuple[str, int], *, connect: Connect = trio.open_tcp_stream
) -> AsyncIterator[Friends]:
    """Be on line with a presence service, as the user `user_id`, and hear who of one's friends comes and goes.

    It is entered when the server has answered; friends who are on line already are the first news. Who does not
    read the news for long is given up by the server.

    Args:
        user_id: a positive integer.
        friends: users of the service, as integers, and names of the chat that shares its roster; 10,000 at most.
        server: its host and port.
        connect: opens a connection.

    Raises:
        AddressError: the host does not resolve.
        PresenceLost: nobody answers there, or, later, the server has gone.
        PresenceRefused: the server does not accept the user or a friend.
    """
    asked = encode_request(Watch(user_id, tuple(friends), push=True))
    async with await _connected(connect, *server) as stream, open_background() as nursery:
        nursery.start_soon(_keep_alive, stream, asked)
        news = Friends(stream)
        await news.begin()
        yield news


async def _connected(connect: Connect, host: str, port: int) -> trio.abc.Stream:
    if not 1 <= port <= 65535:
        raise AddressError(f"not a port: {port}")
    try:
        with trio.fail_after(PATIENCE):
            return await connect(host, port)
    except (OSError, ValueError, trio.TooSlowError) as error:
        # Only a look-up that fails has a number, or is no name at all: attempts to connect fail as one, unnumbered.
        if isinstance(error, ValueError) or (isinstance(error, OSError) and error.errno is not None):
            raise AddressError(f"cannot find the host {host!r}") from error
        raise PresenceLost(f"no presence server answers at {host!r}, port {port}") from error


async def _keep_alive(stream: trio.abc.Stream, asked: bytes) -> None:
    with suppress(trio.BrokenResourceError):  # which whoever reads finds out, too
        while True:
            await stream.send_all(asked)
            await trio.sleep(SIGN_OF_LIFE_EVERY)
