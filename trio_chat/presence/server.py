"""The presence service: JSON over TCP. Each connection has a task that answers requests; one task pushes all news.

Who is online is in roster.py, the form of requests and answers in messages.py, sockets in tcp.py. No datagrams here.
"""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import attrs
import trio

from trio_chat.presence.costs import CONNECTION, FRIEND, NEWS, REQUEST, Costs, cost_of_bytes
from trio_chat.presence.json_stream import JsonError, JsonStream
from trio_chat.presence.messages import (
    INVALID_ID,
    NOT_A_REQUEST,
    STILL_THERE,
    TOO_MANY,
    Friend,
    Refusal,
    Watch,
    encode_news,
    encode_refusal,
    fold_friend,
    parse_watch,
)
from trio_chat.presence.news import NewsQueue
from trio_chat.presence.roster import Roster
from trio_chat.presence.tcp import ClientListener, ClientStream, listen
from trio_chat.protocol.limits import LIMITS, Limits
from trio_chat.protocol.shares import Shares
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

MAX_TURNED_AWAY = 100
"""Connections that are being told that they are too many. Others are closed without a word."""

SPARE_FILES = 64
"""Open files that are left to the rest of the program."""

NEWS_PER_SEND = 500
READ_SIZE = 4096

PUSHES_PER_TURN = 100
"""Connections that are sent news before other tasks run: a send takes about 10 us, and a chat may be waiting."""

ACCEPT_RETRY = 0.1
LOG_EVERY = 60.0


async def serve_presence(
    port: int,
    *,
    host: str = "127.0.0.1",
    roster: Roster | None = None,
    limits: Limits = LIMITS,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Report who comes and goes until cancelled; `await nursery.start(...)` returns the address that it is bound to.

    At most 10,000 connections are served at the same time; more of them wait. One address gets a quarter of them, and
    the work for it is limited.

    There are no passwords and no secrets here. When it is cancelled, the connections are closed, and nobody gets the
    change that the others are offline.

    Args:
        port: the TCP port; 0 is any that is free.
        host: the address to listen on, or a name for it (all its addresses, but with port 0 the first one alone).
        roster: who is online. Share it with a chat, and its names can be friends; None is a new one, without names.
        limits: how much one connection, one address and all together may use.

    Raises:
        AddressError: the host does not resolve, or the port is in use.
    """
    listeners = await listen(host, port)
    bound = listeners[0].address
    async with trio.open_nursery() as nursery:
        connections = min(limits.presence_connections, _most_open_files() - SPARE_FILES)
        allowed = attrs.evolve(limits, presence_connections=connections)
        await nursery.start(partial(serve_listeners, listeners, roster or Roster(has_names=False), limits=allowed))
        task_status.started(bound)


async def serve_listeners(
    listeners: Sequence[ClientListener],
    roster: Roster,
    *,
    limits: Limits = LIMITS,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """The same on listeners that are open already. They are closed at the end."""
    server = _Server(roster, limits)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.push_loop)
        for listener in listeners:
            nursery.start_soon(server.accept_loop, listener, nursery)
        task_status.started()


def _most_open_files() -> int:
    try:
        import resource  # not on Windows
    except ImportError:
        return sys.maxsize
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if most == resource.RLIM_INFINITY else most


class _Server:
    """Accepts connections, up to a maximum, pushes their news, and knows what each address uses."""

    def __init__(self, roster: Roster, limits: Limits) -> None:
        self.roster = roster
        self.limits = limits
        self.costs = Costs(limits)
        self.friends = Shares(limits.presence_friends)
        self._connections = Shares(limits.presence_connections)
        self._free = trio.Semaphore(limits.presence_connections)
        self._turned_away = 0
        self._next_log = 0.0
        self._with_news: list[_Connection] = []
        self._wake_up = WakeUp()

    def push_soon(self, connection: "_Connection") -> None:
        """This one has news: they are pushed in this turn of the scheduler or the next."""
        if not self._with_news:
            self._wake_up.set()
        self._with_news.append(connection)

    async def push_loop(self) -> None:
        """Push the news of all connections. A task of its own is started for each that does not take them at once."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._wake_up.wait()
                connections, self._with_news = self._with_news, []
                for number, connection in enumerate(connections):
                    if number % PUSHES_PER_TURN == 0:
                        # Also before the first one: the connections of a server that is being cancelled leave one by
                        # one, and the others would hear of that.
                        await trio.lowlevel.checkpoint()
                    if not connection.push():
                        nursery.start_soon(connection.push_slowly)

    async def accept_loop(self, listener: ClientListener, nursery: trio.Nursery) -> None:
        try:
            while True:
                if not self._free.value:
                    self._log(f"{self.limits.presence_connections} connections are open: newcomers wait until one ends")
                # Before accept: those beyond the maximum wait in the kernel's backlog and cost no file descriptor.
                await self._free.acquire()
                nursery.start_soon(self._serve_connection, await self._accept(listener))
        finally:
            listener.close()

    async def _accept(self, listener: ClientListener) -> ClientStream:
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

    async def _serve_connection(self, stream: ClientStream) -> None:
        where = stream.origin
        is_admitted = self._connections.change(where, 1)
        connection = _Connection(stream, self)
        try:
            if is_admitted:
                await connection.run()
            elif self._turned_away < MAX_TURNED_AWAY:
                self._log(f"too many connections from {where}: more of them are closed")
                self._turned_away += 1
                await connection.refuse(Refusal(TOO_MANY, "Too many connections from your address"))
                self._turned_away -= 1
        finally:
            connection.leave()
            if is_admitted:
                self._connections.change(where, -1)
            stream.close()
            self._free.release()


class _Connection:
    """One client, from its first request to its last."""

    __slots__ = (
        *("_drain_lock", "_friends", "_has_folded", "_is_broken", "_is_pushing", "_news", "_payer", "_pushes"),
        *("_request", "_roster", "_scope", "_server", "_stream", "_unsent"),
    )

    def __init__(self, stream: ClientStream, server: _Server) -> None:
        self._stream = stream
        self._server = server
        self._roster = server.roster
        self._payer = server.costs.payer(stream.origin)
        self._scope = trio.CancelScope()
        self._request: Watch | None = None
        self._friends: dict[Friend, Friend] = {}  # the form in which they are compared: the form in the request
        self._news = NewsQueue(server.limits.presence_news)
        self._has_folded = False
        self._unsent = b""
        self._is_broken = False
        self._pushes = False
        self._is_pushing = False
        self._drain_lock = trio.Lock()

    async def run(self) -> None:
        """Serve the client until it has gone. A deadline is moved by whole requests only, not by each byte."""
        self._scope.deadline = trio.current_time() + FIRST_REQUEST_TIMEOUT
        with self._scope:
            await self._answer_requests()

    def leave(self) -> None:
        """End the user's presence by this connection, and the news for it. May be called twice."""
        if self._request is not None:
            self._roster.unwatch(self._friends, self._add_news)
            self._roster.leave(self._request.user_id)
            self._server.friends.change(self._stream.origin, -len(self._friends))
        self._request, self._friends, self._news, self._pushes = None, {}, NewsQueue(0), False

    # --- requests ---

    async def _answer_requests(self) -> None:
        received = JsonStream()
        try:
            await self._payer.pay(CONNECTION)
            while data := await self._stream.receive_some(READ_SIZE):
                await self._payer.pay(cost_of_bytes(data))
                received.feed(data)
                while (fields := received.take()) is not None:
                    request = parse_watch(fields)
                    self._scope.deadline = trio.current_time() + NEXT_REQUEST_TIMEOUT
                    await self._pay_for(request)
                    self._handle_request(request)
                    await self._answer(self._make_answer)
        except JsonError as error:
            await self.refuse(Refusal(NOT_A_REQUEST, str(error)))
        except Refusal as refused:
            await self.refuse(refused)
        except trio.BrokenResourceError:
            pass  # the client has reset the connection

    async def _pay_for(self, request: Watch) -> None:
        before = self._request
        has_new_friends = before is None or request.friends != before.friends
        watchers = 0 if before else self._roster.count_watchers(request.user_id)
        cost = REQUEST + FRIEND * len(request.friends) * has_new_friends
        await self._payer.pay(cost, for_others=NEWS * watchers)

    def _handle_request(self, request: Watch) -> None:
        before = self._request
        if before is not None and request.user_id != before.user_id:
            raise Refusal(INVALID_ID, "Invalid user id: it can't change")
        self._request = request
        self._pushes = request.push
        if before is None:
            self._roster.enter(request.user_id)
        if before is None or request.friends != before.friends:
            self._set_friends(request.friends)

    def _set_friends(self, friends: Sequence[Friend]) -> None:
        if not self._roster.has_names and any(isinstance(friend, str) for friend in friends):
            raise Refusal(INVALID_ID, "There is no chat here: friends are numbers")
        wanted: dict[Friend, Friend] = {}
        for friend in friends:
            wanted.setdefault(fold_friend(friend), friend)
        if not self._server.friends.change(self._stream.origin, len(wanted) - len(self._friends)):
            raise Refusal(TOO_MANY, "Too many friends are watched from your address")
        before, self._friends = self._friends, wanted
        removed = before.keys() - self._friends.keys()
        if removed:
            self._roster.unwatch(removed, self._add_news)
            # Their waiting changes could not be encoded any more: the form in the request is gone.
            self._news.forget(removed)
        for friend in self._roster.watch([one for one in self._friends if one not in before], self._add_news):
            self._add_news(friend, True)

    async def refuse(self, refused: Refusal) -> None:
        """Send this error, and end."""
        self.leave()
        self._scope.deadline = trio.current_time() + SEND_TIMEOUT + LINGER
        await self._answer(lambda: encode_refusal(refused))
        # To close a socket with unread data resets the connection, and a reset can take the error away from a client
        # that has not read it yet. So the client's data is read until it closes, too.
        with trio.move_on_after(LINGER), suppress(trio.BrokenResourceError):
            self._stream.send_eof()
            while await self._stream.receive_some(READ_SIZE):
                pass

    # --- answers and news ---

    def _add_news(self, friend: Friend, online: bool) -> None:
        if not self._news.add(friend, online) and not self._has_folded and self._request is not None:
            self._has_folded = True
            text = "over %d pieces of news wait for user %d: of each friend, the latest now replaces the one before"
            log.warning(text, self._server.limits.presence_news, self._request.user_id)
        self._push_soon()

    def _push_soon(self) -> None:
        if self._pushes and not self._is_pushing:
            self._is_pushing = True
            self._server.push_soon(self)

    def _make_answer(self) -> bytes:
        if self._pushes:
            return self._next_news(NEWS_PER_SEND) or STILL_THERE + b"\n"
        return self._next_news(1).rstrip() or STILL_THERE

    def push(self) -> bool:
        """Send the news that the client takes without waiting. Returns False if `push_slowly` must send the others."""
        if self._pushes and not self._unsent and (lines := self._next_news(NEWS_PER_SEND)):
            self._write(lines)
        self._is_pushing = not self._is_broken and bool(self._unsent or (self._pushes and self._news))
        return not self._is_pushing

    async def push_slowly(self) -> None:
        """Send the news to a client that does not take them at once."""
        while not self.push():
            await self._drain()

    def _next_news(self, most: int) -> bytes:
        return b"".join([encode_news(self._friends[friend], online) for friend, online in self._news.take(most)])

    async def _answer(self, make: Callable[[], bytes]) -> None:
        """Send what `make` returns, after all that was sent before, and wait until the client has taken it."""
        if self._unsent:
            await self._drain()
        if self._is_broken:
            return  # a send has failed: part of an object may have been taken
        self._write(make())
        if self._unsent:
            await self._drain()
        if self._news:
            self._push_soon()  # there was more than one answer takes

    def _write(self, data: bytes) -> None:
        """Send what the client takes without waiting. `_drain` sends the rest; until then nothing else may be sent."""
        try:
            self._unsent = data[self._stream.send_now(data) :]
        except trio.BrokenResourceError:
            self._unsent = b""
            self._end()

    async def _drain(self) -> None:
        """Wait until the client has taken what it was sent. If it does not within SEND_TIMEOUT, it has gone."""
        # Two tasks may wait: that of the requests, and `push_slowly`. Each gets its turn, however much news there is.
        async with self._drain_lock:
            try:
                with trio.fail_after(SEND_TIMEOUT):
                    while self._unsent and not self._is_broken:
                        await self._stream.wait_writable()
                        self._write(self._unsent)
            except (trio.TooSlowError, trio.ClosedResourceError):  # closed: it has ended while `push_slowly` waited
                self._end()

    def _end(self) -> None:
        self._is_broken = True
        self._scope.cancel()
