"""`trio-chat servers` with real processes. Other tests' servers on this machine may be found, too."""

import pytest

from tests.end_to_end.processes import free_port, open_programs
from trio_chat.errors import AddressError
from trio_chat.transport.udp import UDP


@pytest.fixture(autouse=True)
async def multicast():
    try:
        UDP.open_search(listens=True).close()
    except AddressError as error:
        pytest.skip(f"this machine takes no part in multicast: {error}")


async def test_a_server_is_found_with_its_fingerprint_unless_it_does_not_want_that():
    async with open_programs() as programs:
        found = await programs.server()
        hidden = await programs.server("server", free_port(), "--no-discovery")
        search = await programs.start("search", "servers")
        lines, errors = await search.rest()
        await search.exits(0)
        assert errors == []
        servers = {tuple(line.split()) for line in lines}
        assert any(f":{found.port}" in address and key == found.key for address, *_, key in servers), lines
        assert not any(hidden.key in line for line in servers)
