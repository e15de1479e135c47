"""The disk of one program, with its SQLite file: slow at times, without power at times, and at times it fails."""

import enum
import itertools
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import trio

T = TypeVar("T")

SLOWNESS = (0.0, 0.001, 0.04)
"""Seconds that a commit takes before it is on the disk, at most, and once more until the program knows."""


class Fate(enum.Enum):
    """How a commit fails. The program cannot tell one from the other."""

    LOST = "nothing of it is on the disk"
    KEPT = "all of it is on the disk"


class Disk:
    """One SQLite file through all lives. A power cut leaves what the latest commit left, and nothing written later."""

    def __init__(self, folder: Path, name: str, dice: random.Random) -> None:
        self._folder, self._name, self._dice = folder, name, dice
        self._lives = itertools.count(1)
        self._slowness = 0.0
        self.path = folder / f"{name}-0.db"
        self.next_commit: Fate | None = None
        self.failed = trio.Event()
        """That of this life."""

    async def run(self, work: Callable[[], T]) -> T:
        """Run a transaction, as storage.group_commit.in_thread does: once begun it is not cancelled."""
        with trio.CancelScope(shield=True):
            await trio.sleep(self._slowness * self._dice.random())
            fate, self.next_commit = self.next_commit, None
            if fate is not Fate.LOST:
                done = work()
            if fate is not None:
                self.cut_power()
                self.failed.set()
                raise sqlite3.OperationalError("disk I/O error")
            await trio.sleep(self._slowness * self._dice.random())
            return done

    def cut_power(self) -> None:
        """From now on the disk is as it is now, whatever the dying program still writes."""
        after = self._folder / f"{self._name}-{next(self._lives)}.db"
        for suffix in ("", "-wal"):
            with suppress(FileNotFoundError):
                shutil.copy(f"{self.path}{suffix}", f"{after}{suffix}")
        self.path = after

    def start(self) -> None:
        """A new life: as fast as the dice say, and whatever was to fail is forgotten."""
        self._slowness = self._dice.choice(SLOWNESS)
        self.next_commit = None
        self.failed = trio.Event()
