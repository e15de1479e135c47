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

PER_HOST = Rate(12, 3)
"""How often one host is answered. A search sends 3 questions through each interface."""

HOSTS_KEPT = 1024


async def answer_searches(network: Network, keys: ServerKeys, send: Callable[[bytes, Address], object]) -> None:
    """Answer each search until cancelled. If this machine cannot receive any, log that and return.

    `send` sends from the server's own port: the source of an answer is the address that a client needs. An answer is as
    long as the question, which comes from the same network: nobody can use it to flood somebody elsewhere.
    """
    answers, hellos = TokenBuckets(PER_HOST, HOSTS_KEPT), Hellos(secrets.token_bytes, keys)
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
                if isinstance(packet, packets.Hello) and answers.take(source[0], trio.current_time()):
                    for answer in hellos.receive_hello(packet, source):
                        send(answer.data, answer.address)
