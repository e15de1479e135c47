"""A folder in memory, for files that need not survive a power cut; None where the system has none, or a small one."""

import os
import shutil
from pathlib import Path

SHARED = Path("/dev/shm")  # noqa: S108 - everything below it is made with a random name, or for one user alone
ENOUGH = 2**29
"""Bytes that must be free; containers often have 64 MiB."""


def _find() -> Path | None:
    if not SHARED.is_dir() or not os.access(SHARED, os.W_OK | os.X_OK):
        return None
    return SHARED if shutil.disk_usage(SHARED).free > ENOUGH else None


MEMORY = _find()
