"""One identity in one file: made at first use, whole or not at all, and read by its owner alone.

What the keys are good for is crypto/letters.py's business, and where the file lies is its user's.
"""

import errno
import os
import re
import secrets
import shlex
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from trio_chat.crypto.identities import Identity
from trio_chat.errors import IdentityError

__all__ = ["open_identity", "read_identity"]

_FORM = re.compile(rb"trio_chat identity 1\nsigning (?P<signing>[0-9a-f]{64})\nlink (?P<link>[0-9a-f]{64})\n")
_LONGEST = 1024
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK}

_IS_WINDOWS = os.name == "nt"  # which has neither modes nor folders that can be synced


def open_identity(path: Path, random: Callable[[int], bytes] = secrets.token_bytes) -> Identity:
    """The identity in a file; where there is no file, new keys are drawn and written to it, mode 0600.

    Of two programs that make the same file at once, both get the keys of the first one. A file that is refused is
    left as it was.

    Raises:
        IdentityError: others can read the file, it is damaged or none of ours, or it cannot be read or made.
    """
    identity = read_identity(path)
    if identity is None:
        try:
            _make(path, _text(Identity.new(random)))
        except OSError as error:
            raise IdentityError(f"cannot make the identity file {path}: {_reason(error)}") from error
        identity = read_identity(path)  # which may be another one than ours
    if identity is None:
        raise IdentityError(f"cannot make the identity file {path}: it is gone again")
    return identity


def read_identity(path: Path) -> Identity | None:
    """The identity in a file; None if there is no file. Raises IdentityError as `open_identity` does."""
    try:
        # Whatever else has that name, such as a pipe that nobody writes to, must not hold us up.
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise IdentityError(f"cannot read the identity file {path}: {_reason(error)}") from error
    try:
        _check(path, os.fstat(fd).st_mode)
        found = _FORM.fullmatch(os.read(fd, _LONGEST))
    except OSError as error:
        raise IdentityError(f"cannot read the identity file {path}: {_reason(error)}") from error
    finally:
        os.close(fd)
    if found is None:
        raise IdentityError(f"cannot use the identity file {path}: it is damaged, or not an identity file")
    return Identity(*(bytes.fromhex(found[key].decode("ascii")) for key in ("signing", "link")))


def _text(identity: Identity) -> bytes:
    signing, link = identity.signing_secret.hex(), identity.link_secret.hex()
    return f"trio_chat identity 1\nsigning {signing}\nlink {link}\n".encode("ascii")


def _check(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "not a file"
        raise IdentityError(f"cannot use the identity file {path}: it is {what}")
    if mode & _OTHERS and not _IS_WINDOWS:
        remedy = f"chmod 600 {shlex.quote(str(path))}"
        raise IdentityError(f"cannot use the identity file {path}: others can read it; {remedy}")


def _make(path: Path, text: bytes) -> None:
    """A new file with this text, durable. Raises OSError; that there is one meanwhile is none."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(prefix=".identity-", dir=path.parent)  # mode 0600, whatever the umask
    try:
        with open(fd, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
        with suppress(FileExistsError):
            _give_name(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
    if not _IS_WINDOWS:
        _sync_folder(path.parent)


def _give_name(temporary: str, path: Path) -> None:
    """Raises FileExistsError if someone else was quicker."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.rename(temporary, path)  # over the file of whoever was quicker by a hair, but whole


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _reason(error: OSError | ValueError) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
