"""Whom the operator lets in: bans, who may register a new name, and names that were freed for one key only (pure).

What the operator asks for is in operations.py; what a registration needs besides is in service.py.
"""

import base64
import enum
import hashlib
import re
from collections.abc import Iterable
from ipaddress import IPv6Network, ip_address, ip_network

from trio_chat.errors import ChatError
from trio_chat.link.session import Peer
from trio_chat.protocol.limits import IPV6_NETWORK_BITS
from trio_chat.protocol.messages import Register, Request
from trio_chat.protocol.records import NAME, Address, Reason, fingerprint, fold
from trio_chat.storage.interface import KnownName
from trio_chat.storage.rules import Ban, BanKind, Invitation

CODE_BYTES = 15
"""Random bytes of an invitation: 120 bits, which nobody can guess. They are six groups of four characters."""

_FINGERPRINT = re.compile("[a-z2-7]{4}(-[a-z2-7]{4}){3}")
_LIKE_AN_ADDRESS = re.compile(r"[0-9]+(\.[0-9]+)+")


class NotBannable(ChatError):
    """What an operator has typed for a ban is none of the things that can be banned, or is not clearly one of them."""


class RegistrationMode(enum.StrEnum):
    """Who may register a new name. Those who own a name can always come back."""

    OPEN = "open"
    INVITATION = "invitation"
    CLOSED = "closed"


def show_code(data: bytes) -> str:
    """These bytes as the code of an invitation."""
    text = base64.b32encode(data).decode("ascii").lower()
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4))


def hash_code(code: str) -> bytes:
    """What the server keeps of a code: somebody who reads its store cannot use it. Case and dashes do not matter."""
    return hashlib.sha256(code.strip().replace("-", "").lower().encode()).digest()


def read_network(text: str) -> str | None:
    """An address or a network in CIDR form, as bans of addresses are kept. None if this is neither.

    Of an IPv6 address it is the /64 network: its owner has all the other addresses in it as well.

    Raises NotBannable for an address with the length of a network that does not begin there.
    """
    text = text.partition("%")[0]
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return None
    address, _, length = text.partition("/")
    # 10.0.0.0/4 is most likely a mistyped 10.0.0.0/24, and would ban a sixteenth of all addresses.
    if length and ip_address(address) != network.network_address:
        raise NotBannable(
            f"{text} is an address in a network: type {network} for the network, {address} for the address"
        )
    if isinstance(network, IPv6Network):
        mapped = network.network_address.ipv4_mapped
        if mapped is not None and network.prefixlen >= 96:  # the first 96 bits say that it is IPv4
            return str(ip_network(f"{mapped}/{network.prefixlen - 96}", strict=False))
        if network.prefixlen > IPV6_NETWORK_BITS:
            network = network.supernet(new_prefix=IPV6_NETWORK_BITS)
    return str(network)


def read_ban(text: str, *, is_name: bool) -> Ban:
    """What an operator means by an address, a fingerprint or a name. Raises NotBannable.

    `is_name`: it is a name, even if it looks like one of the others. Names such as 10.0.0.1 are allowed.
    """
    if not is_name:
        if network := read_network(text):
            return Ban(BanKind.ADDRESS, network)
        if _FINGERPRINT.fullmatch(text.lower()):
            return Ban(BanKind.KEY, text.lower())
        if _LIKE_AN_ADDRESS.fullmatch(text):
            raise NotBannable(f"{text} is not a valid address; if it is a name, add --name")
    if not re.match(NAME, text):
        raise NotBannable(f"neither a name nor a fingerprint nor an address: {text!r}")
    return Ban(BanKind.NAME, fold(text), fold(text))


class Moderation:
    """The rules of one server, as its store has them."""

    def __init__(self, mode: RegistrationMode = RegistrationMode.OPEN) -> None:
        self.mode = mode
        self.bans: dict[tuple[BanKind, str], Ban] = {}
        self.invitations: dict[bytes, Invitation] = {}
        self._reserved: dict[str, str] = {}
        self._being_told: dict[Peer, bytes] = {}
        # The beginnings of banned addresses, by version and length in bits: there are few lengths and many networks.
        self._networks: dict[tuple[int, int], set[int]] = {}

    def load(self, names: Iterable[KnownName], bans: Iterable[Ban], invitations: Iterable[Invitation]) -> None:
        """Begin with what a store kept."""
        for name in names:
            self.reserve(name.record.name, name.reserved)
        self.ban(bans)
        self.invitations = {one.hash: one for one in invitations}

    # --- bans ---

    def ban(self, bans: Iterable[Ban]) -> None:
        """Add bans."""
        for one in bans:
            self.bans[one.kind, one.value] = one
        self._index()

    def unban(self, bans: Iterable[Ban]) -> None:
        """Remove bans."""
        for one in bans:
            self.bans.pop((one.kind, one.value), None)
        self._index()

    def bans_like(self, ban: Ban) -> list[Ban]:
        """This ban, if there is one, and those that came with it: the key that was banned together with a name."""
        return [
            one
            for one in self.bans.values()
            if (one.kind, one.value) == (ban.kind, ban.value) or (ban.kind is BanKind.NAME and one.name == ban.value)
        ]

    def _index(self) -> None:
        self._networks.clear()
        for kind, value in self.bans:
            if kind is BanKind.ADDRESS:
                network = ip_network(value)
                start = int(network.network_address) >> network.max_prefixlen - network.prefixlen
                self._networks.setdefault((network.version, network.prefixlen), set()).add(start)

    def is_banned(self, name: str, key: bytes, address: Address) -> bool:
        """Whether a name, an Ed25519 key or an address is banned."""
        if not self.bans:
            return False
        return (
            (BanKind.NAME, fold(name)) in self.bans
            or (BanKind.KEY, fingerprint(key)) in self.bans
            or self.is_banned_address(address)
        )

    def is_banned_address(self, address: Address) -> bool:
        """Whether an address is banned, or a network that it is in."""
        if not self._networks:
            return False
        host = ip_address(address[0].partition("%")[0])
        return any(
            version == host.version and int(host) >> host.max_prefixlen - length in starts
            for (version, length), starts in self._networks.items()
        )

    # --- whose session was ended ---

    def begin_to_tell(self, peer: Peer, program: bytes) -> None:
        """The session of this program was ended, and it is being told so, until `told` is called."""
        self._being_told[peer] = program

    def told(self, peer: Peer) -> None:
        """It knows that its session was ended, or has not answered."""
        self._being_told.pop(peer, None)

    def is_being_told(self, peer: Peer, request: Request) -> bool:
        """Whether this request must not be answered: its program is being told that its session was ended."""
        # A program that is refused as not registered registers again by itself. So somebody who was kicked just
        # before a heartbeat of theirs arrived would be back before they are told.
        program = self._being_told.get(peer)
        return program is not None and not (isinstance(request, Register) and request.program != program)

    # --- new names ---

    def reserve(self, name: str, only_for: str) -> None:
        """A name was freed: only the key with this fingerprint may take it; any may if it is empty."""
        self._reserved.pop(fold(name), None)
        if only_for:
            self._reserved[fold(name)] = only_for

    def invite(self, invitation: Invitation, at: float) -> None:
        """Add an invitation; drop those that are too old."""
        self.invitations = {key: one for key, one in self.invitations.items() if one.until >= at}
        self.invitations[invitation.hash] = invitation

    def refusal(self, request: Register, address: Address, at: float, *, is_owner: bool) -> Reason | None:
        """Why this registration is refused; None if nothing here is against it. `is_owner`: of that name."""
        key = request.credentials.keys.signing
        if self.is_banned(request.name, key, address):
            return Reason.BANNED
        if is_owner:
            return None
        if only_for := self._reserved.get(fold(request.name)):
            # Otherwise it would go to the program that asks most often. The key that the operator has named needs no
            # invitation.
            return None if fingerprint(key) == only_for else Reason.TAKEN
        match self.mode:
            case RegistrationMode.CLOSED:
                return Reason.CLOSED
            case RegistrationMode.INVITATION if not self._is_invited(request, at):
                return Reason.NOT_INVITED
        return None

    def _is_invited(self, request: Register, at: float) -> bool:
        invitation = self.invitations.get(hash_code(request.invitation))
        return invitation is not None and invitation.until >= at and invitation.name in ("", fold(request.name))

    def admit(self, request: Register, *, is_owner: bool) -> bytes:
        """A registration has been accepted. Returns the hash of the invitation that it has used up, if any."""
        only_for = self._reserved.pop(fold(request.name), "")
        if is_owner or only_for or self.mode is not RegistrationMode.INVITATION:
            return b""
        # In the same step as the decision: two who show one code at once are two registrations, one after the other.
        return self.invitations.pop(hash_code(request.invitation)).hash
