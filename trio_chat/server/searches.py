"""Answers to those who search for a server on the local network, from the port that clients use.

How they search is in client/search.py.
"""

import logging
import secrets
from collections.abc import Callable
from contextlib import closing, suppress

import trio

from trio_chat.errors import AddressError
from trio_chat.link import packets
from trio_chat.link.hellos import Hellos, ServerKeys
from trio_chat.protocol.limits import Rate
from trio_chat.protocol.records import Address
from trio_chat.protocol.token_buckets import TokenBuckets
from trio_chat.protocol.wire import WireError
from trio_chat.transport.udp import Network

log = logging.getLogger(__name__)

PER_HOST, IN_ALL = Rate(12, 3), Rate(300, 100)
"""How often one host is answered, and all together, as the source may be forged. A search asks 3 times."""

HOSTS_KEPT = 1024


async def answer_searches(network: Network, keys: ServerKeys, send: Callable[[bytes, Address], object]) -> None:
    """Answer each search until cancelled. If this machine cannot receive any, log that and return.

    `send` sends from the server's own port: the source of an answer is the address that a client needs. An answer is as
    long as the question, which comes from the same network, and there are few of them: so they are of little use to
    flood somebody whose address is forged.
    """
    hellos = Hellos(secrets.token_bytes, keys)
    of_host, of_all = TokenBuckets(PER_HOST, HOSTS_KEPT), TokenBuckets(IN_ALL, 1)
    try:
        searches = network.open_search(listens=True)
    except AddressError as error:
        log.warning("nobody finds this server by `trio-chat servers`: %s", error)
        return
    with closing(searches):
        while True:
            data, source = await searches.receive()
            with suppress(WireError):
                packet = packets.parse_untrusted(data)
                now = trio.current_time()
                if isinstance(packet, packets.Hello) and of_host.take(source[0], now) and of_all.take("", now):
                    for answer in hellos.receive_hello(packet, source):
                        send(answer.data, answer.address)
