"""Who is in a private room, and what an epoch changes, as it is kept and told: who was added, who has gone.

Which epochs are believed is decided in epochs.py.
"""

import hashlib
from collections.abc import Sequence

import attrs

from trio_chat.client.events import RoomMembersChanged
from trio_chat.protocol.epochs import Epoch
from trio_chat.protocol.records import ID_SIZE, PublicKeys, fold


@attrs.frozen
class MembersChange:
    """What an epoch changes for us: `owner` has begun it. `is_first`: it is the first one of the room that we see.

    `added` then are all members. `is_gap`: epochs before it are missing, and their changes are in this one.
    `is_unknown_owner`: we were removed from the room before, and they did not own it then.
    """

    epoch: Epoch
    owner: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    new_owners: tuple[str, ...]
    is_first: bool = False
    is_gap: bool = False
    is_unknown_owner: bool = False

    def __str__(self) -> str:
        """What `members_changed` reads: how the store keeps it."""
        names = [f"+{name}" for name in self.added] if not self.is_first else ["joined"]
        names += [f"-{name}" for name in self.removed] + [f"*{name}" for name in self.new_owners]
        flags = [word for word, is_set in (("gap", self.is_gap), ("unknown", self.is_unknown_owner)) if is_set]
        return " ".join([*names, *flags])


def id_of_epoch(body: bytes) -> bytes:
    """The id under which a change is kept, however it has come: the server cannot use one that is known."""
    return hashlib.sha256(body).digest()[:ID_SIZE]


def members_changed(room: str, owner: str, text: str) -> RoomMembersChanged:
    """The event for a change that was kept as this text."""
    words = text.split()
    added, removed, owners = (tuple(word[1:] for word in words if word[0] == sign) for sign in "+-*")
    flags = ("joined" in words, "gap" in words, "unknown" in words)
    return RoomMembersChanged(room, owner, added, removed, owners, *flags)


def members_change(before: Epoch | None, now: Epoch, owner: str) -> MembersChange:
    """What an epoch of this owner's changes, from one to the next."""
    names = before.names if before else {}
    owners = before.owners if before else now.owners
    return MembersChange(
        now,
        owner,
        tuple(name for name, key in now.names.items() if (name, key) not in names.items()),
        tuple(name for name, key in names.items() if (name, key) not in now.names.items()),
        tuple(name for name, key in now.names.items() if key in now.owners and key not in owners),
        is_first=before is None,
    )


@attrs.frozen
class Members:
    """Who is to be in the next epoch: names with their keys, and the Ed25519 keys of the owners."""

    keys: dict[str, PublicKeys]
    owners: tuple[bytes, ...]

    @classmethod
    def of(cls, epoch: Epoch) -> "Members":
        return cls({member.name: member.keys for member in epoch.members}, epoch.owners)

    def key(self, person: str) -> bytes | None:
        """The Ed25519 key of a member; None if nobody in the room has this name."""
        return next((keys.signing for name, keys in self.keys.items() if fold(name) == fold(person)), None)

    def name(self, key: bytes) -> str | None:
        """The name of the member with this Ed25519 key."""
        return next((name for name, keys in self.keys.items() if keys.signing == key), None)

    def without(self, people: Sequence[str]) -> "Members":
        """All but these."""
        gone = set(map(fold, people))
        keys = {name: keys for name, keys in self.keys.items() if fold(name) not in gone}
        signing = {one.signing for one in keys.values()}
        return Members(keys, tuple(owner for owner in self.owners if owner in signing))
