"""The control socket of a running server: how commands of its operator arrive, and are answered.

What the commands do is in operations.py; the command line for them is in cli/operator.py.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from trio_chat.errors import ChatError
from trio_chat.server.operations import OperatorCommand
from trio_chat.storage.private_files import make_private_folder
from trio_chat.transport.unix import HAS_UNIX_SOCKETS, connect_to, listen_at

log = logging.getLogger(__name__)

MAX_PROGRAMS = 4
MAX_COMMAND = 4096
"""Bytes of a line with a command."""
COMMAND_TIMEOUT = 60.0
"""Seconds after which a connection without a command is closed."""
READ_TIMEOUT = 10.0
"""Seconds that a program has to read an answer; then the connection is closed."""

_decoder = msgspec.json.Decoder(OperatorCommand)
_encode = msgspec.json.encode


class NoServerRuns(ChatError):
    """There is no running server whose control socket can be used."""


class CommandRefused(ChatError):
    """The server has refused a command; the text is its own."""


class Control:
    """Serves the operator's commands on a Unix socket that only programs of the same user can open (mode 0600).

    Each line is a JSON object, in UTF-8, at most 4096 bytes long. `command` says what to do, the other members how:

        {"command": "kick", "name": "bob"}
        {"kicked": "bob"}

    For each line the server sends one line, in the same order: an object with the result or, if the command was
    refused, with `error`, a sentence for the operator. Nothing has been done then. The commands and their members are
    the classes in operations.py; what each returns is on the operators' page of the documentation. Members that are
    not known are refused; programs that read answers should skip those that they do not know.

    A line that is too long, 60 seconds without a command, or 10 in which an answer is not read end the connection. At
    most 4 programs can be connected; the next ones get an `error`, and are disconnected.

    `answer` carries out a command. It returns the members of the answer, or raises a ChatError.
    """

    def __init__(self, answer: Callable[[OperatorCommand], Awaitable[dict[str, object]]]) -> None:
        self._answer = answer
        self._connections = 0

    async def serve(self, path: Path, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. If the socket cannot be made, that is logged, and the server goes on without it."""
        if not HAS_UNIX_SOCKETS:
            task_status.started()
            return
        async with AsyncExitStack() as opened:
            try:
                make_private_folder(path.parent)
                listener = await opened.enter_async_context(listen_at(path, MAX_PROGRAMS))
            except OSError as error:
                log.warning("no control socket %s: %s", path, error.strerror or error)
                task_status.started()
                return
            task_status.started()
            await trio.serve_listeners(self._serve_connection, [listener])

    async def _serve_connection(self, stream: trio.SocketStream) -> None:
        self._connections += 1
        try:
            async with aclosing(stream):
                if self._connections > MAX_PROGRAMS:
                    await _send(stream, {"error": "too many programs are connected"})
                else:
                    await self._converse(stream)
        except (trio.BrokenResourceError, trio.TooSlowError):
            pass  # it has gone, or does not read
        finally:
            self._connections -= 1

    async def _converse(self, stream: trio.SocketStream) -> None:
        received = bytearray()
        while True:
            with trio.fail_after(COMMAND_TIMEOUT):
                data = await stream.receive_some(MAX_COMMAND)
            if not data:
                return
            received += data
            *lines, rest = received.split(b"\n")
            for line in lines:
                await _send(stream, await self._answer_line(bytes(line)))
            received = rest
            if len(received) >= MAX_COMMAND:
                await _send(stream, {"error": "the line is too long"})
                return

    async def _answer_line(self, line: bytes) -> dict[str, object]:
        try:
            return await self._answer(_decoder.decode(line))
        # msgspec raises the latter two for invalid UTF-8 and for deep nesting.
        except (ChatError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return {"error": str(error)}


async def _send(stream: trio.SocketStream, answer: dict[str, object]) -> None:
    with trio.fail_after(READ_TIMEOUT):
        await stream.send_all(_encode(answer) + b"\n")


Ask = Callable[[OperatorCommand], Awaitable[dict[str, Any]]]


@asynccontextmanager
async def open_control(path: Path) -> AsyncIterator[Ask]:
    """Connect to the control socket of a running server; yield a function that asks one command after the other.

    Raises:
        NoServerRuns: nobody listens there, or the server has ended.
        CommandRefused: by that function, with the server's reason.
    """
    if not HAS_UNIX_SOCKETS:
        raise NoServerRuns("this system has no Unix sockets, which the commands for a running server need")
    try:
        stream = await connect_to(path)
    except (FileNotFoundError, ConnectionRefusedError):
        raise NoServerRuns(f"no server is running here that can be reached at {path}") from None
    except OSError as error:
        raise NoServerRuns(f"cannot reach the server at {path}: {error.strerror or error}") from error
    received = bytearray()

    async def ask(command: OperatorCommand) -> dict[str, Any]:
        try:
            await stream.send_all(_encode(command) + b"\n")
            while b"\n" not in received:
                received.extend(data := await stream.receive_some())
                if not data:
                    break
        except trio.BrokenResourceError:
            received.clear()
        if b"\n" not in received:
            raise NoServerRuns("the server has ended, or has closed the connection")
        line, _, rest = received.partition(b"\n")
        received[:] = rest
        answer: dict[str, Any] = msgspec.json.decode(line)
        if "error" in answer:
            raise CommandRefused(str(answer["error"]))
        return answer

    async with aclosing(stream):
        yield ask
