"""The program behind `servers`: what is found on the local network.

Its arguments are in cli/main.py, the handling of its errors in cli/running.py.
"""

import click

from trio_chat.cli.exit_codes import DONE, FAILED
from trio_chat.client.search import find_servers
from trio_chat.transport.multicast import SEARCH_PORT


async def run_servers() -> int:
    """Print a command for each address at which a server has answered, by which one joins; return the exit code.

    With the fingerprint in it: anybody can answer with the key of another server, but nobody can talk with it.

    Raises AddressError.
    """
    found = await find_servers()
    for one in found:
        for host, port in one.addresses:
            click.echo(f"trio-chat client NAME {host} {port} --server-key {one.fingerprint}")
    if found:
        return DONE
    click.echo(
        f"No server has answered. A firewall may be in the way, here or at the server (UDP port {SEARCH_PORT} there),"
        " or a guest Wi-Fi, where devices do not see each other: ask for the address of the server. Or start one:"
        " trio-chat server",
        err=True,
    )
    return FAILED
