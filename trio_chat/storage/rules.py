"""What operators decide and a server keeps: bans, and invitations.

What they mean is in server/moderation.py, and how SQLite keeps them in server_rules.py.
"""

import enum
from typing import Annotated

import attrs
from msgspec import Meta

from trio_chat.protocol.records import Key, Seconds


class BanKind(enum.StrEnum):
    """What is banned."""

    NAME = "name"
    KEY = "key"
    ADDRESS = "address"


@attrs.frozen
class Ban:
    """A name in lower case, the fingerprint of a key, or a network in CIDR form.

    `name`: the name, in lower case, with which it was banned; lifting the ban of that name lifts this one as well.
    """

    kind: BanKind
    value: Annotated[str, Meta(min_length=1, max_length=64)]
    name: Annotated[str, Meta(max_length=32)] = ""


@attrs.frozen
class Invitation:
    """What admits one new name: the SHA-256 of a code, which is good until some time.

    `name`: the only name that it admits, in lower case; empty if it admits any.
    """

    hash: Key
    until: Seconds
    name: Annotated[str, Meta(max_length=32)] = ""
