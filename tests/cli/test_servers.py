"""`trio-chat servers`: what it prints. The search itself is in tests/client/test_search.py."""

import pytest

from trio_chat.cli.main import main
from trio_chat.client.search import FoundServer


@pytest.fixture
def found(monkeypatch):
    """What a search finds."""
    found = []

    async def find_servers():
        return found

    monkeypatch.setattr("trio_chat.cli.servers.find_servers", find_servers)
    return found


def test_a_command_for_each_address_joins_that_server_and_no_other(found, capsys):
    found.append(FoundServer(b"k" * 32, (("10.0.0.1", 5000), ("10.1.0.1", 5000))))
    assert main(["servers"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"trio-chat client NAME {host} 5000 --server-key {found[0].fingerprint}" for host in ("10.0.0.1", "10.1.0.1")
    ]
    assert err == ""


def test_who_finds_none_is_told_what_to_do(found, capsys):
    assert main(["servers"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("No server has answered. A firewall may be in the way, here or at the server (UDP port 25084")
    assert err.endswith("ask for the address of the server. Or start one: trio-chat server\n")
