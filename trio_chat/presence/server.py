"""The presence service: JSON over TCP. Each connection has a task that answers requests and one that pushes news.

Who is online is in roster.py, the form of requests and answers in messages.py. No datagrams here.
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
from trio_chat.tasks import WakeUp

log = logging.getLogger(__name__)

FIRST_REQUEST_TIMEOUT = 5.0
"""Seconds in which a new connection must bring one whole request."""
NEXT_REQUEST_TIMEOUT = 15.0
"""Seconds between two whole requests after which a user is offline."""
SEND_TIMEOUT = 5.0
"""Seconds in which a client must take what it is sent."""
LINGER = 1.0
"""Seconds for which a connection is read and ignored after an error."""

MAX_CONNECTIONS = 10_000
MAX_NEWS = 10_000
"""The most changes that wait for one watcher; beyond them, one for each friend."""
NEWS_PER_SEND = 500
READ_SIZE = 4096

ACCEPT_RETRY = 0.1
LOG_EVERY = 60.0

Listener = trio.abc.Listener[trio.abc.HalfCloseableStream]


async def serve_presence(
    port: int,
    *,
    host: str = "127.0.0.1",
    roster: Roster | None = None,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Report who comes and goes until cancelled; `await nursery.start(...)` returns the address that it is bound to.

    At most 10,000 connections are served at the same time; more of them wait. There are no passwords and no secrets
    here. When it is cancelled, the connections are closed, and nobody gets the change that the others are offline.

    Args:
        port: the TCP port; 0 is any that is free.
        host: the address to listen on, or a name for it (all its addresses, but with port 0 the first one alone).
        roster: who is online. Share it with a chat, and its names can be friends; None is a new one.

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
    for other in others:  # each address got a port of its own, and only one port can be returned
        await other.aclose()
    return [first]


async def serve_listeners(
    listeners: Sequence[Listener],
    roster: Roster,
    *,
    max_connections: int = MAX_CONNECTIONS,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """The same on listeners that are open already. They are closed at the end."""
    server = _Server(roster, max_connections)
    async with trio.open_nursery() as nursery:
        for listener in listeners:
            nursery.start_soon(server.accept_loop, listener, nursery)
        task_status.started()


class _Server:
    """Accepts connections, up to a maximum."""

    def __init__(self, roster: Roster, max_connections: int) -> None:
        self._roster = roster
        self._max = max_connections
        self._free = trio.Semaphore(max_connections)
        self._next_log = 0.0

    async def accept_loop(self, listener: Listener, nursery: trio.Nursery) -> None:
        async with listener:
            while True:
                if not self._free.value:
                    self._log(f"{self._max} connections are open: newcomers wait until one ends")
                # Before accept: those beyond the maximum wait in the kernel's backlog and cost no file descriptor.
                await self._free.acquire()
                nursery.start_soon(self._serve_connection, await self._accept(listener))

    async def _accept(self, listener: Listener) -> trio.abc.HalfCloseableStream:
        while True:
            try:
                return await listener.accept()
            except OSError as error:
                # Usually EMFILE: too many open files. The connection stays in the backlog, so without a pause the next
                # accept would fail immediately, and the loop would use up the processor.
                reason = os.strerror(error.errno) if error.errno else str(error)
                self._log(f"cannot accept a connection: {reason}; trying again every {ACCEPT_RETRY} s")
                await trio.sleep(ACCEPT_RETRY)

    def _log(self, warning: str) -> None:
        now = trio.current_time()
        if now >= self._next_log:
            self._next_log = now + LOG_EVERY
            log.warning("%s", warning)

    async def _serve_connection(self, stream: trio.abc.HalfCloseableStream) -> None:
        connection = _Connection(stream, self._roster)
        try:
            await connection.run()
        finally:
            connection.leave()
            await trio.aclose_forcefully(stream)  # closes it even when cancelled
            self._free.release()


class NewsQueue:
    """The changes that a watcher has not received yet, oldest first: (friend, online).

    Beyond MAX_NEWS of them, a change replaces the one of the same friend that waits there: a watcher that reads slowly
    gets the latest state of each friend, and memory is bounded by the number of friends.
    """

    def __init__(self) -> None:
        self._changes: deque[tuple[Friend, bool]] = deque()
        self._folded: OrderedDict[Friend, bool] = OrderedDict()

    def __len__(self) -> int:
        return len(self._changes) + len(self._folded)

    def add(self, friend: Friend, online: bool) -> bool:
        """Add a change. Returns False if the queue is so long that it may have replaced another one."""
        # Until all that is folded has been taken: a newer change must not overtake an older one.
        if not self._folded and len(self._changes) < MAX_NEWS:
            self._changes.append((friend, online))
            return True
        self._folded[friend] = online
        self._folded.move_to_end(friend)
        return False

    def take(self) -> tuple[Friend, bool]:
        """The oldest change; there must be one."""
        return self._changes.popleft() if self._changes else self._folded.popitem(last=False)

    def forget(self, friends: Collection[Friend]) -> None:
        """Drop the changes of these friends."""
        self._changes = deque(change for change in self._changes if change[0] not in friends)
        for friend in friends:
            self._folded.pop(friend, None)


class _Connection:
    """One client, from its first request to its last."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, roster: Roster) -> None:
        self._stream = stream
        self._roster = roster
        self._scope = trio.CancelScope()
        self._request: Watch | None = None
        self._friends: dict[Friend, Friend] = {}  # the form in which they are compared: the form in the request
        self._news = NewsQueue()
        self._has_folded = False
        self._wake_up = WakeUp()
        self._send_lock = trio.Lock()

    async def run(self) -> None:
        """Serve the client until it has gone. A deadline is moved by whole requests only, not by each byte."""
        self._scope.deadline = trio.current_time() + FIRST_REQUEST_TIMEOUT
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._push_news)
            with self._scope:
                await self._answer_requests()
            nursery.cancel_scope.cancel()

    def leave(self) -> None:
        """End the user's presence by this connection, and the news for it. May be called twice."""
        if self._request is not None:
            self._roster.unwatch(self._friends, self._add_news)
            self._roster.leave(self._request.user_id)
        self._request, self._friends, self._news = None, {}, NewsQueue()

    # --- requests ---

    async def _answer_requests(self) -> None:
        received = JsonStream()
        try:
            while data := await self._stream.receive_some(READ_SIZE):
                received.feed(data)
                while (fields := received.take()) is not None:
                    self._handle_request(parse_watch(fields))
                    await self._send(self._make_answer)
        except JsonError as error:
            await self._refuse(Refusal(NOT_A_REQUEST, str(error)))
        except Refusal as refused:
            await self._refuse(refused)
        except trio.BrokenResourceError:
            pass  # the client has reset the connection

    def _handle_request(self, request: Watch) -> None:
        self._scope.deadline = trio.current_time() + NEXT_REQUEST_TIMEOUT
        before = self._request
        if before is not None and request.user_id != before.user_id:
            raise Refusal(INVALID_ID, "Invalid user id: it can't change")
        self._request = request
        if before is None:
            self._roster.enter(request.user_id)
        if before is None or request.friends != before.friends:
            self._set_friends(request.friends)

    def _set_friends(self, friends: Sequence[Friend]) -> None:
        before, self._friends = self._friends, {}
        for friend in friends:
            self._friends.setdefault(fold_friend(friend), friend)
        removed = before.keys() - self._friends.keys()
        if removed:
            self._roster.unwatch(removed, self._add_news)
            # Their waiting changes could not be encoded any more: the form in the request is gone.
            self._news.forget(removed)
        for friend in self._roster.watch([one for one in self._friends if one not in before], self._add_news):
            self._add_news(friend, True)

    async def _refuse(self, refused: Refusal) -> None:
        self.leave()
        self._scope.deadline = trio.current_time() + SEND_TIMEOUT + LINGER
        await self._send(lambda: encode_refusal(refused))
        # To close a socket with unread data resets the connection, and a reset can take the error away from a client
        # that has not read it yet. So the client's data is read until it closes, too.
        with trio.move_on_after(LINGER), suppress(trio.BrokenResourceError):
            await self._stream.send_eof()
            while await self._stream.receive_some(READ_SIZE):
                pass

    # --- answers and news ---

    def _add_news(self, friend: Friend, online: bool) -> None:
        if not self._news.add(friend, online) and not self._has_folded and self._request is not None:
            self._has_folded = True
            text = "over %d pieces of news wait for user %d: of each friend, the latest now replaces the one before"
            log.warning(text, MAX_NEWS, self._request.user_id)
        if self._pushes():
            self._wake_up.set()

    def _make_answer(self) -> bytes:
        if self._pushes():
            return self._next_lines() or STILL_THERE + b"\n"
        return self._next_news() if self._news else STILL_THERE

    async def _push_news(self) -> None:
        while True:
            await self._wake_up.wait()
            await self._send(self._next_lines)

    def _pushes(self) -> bool:
        return self._request is not None and self._request.push

    def _next_lines(self) -> bytes:
        if not self._pushes():
            return b""
        lines = [self._next_news() + b"\n" for _ in range(min(len(self._news), NEWS_PER_SEND))]
        if self._news:
            self._wake_up.set()
        return b"".join(lines)

    def _next_news(self) -> bytes:
        friend, online = self._news.take()
        return encode_news(self._friends[friend], online)

    async def _send(self, make: Callable[[], bytes]) -> None:
        """Send what `make` returns. A client that does not take it within SEND_TIMEOUT has gone."""
        # Both tasks send, and a stream can be written by one task at a time. News is taken from the queue under the
        # lock only, so it leaves in order, and none is pushed after a request without `push`.
        async with self._send_lock:
            if self._scope.cancel_called:
                return  # the other task's send has failed: part of an object may have been taken
            data = make()
            try:
                with trio.fail_after(SEND_TIMEOUT):
                    await self._stream.send_all(data)
            except (trio.TooSlowError, trio.BrokenResourceError):
                self._scope.cancel()
