"""`trio-chat servers` with real processes. Other tests' servers on this machine may be found, too."""

import re

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
        found = await programs.server("server", 0, "--registration", "open")
        hidden = await programs.server("server", free_port(), "--no-discovery")
        # Answers are waited for 1 s, which a busy machine may need for less: another search finds it then.
        for _ in range(10):
            search = await programs.start("search", "servers")
            commands = (await search.rest())[0]
            assert not any(hidden.key in command for command in commands)
            here = [command for command in commands if found.key in command]
            if here:
                break
        assert re.fullmatch(rf"trio-chat client NAME [\d.]+ {found.port} --server-key {found.key}", here[0])
