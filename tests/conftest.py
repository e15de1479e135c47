"""Fixtures that more than one test module uses."""

import signal
from collections.abc import AsyncIterator

import pytest

from tests.network import MemoryNetwork, open_memory_network
from tests.stage import Stage, open_stage

# A background job, as a build may be, is started with SIGINT ignored, and would hand that on to the programs
# that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


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
