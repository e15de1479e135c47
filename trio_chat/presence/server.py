"""The presence service: JSON over TCP, one task that reads and one that pushes for each connection.

Who is there is the roster's business, the form of what is said that of presence/messages.py. Knows no datagrams.
"""

import errno
import logging
import os
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

import trio

from trio_chat.errors import AddressError
from trio_chat.presence.json_stream import JsonError, JsonStream
from trio_chat.presence.messages import (
    INVALID_ID,
    NOT_A_REQUEST,
    STILL_THERE,
    Friend,
    Refusal,
    Watch,
    encode_news,
    encode_refusal,
    fold_friend,
    parse_watch,
)
from trio_chat.presence.roster import Roster

__all__ = ["Listener", "News", "serve_listeners", "serve_presence"]

log = logging.getLogger(__name__)

FIRST_REQUEST = 5.0
"""Seconds within which a connection has to bring its first whole request."""
SILENCE = 15.0
"""Seconds between two requests after which a user counts as gone."""
NOT_READING = 5.0
"""Seconds that a piece of what we say may take to be taken."""
FAREWELL = 1.0
"""Seconds for which we go on reading after an error: to close earlier could take the error away from its reader."""

MAX_CONNECTIONS = 10_000
MAX_NEWS = 10_000
"""So many pieces of news wait for a watcher, all different; beyond them, one for each friend."""
PUSHED_AT_ONCE = 500
CHUNK = 4096

PAUSE = 0.1
COMPLAIN_EVERY = 60.0

Listener = trio.abc.Listener[trio.abc.HalfCloseableStream]


async def serve_presence(
    port: int,
    *,
    host: str = "127.0.0.1",
    roster: Roster | None = None,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Tell who comes and goes until cancelled; `await nursery.start(...)` returns the address that it is bound to.

    At most 10,000 connections are served at once; more of them wait. There is no log-in and nothing is secret.

    Args:
        port: the TCP port; 0 is any that is free.
        host: the address to listen on, or a name for it (all its addresses, but with port 0 the first one alone).
        roster: who is there, shared with a chat whose names can then be friends; None is one of its own.

    Raises:
        AddressError: the host does not resolve, or the port is in use.
    """
    listeners = await _listen(host, port)
    bound = listeners[0].socket.getsockname()[:2]
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_listeners, listeners, roster or Roster())
        task_status.started(bound)


async def _listen(host: str, port: int) -> list[trio.SocketListener]:
    where = f"{host}:{port}"
    if not 0 <= port <= 65535:
        raise AddressError(f"not a port: {port}")
    try:
        first, *others = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        reason = "the port is in use" if error.errno == errno.EADDRINUSE else error.strerror
        raise AddressError(f"cannot listen on {where!r}: {reason}") from error
    except ValueError as error:
        raise AddressError(f"cannot listen on {where!r}: not a host name") from error
    if port:
        return [first, *others]
    for other in others:  # which has another port
        await other.aclose()
    return [first]


async def serve_listeners(
    listeners: Sequence[Listener],
    roster: Roster,
    *,
    max_connections: int = MAX_CONNECTIONS,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """The same on listeners that are open already, and are closed at the end."""
    door = _Door(roster, max_connections)
    async with trio.open_nursery() as nursery:
        for listener in listeners:
            nursery.start_soon(door.keep, listener, nursery)
        task_status.started()


class _Door:
    """Lets connections in, no more than there is room for."""

    def __init__(self, roster: Roster, max_connections: int) -> None:
        self._roster = roster
        self._max = max_connections
        self._room = trio.Semaphore(max_connections)
        self._silent_until = 0.0

    async def keep(self, listener: Listener, nursery: trio.Nursery) -> None:
        async with listener:
            while True:
                if not self._room.value:
                    self._complain(f"{self._max} connections are open: newcomers wait until one ends")
                await self._room.acquire()
                nursery.start_soon(self._attend, await self._accept(listener))

    async def _accept(self, listener: Listener) -> trio.abc.HalfCloseableStream:
        while True:
            try:
                return await listener.accept()
            except OSError as error:
                # The limit of open files, as a rule. The connection stays in the queue and would fail again at once.
                reason = os.strerror(error.errno) if error.errno else str(error)
                self._complain(f"cannot accept a connection: {reason}; trying again every {PAUSE} s")
                await trio.sleep(PAUSE)

    def _complain(self, complaint: str) -> None:
        now = trio.current_time()
        if now >= self._silent_until:
            self._silent_until = now + COMPLAIN_EVERY
            log.warning("%s", complaint)

    async def _attend(self, stream: trio.abc.HalfCloseableStream) -> None:
        connection = _Connection(stream, self._roster)
        try:
            await connection.run()
        finally:
            connection.leave()
            await trio.aclose_forcefully(stream)
            self._room.release()


class News:
    """What a watcher has still to be told, oldest first: pieces of (friend, on line?).

    Beyond MAX_NEWS of them, a piece takes the place of the one of the same friend that waits there.
    """

    def __init__(self) -> None:
        self._pieces: deque[tuple[Friend, bool]] = deque()
        self._folded: OrderedDict[Friend, bool] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pieces) + len(self._folded)

    @property
    def folds(self) -> bool:
        """Whether there are more of them than are kept apart."""
        return bool(self._folded)

    def add(self, friend: Friend, online: bool) -> None:
        if not self._folded and len(self._pieces) < MAX_NEWS:
            self._pieces.append((friend, online))
        else:
            self._folded[friend] = online
            self._folded.move_to_end(friend)

    def take(self) -> tuple[Friend, bool]:
        """The oldest piece; there must be one."""
        return self._pieces.popleft() if self._pieces else self._folded.popitem(last=False)

    def forget(self, friends: Collection[Friend]) -> None:
        """Drop what is about these."""
        self._pieces = deque(piece for piece in self._pieces if piece[0] not in friends)
        for friend in friends:
            self._folded.pop(friend, None)


class _Connection:
    """One client, from its first request to its last."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, roster: Roster) -> None:
        self._stream = stream
        self._roster = roster
        self._life = trio.CancelScope()
        self._request: Watch | None = None
        self._friends: dict[Friend, Friend] = {}  # as they are compared: as they were called
        self._news = News()
        self._has_folded = False
        self._bell = trio.Event()
        self._turn = trio.Lock()

    async def run(self) -> None:
        self._life.deadline = trio.current_time() + FIRST_REQUEST
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._push_news)
            with self._life:
                await self._answer_requests()
            nursery.cancel_scope.cancel()

    def leave(self) -> None:
        """Its user is no longer here by this connection, and it hears nothing more."""
        if self._request is not None:
            self._roster.unwatch(self._friends, self._tell)
            self._roster.leave(self._request.user_id)
        self._request, self._friends, self._news = None, {}, News()

    # --- requests ---

    async def _answer_requests(self) -> None:
        received = JsonStream()
        try:
            while data := await self._stream.receive_some(CHUNK):
                received.feed(data)
                while (fields := received.take()) is not None:
                    self._heed(parse_watch(fields))
                    await self._say(self._answer)
        except JsonError as error:
            await self._refuse(Refusal(NOT_A_REQUEST, str(error)))
        except Refusal as refused:
            await self._refuse(refused)
        except trio.BrokenResourceError:
            pass  # it was reset

    def _heed(self, request: Watch) -> None:
        self._life.deadline = trio.current_time() + SILENCE
        before = self._request
        if before is not None and request.user_id != before.user_id:
            raise Refusal(INVALID_ID, "Invalid user id: it can't change")
        self._request = request
        if before is None:
            self._roster.enter(request.user_id)
        if before is None or request.friends != before.friends:
            self._befriend(request.friends)

    def _befriend(self, friends: Sequence[Friend]) -> None:
        before, self._friends = self._friends, {}
        for friend in friends:
            self._friends.setdefault(fold_friend(friend), friend)
        former = before.keys() - self._friends.keys()
        if former:
            self._roster.unwatch(former, self._tell)
            self._news.forget(former)
        for friend in self._roster.watch([friend for friend in self._friends if friend not in before], self._tell):
            self._tell(friend, True)

    async def _refuse(self, refused: Refusal) -> None:
        self.leave()
        self._life.deadline = trio.current_time() + NOT_READING + FAREWELL
        await self._say(lambda: encode_refusal(refused))
        with trio.move_on_after(FAREWELL), suppress(trio.BrokenResourceError):
            await self._stream.send_eof()
            while await self._stream.receive_some(CHUNK):
                pass

    # --- what it is told ---

    def _tell(self, friend: Friend, online: bool) -> None:
        self._news.add(friend, online)
        if self._news.folds and not self._has_folded and self._request is not None:
            self._has_folded = True
            text = "over %d pieces of news wait for user %d: of each friend, the latest now replaces the one before"
            log.warning(text, MAX_NEWS, self._request.user_id)
        if self._pushes():
            self._bell.set()

    def _answer(self) -> bytes:
        if self._pushes():
            return self._lines() or STILL_THERE + b"\n"
        return self._next_news() if self._news else STILL_THERE

    async def _push_news(self) -> None:
        while True:
            await self._bell.wait()
            self._bell = trio.Event()
            await self._say(self._lines)

    def _pushes(self) -> bool:
        return self._request is not None and self._request.push

    def _lines(self) -> bytes:
        if not self._pushes():
            return b""
        lines = [self._next_news() + b"\n" for _ in range(min(len(self._news), PUSHED_AT_ONCE))]
        if self._news:
            self._bell.set()
        return b"".join(lines)

    def _next_news(self) -> bytes:
        friend, online = self._news.take()
        return encode_news(self._friends[friend], online)

    async def _say(self, words: Callable[[], bytes]) -> None:
        """Say what there is to say when it is this task's turn; who does not take it in time has gone."""
        async with self._turn:
            if self._life.cancel_called:
                return  # who knows how much of the last words was taken
            said = words()
            try:
                with trio.fail_after(NOT_READING):
                    await self._stream.send_all(said)
            except (trio.TooSlowError, trio.BrokenResourceError):
                self._life.cancel()
