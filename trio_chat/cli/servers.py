"""The program behind `servers`: what is found on the local network.

Its arguments are in cli/main.py, the handling of its errors in cli/running.py.
"""

import click

from trio_chat.cli.exit_codes import DONE, FAILED
from trio_chat.client.search import find_servers
from trio_chat.terminal.wordings import show_address
from trio_chat.transport.multicast import SEARCH_PORT


async def run_servers() -> int:
    """Print the addresses of each server that answers, and its fingerprint; return the exit code.

    Raises AddressError.
    """
    found = await find_servers()
    rows = [(" ".join(map(show_address, one.addresses)), one.fingerprint) for one in found]
    width = max((len(addresses) for addresses, _ in rows), default=0)
    for addresses, fingerprint in sorted(rows):
        click.echo(f"{addresses:{width}}  {fingerprint}")
    if rows:
        return DONE
    click.echo(
        f"No server has answered. A firewall may be in the way (UDP port {SEARCH_PORT}), or a guest Wi-Fi, where"
        " devices do not see each other: ask for the address of the server. Or start one: trio-chat server",
        err=True,
    )
    return FAILED
