"""What the parts of one client share: Registration, Inbox and Chat each get the same context.

Nothing is done here. The objects in it change; which objects they are does not.
"""

from collections.abc import Callable

import attrs

from trio_chat.client.epochs import Epochs
from trio_chat.client.event_queue import EventQueue
from trio_chat.client.key_pins import KeyPins
from trio_chat.client.memberships import Memberships
from trio_chat.crypto.identities import Identity
from trio_chat.protocol.table import ClientTable
from trio_chat.storage.client_interface import ClientStore
from trio_chat.transport.endpoint import Endpoint


@attrs.frozen(eq=False)
class ClientContext:
    """One client. `clock` returns seconds since 1970, UTC."""

    name: str
    identity: Identity
    store: ClientStore
    table: ClientTable
    pins: KeyPins
    endpoint: Endpoint
    event_queue: EventQueue
    clock: Callable[[], float]
    memberships: Memberships
    epochs: Epochs
