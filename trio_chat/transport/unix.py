"""Unix sockets: a listener that only programs of the same user can reach, and a connection to one.

Bytes only: what is said on them is known in server/control.py.
"""

import errno
import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import trio

HAS_UNIX_SOCKETS = hasattr(socket, "AF_UNIX") and os.name == "posix"

ACCEPT_TIMEOUT = 2.0
"""Seconds after which a socket that does not accept a connection counts as in use."""


@asynccontextmanager
async def listen_at(path: Path, backlog: int) -> AsyncIterator[trio.SocketListener]:
    """Listen on a Unix socket with mode 0600 until the block ends; then it is removed. Its folder is there.

    A socket that nobody listens on is replaced. Raises OSError: FileExistsError if somebody does.
    """
    if _is_socket(path) and await _is_in_use(path):
        raise FileExistsError(errno.EEXIST, "another server uses it")
    listening = _bind(path, backlog)
    with listening, _removed_at_end(path):
        yield trio.SocketListener(trio.socket.from_stdlib_socket(listening))


def _is_socket(path: Path) -> bool:
    """Whether a socket is there. Raises FileExistsError if something else is."""
    try:
        if stat.S_ISSOCK(path.lstat().st_mode):
            return True
    except FileNotFoundError:
        return False
    raise FileExistsError(errno.EEXIST, "there is something else under this name")


async def _is_in_use(path: Path) -> bool:
    # No answer is an answer: a server that is too busy to accept is there.
    with trio.move_on_after(ACCEPT_TIMEOUT):
        try:
            await (await connect_to(path)).aclose()
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


def _bind(path: Path, backlog: int) -> socket.socket:
    # Made where nobody else can reach it, and moved when it has its mode: with a umask instead, files that threads
    # create at the same time would get it, too. Moving replaces what a server that was killed has left.
    with tempfile.TemporaryDirectory(prefix=".socket-", dir=path.parent) as private:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _short_name(Path(private)) as folder:
                listening.bind(f"{folder}/new")
            new = Path(private, "new")
            new.chmod(0o600)
            listening.listen(backlog)
            listening.setblocking(False)
            new.rename(path)
        except OSError:
            listening.close()
            raise
    return listening


@contextmanager
def _removed_at_end(path: Path) -> Iterator[None]:
    created = path.lstat().st_ino
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            if path.lstat().st_ino == created:  # else it is that of another server, which has replaced ours
                path.unlink()


async def connect_to(path: Path) -> trio.SocketStream:
    """A connection to a Unix socket. Raises OSError."""
    with _short_name(path.parent) as folder:
        return await trio.open_unix_socket(f"{folder}/{path.name}")


@contextmanager
def _short_name(folder: Path) -> Iterator[str]:
    """A short name of a folder, where the system has one: the address of a Unix socket has at most about 100 bytes."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        short = f"/proc/self/fd/{fd}"
        yield short if os.path.isdir(short) else str(folder)
    finally:
        os.close(fd)
