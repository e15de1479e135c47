"""One identity in one file: created at first use, whole or not at all, and readable by its owner alone.

What the keys are for is in crypto/; where the file is, the caller decides.
"""

import errno
import os
import re
import secrets
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from trio_chat.crypto.identities import Identity
from trio_chat.errors import IdentityError
from trio_chat.storage.private_files import IS_WINDOWS, file_problem, make_private_folder, reason_of

_FORM = re.compile(rb"trio_chat identity 1\nsigning (?P<signing>[0-9a-f]{64})\nlink (?P<link>[0-9a-f]{64})\n")
_LONGEST = 1024
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK}


def open_identity(path: Path, random: Callable[[int], bytes] = secrets.token_bytes) -> Identity:
    """The identity in a file. If there is no file, new keys are generated and written to it, mode 0600.

    If two programs create the same file at once, both get the keys of the first one. A file that is refused is left
    as it was.

    Raises:
        IdentityError: others can read the file, it is damaged or not an identity, or it cannot be read or created.
    """
    identity = read_identity(path)
    if identity is None:
        try:
            _make(path, Identity.new(random))
        except OSError as error:
            raise IdentityError(f"cannot make the identity file {path}: {reason_of(error)}") from error
        identity = read_identity(path)  # not ours, if another program was first
    if identity is None:
        raise IdentityError(f"cannot make the identity file {path}: it is gone again")
    return identity


def read_identity(path: Path) -> Identity | None:
    """The identity in a file; None if there is no file. Raises IdentityError as `open_identity` does."""
    try:
        # O_NONBLOCK: to open a named pipe that nobody writes to would wait forever.
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise IdentityError(f"cannot read the identity file {path}: {reason_of(error)}") from error
    try:
        # Of the open file: the name may lead to another one by now.
        if problem := file_problem(os.fstat(fd), [path]):
            raise IdentityError(f"cannot use the identity file {path}: {problem}")
        found = _FORM.fullmatch(os.read(fd, _LONGEST))
    except OSError as error:
        raise IdentityError(f"cannot read the identity file {path}: {reason_of(error)}") from error
    finally:
        os.close(fd)
    if found is None:
        raise IdentityError(f"cannot use the identity file {path}: it is damaged, or not an identity file")
    return Identity(*(bytes.fromhex(found[key].decode("ascii")) for key in ("signing", "link")))


def _make(path: Path, identity: Identity) -> None:
    """Create the file of an identity, durable, unless there is a file by now. Raises OSError."""
    text = f"trio_chat identity 1\nsigning {identity.signing_secret.hex()}\nlink {identity.link_secret.hex()}\n"
    make_private_folder(path.parent)
    # A program that is killed half-way must not leave a file that is refused from then on. So the text is written under
    # another name, mode 0600 from the beginning, and gets its own name when it is whole and on the disk.
    fd, temporary = tempfile.mkstemp(prefix=".identity-", dir=path.parent)
    try:
        with open(fd, "wb") as file:
            file.write(text.encode("ascii"))
            file.flush()
            os.fsync(fd)
        with suppress(FileExistsError):
            _give_name(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
    if not IS_WINDOWS:
        # The name is in the folder: without this, a power cut could take it, and the keys that own the user's name.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _give_name(temporary: str, path: Path) -> None:
    """Raises FileExistsError if another program was first."""
    try:
        # A rename would replace a file that another program made meanwhile, and whose keys it uses; a link fails.
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Some file systems (FAT, some network shares) have no links. The race remains there, with whole files.
        os.rename(temporary, path)
