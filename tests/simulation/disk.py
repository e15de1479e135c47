"""The disk of one program, with its SQLite file. It may be slow, lose its power or fail."""

import enum
import itertools
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar

import trio

T = TypeVar("T")

SLOWNESS = (0.0, 0.001, 0.04)
"""Seconds that a commit takes, at most, until it is on the disk, and again until the program knows it."""


AT_ONE_MOMENT = 5000
"""Commits of one program at one moment: after so many it goes round in circles."""


class Failure(enum.Enum):
    """How a commit fails. The program cannot see the difference."""

    LOST = "nothing of it is on the disk"
    KEPT = "all of it is on the disk"


class Disk:
    """One SQLite file through all runs of its program. A power cut keeps what was committed, and nothing after it."""

    def __init__(self, folder: Path, name: str, dice: random.Random) -> None:
        self._folder, self._name, self._dice = folder, name, dice
        self._copies = itertools.count(1)
        self._slowness = 0.0
        self._moment, self._commits = 0.0, 0
        self.path = folder / f"{name}-0.db"
        self.next_commit: Failure | None = None
        self.failed = trio.Event()
        """Whether a commit has failed in this run."""

    async def run(self, work: Callable[[], T]) -> T:
        """Run a transaction. Like storage.group_commit.in_thread, it cannot be cancelled once it has begun."""
        self._commits = self._commits + 1 if trio.current_time() == self._moment else 0
        self._moment = trio.current_time()
        if self._commits > AT_ONE_MOMENT:
            raise AssertionError(f"{self._name} goes round in circles")
        with trio.CancelScope(shield=True):
            await trio.sleep(self._slowness * self._dice.random())
            failure, self.next_commit = self.next_commit, None
            # The next run finds the disk as it was before, or as it is after. What the program does then, it does.
            if failure is Failure.LOST:
                self.cut_power()
            done = work()
            if failure is Failure.KEPT:
                self.cut_power()
            await trio.sleep(self._slowness * self._dice.random())
            if failure is not None:
                self.failed.set()
                raise sqlite3.OperationalError("disk I/O error")
            return done

    def cut_power(self) -> None:
        """The next run finds the disk as it is now, whatever this run still writes."""
        after = self._folder / f"{self._name}-{next(self._copies)}.db"
        for suffix in ("", "-wal"):
            with suppress(FileNotFoundError):
                shutil.copy(f"{self.path}{suffix}", f"{after}{suffix}")
        self.path = after

    def unshown(self) -> set[bytes]:
        """The ids of what a client has stored on it, and acknowledged, and not shown yet."""
        return self._column("SELECT id FROM received WHERE NOT shown")

    def epochs(self) -> set[int]:
        """The entries with which the epochs have come that a client has stored on it, and acknowledged."""
        return self._column("SELECT seq FROM epochs WHERE is_handed")

    def _column(self, query: str) -> set[Any]:
        with closing(sqlite3.connect(self.path)) as database, suppress(sqlite3.OperationalError):  # there is no store
            return {value for (value,) in database.execute(query)}
        return set()

    def lose(self) -> None:
        """The next run finds a new one, with nothing on it."""
        self.path = self._folder / f"{self._name}-{next(self._copies)}.db"

    def start(self) -> None:
        """A new run of the program: the disk has a random speed and does not fail."""
        self._slowness = self._dice.choice(SLOWNESS)
        self.next_commit = None
        self.failed = trio.Event()

    def files(self) -> Iterator[Path]:
        """All that was ever written, in all runs."""
        return self._folder.glob(f"{self._name}-*")
