"""Fixtures that more than one test module uses."""

from collections.abc import AsyncIterator

import pytest

from tests.network import MemoryNetwork, open_memory_network


@pytest.fixture
async def network() -> AsyncIterator[MemoryNetwork]:
    """A faultless network in memory, seed 0; ask for `autojump_clock` beside it."""
    async with open_memory_network() as network:
        yield network
