"""Where this client is: whether its own address has changed, and how often it sends a heartbeat if routers are between.

What a heartbeat is answered with, is in registration.py.
"""

from collections.abc import Callable

import trio

from trio_chat.client.context import ClientContext
from trio_chat.link.session import Peer

HEARTBEAT_EVERY = 20.0

HEARTBEAT_BEHIND_ROUTER = 10.0
"""Seconds between heartbeats if the server sees another address than we have. Some routers forget it within 15 seconds,
if nothing is sent (RFC 4787, section 4.3, asks for two minutes); then nothing of the server arrives."""

LOOK_EVERY = 2.0
"""Seconds between two looks at the own address. Nothing is sent for it."""


def heartbeat_pause(context: ClientContext, server: Peer) -> float:
    """Seconds until the next heartbeat."""
    row = context.table.get(context.name)
    is_same = row is None or row.address == context.endpoint.own_address(server.address)
    return HEARTBEAT_EVERY if is_same else HEARTBEAT_BEHIND_ROUTER


async def watch_address(context: ClientContext, server: Callable[[], Peer], on_change: Callable[[], object]) -> None:
    """Call `on_change` when this machine has another address towards the server, until cancelled."""
    before = None
    while True:
        now = context.endpoint.own_address(server().address)
        if before is not None and now is not None and now != before:
            on_change()
        before = now or before
        await trio.sleep(LOOK_EVERY)
