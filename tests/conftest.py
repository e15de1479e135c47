"""Fixtures that more than one test module uses."""

import gc
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

# Without bytecode files, each worker and each new interpreter compiles the package and the tests: a fifth of all time.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    sys.dont_write_bytecode = False

import hypothesis
import pytest

from tests.memory_folder import MEMORY
from tests.network import MemoryNetwork, open_memory_network
from tests.stage import IDENTITIES, Stage, identity_of, open_stage

# A build may run as a background job, which ignores SIGINT, or under nohup, which ignores SIGHUP. The programs that
# tests end by these would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Imported modules, and the tests themselves, stay until the end. Searching them for garbage took a tenth of all time.
gc.disable()

# Few examples, and the same ones each time, at whatever speed: the suite gives the same result on each machine.
# `nox -s fuzz` looks for new ones.
hypothesis.settings.register_profile(
    "suite",
    max_examples=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
)
hypothesis.settings.load_profile("suite")

# No test cuts the power, so a RAM disk is enough. On a shared disk, hundreds of small databases wait for each other.
if MEMORY is not None:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.set_threshold(20_000)  # collecting after each 700 new objects took a twentieth of all time
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means: two more than there are cores, as tests of programs mostly wait."""
    return (os.cpu_count() or 1) + 2


@pytest.fixture
async def network() -> AsyncIterator[MemoryNetwork]:
    """A network in memory without faults, seed 0. The test must ask for `autojump_clock` as well."""
    async with open_memory_network() as network:
        yield network


@pytest.fixture
async def stage(network: MemoryNetwork) -> AsyncIterator[Stage]:
    """A server on that network. The test must ask for `autojump_clock` itself: pytest-trio sees no other clock."""
    async with open_stage(network) as stage:
        yield stage


@pytest.fixture(params=["alice", "bob"])
def lower_key(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who of these two has the lower key: of two handshakes that cross, theirs counts."""
    other = {"alice": "bob", "bob": "alice"}[request.param]
    keys = sorted(map(identity_of, ("alice", "bob")), key=lambda one: one.public.link)
    for name, identity in zip((request.param, other), keys, strict=True):
        monkeypatch.setitem(IDENTITIES, name, identity)
    return str(request.param)


@pytest.fixture
def data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The user's data folder during a test. It does not exist yet."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "trio_chat"
