"""Files that their owner alone may use: what is asked of them, the folders made for them, and why one cannot be used.

identity_file.py and database.py say what is in them, and raise the errors.
"""

import errno
import os
import shlex
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

IS_WINDOWS = os.name == "nt"  # no owners and no modes there, and a folder cannot be opened for fsync

MAKE_ROOM = "make room on the disk"
CHECK_DISK = "check the disk, and the quota if it has one"
CHECK_ACCESS = "make it and its folder yours and writable, or name another file"

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), MAKE_ROOM),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), CHECK_ACCESS),
}


def make_private_folder(folder: Path) -> None:
    """Create a folder unless there is one, with those above it, all of them mode 0700. Raises OSError."""
    if not folder.is_dir():
        make_private_folder(folder.parent)
        with suppress(FileExistsError):  # another program was first; what is no folder, the caller notices
            folder.mkdir(mode=0o700)
            folder.chmod(0o700)  # the umask may have taken our own rights


def file_problem(status: os.stat_result, files: Sequence[Path]) -> str | None:
    """Why this file is not used, and what to do. None: it is a file, and others than its owner cannot use it.

    `files`: those that the command in the advice names.
    """
    if not stat.S_ISREG(status.st_mode):
        return "it is a folder" if stat.S_ISDIR(status.st_mode) else "it is not a file"
    if status.st_mode & _OTHERS and not IS_WINDOWS:
        return f"others can read it; {chmod_command(files)}"
    return None


def chmod_command(files: Sequence[Path]) -> str:
    """The command that makes these files ours alone."""
    return " ".join(["chmod 600", *(shlex.quote(str(file)) for file in files)])


def reason_of(error: Exception) -> str:
    """What the system says about a file, and what to do where that is known."""
    if not isinstance(error, OSError):
        return str(error)
    reason = error.strerror or str(error)
    advice = _ADVICE.get(error.errno or 0)
    return f"{reason}; {advice}" if advice else reason
