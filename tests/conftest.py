"""Fixtures that more than one test module uses."""

import gc
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import hypothesis
import pytest

from tests.network import MemoryNetwork, open_memory_network
from tests.stage import Stage, open_stage

# A background job, as a build may be, is started with SIGINT ignored, and would hand that on to the programs
# that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# All tests, and what they import, stay to the end: to look for garbage there, again and again, took a tenth of it all.
gc.disable()

# Few, for the suite is short; `nox -s fuzz` looks as long as one likes.
hypothesis.settings.register_profile("suite", max_examples=40, deadline=None)
hypothesis.settings.load_profile("suite")

# What is under `tmp_path` is kept in memory where there is plenty: no test cuts the power, and on a disk that others
# use as well hundreds of small databases wait for each other. Programs of the plays have their files on the disk.
IN_MEMORY, PLENTY = Path("/dev/shm"), 2**29  # noqa: S108 - pytest makes folders there that are its own
if IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > PLENTY:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(IN_MEMORY))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` is: two more than there are cores, as someone always waits for a program's windows."""
    return (os.cpu_count() or 1) + 2


@pytest.fixture
async def network() -> AsyncIterator[MemoryNetwork]:
    """A faultless network in memory, seed 0; ask for `autojump_clock` beside it."""
    async with open_memory_network() as network:
        yield network


@pytest.fixture
async def stage(network: MemoryNetwork) -> AsyncIterator[Stage]:
    """A server on that network; ask for `autojump_clock` beside it (a test's clock must be its own argument)."""
    async with open_stage(network) as stage:
        yield stage


@pytest.fixture
def data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The user's data folder: one of the test's own, and not there yet."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "trio_chat"
