"""What the operator of a running server can ask for, and how it is done: the commands of the control socket.

How commands arrive is in control.py; the rules that they change are in moderation.py.
"""

import secrets
import time
from collections.abc import Callable
from typing import Annotated

import attrs
import msgspec
import trio

from trio_chat.errors import ChatError, UnknownRecipient
from trio_chat.protocol.messages import SessionEnded
from trio_chat.protocol.records import NAME_RETENTION, EndReason, Name, fold
from trio_chat.server.delivery import Deliveries
from trio_chat.server.moderation import CODE_BYTES, hash_code, read_ban, show_code
from trio_chat.server.service import Service
from trio_chat.server.sessions import Session
from trio_chat.storage.interface import ServerStore
from trio_chat.storage.rules import Ban, BanKind, Invitation
from trio_chat.transport.endpoint import Endpoint
from trio_chat.transport.ids import new_id
from trio_chat.transport.windows import SERVER_ATTEMPTS

_DAY = 24 * 3600.0

Reply = dict[str, object]


class NotOnline(ChatError):
    """The name has no session that could be ended."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not online")


class NotBanned(ChatError):
    """There is no such ban to lift."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not banned")


# --- the commands: a JSON object each, whose member `command` is the tag ---


class _Command(msgspec.Struct, tag_field="command", forbid_unknown_fields=True):
    """An unknown member is refused: one that was mistyped might have limited what the command does."""


class KickCommand(_Command, tag="kick"):
    """End the session of a name. Its owner can register again."""

    name: Name


class BanCommand(_Command, tag="ban"):
    """Ban a name together with the key that owns it, a key (fingerprint), or an address or network.

    `is_name`: it is a name, even if it looks like one of the others.
    """

    what: Annotated[str, msgspec.Meta(max_length=64)]
    is_name: bool = False


class UnbanCommand(_Command, tag="unban"):
    """Lift a ban, and those that came with it."""

    what: Annotated[str, msgspec.Meta(max_length=64)]
    is_name: bool = False


class BansCommand(_Command, tag="bans"):
    """List the bans."""


class DeleteCommand(_Command, tag="delete"):
    """Remove a name. What waits for it fails to its senders, and clients drop its row."""

    name: Name


class ForgetCommand(_Command, tag="forget"):
    """Free a name for the next key that registers it, or only for the key with a fingerprint."""

    name: Name
    only_for: Annotated[str, msgspec.Meta(pattern=r"\A([a-z2-7]{4}(-[a-z2-7]{4}){3})?\Z")] = msgspec.field(
        default="", name="for"
    )


class InviteCommand(_Command, tag="invite"):
    """Make an invitation, for any new name or for this one."""

    name: Name | None = None
    days: Annotated[float, msgspec.Meta(gt=0, le=3650)] = 7.0


class WhoCommand(_Command, tag="who"):
    """List the names."""


class StatsCommand(_Command, tag="stats"):
    """Numbers: who is there, what waits, what was refused."""


OperatorCommand = (
    KickCommand
    | BanCommand
    | UnbanCommand
    | BansCommand
    | DeleteCommand
    | ForgetCommand
    | InviteCommand
    | WhoCommand
    | StatsCommand
)


@attrs.frozen(eq=False)
class Operations:
    """The commands, and the deletion of names that nobody uses.

    `numbers`: what `stats` shows of the server's queues.
    """

    _service: Service
    _store: ServerStore
    _endpoint: Endpoint
    _deliveries: Deliveries
    _clock: Callable[[], float]
    _numbers: Callable[[], Reply]
    _began: float = attrs.field(factory=time.monotonic)

    async def reply(self, nursery: trio.Nursery, command: OperatorCommand) -> Reply:
        """Carry out a command. The nursery is for the tasks that tell clients. Raises ChatError: it is refused."""
        match command:
            case KickCommand(name):
                return self._kick(nursery, name)
            case BanCommand(what, is_name):
                return await self._ban(nursery, what, is_name)
            case UnbanCommand(what, is_name):
                return await self._unban(what, is_name)
            case BansCommand():
                return {"bans": self._bans()}
            case DeleteCommand(name):
                return await self._delete_known(nursery, name)
            case ForgetCommand(name, only_for):
                return await self._forget(nursery, name, only_for)
            case InviteCommand(name, days):
                return await self._invite(name, days)
            case WhoCommand():
                return {"names": self._who()}
            case StatsCommand():
                return self._stats()

    # --- sessions ---

    def _end(self, nursery: trio.Nursery, session: Session, reason: EndReason) -> None:
        self._service.end_session(session, self._clock())
        # Nothing waits for its answers any more: what it takes now would be lost if it did not know that it has ended.
        self._endpoint.abandon(session.peer)
        nursery.start_soon(self._tell, session, reason)

    async def _tell(self, session: Session, reason: EndReason) -> None:
        request = SessionEnded(new_id(), session.since, reason)
        await self._endpoint.request(session.peer, request, attempts=SERVER_ATTEMPTS)
        self._service.moderation.told(session.peer)

    def _kick(self, nursery: trio.Nursery, name: str) -> Reply:
        session = self._service.session(name)
        if session is None:
            raise NotOnline(name) if name in self._service.table else UnknownRecipient(name)
        self._end(nursery, session, EndReason.KICKED)
        return {"kicked": session.name}

    # --- bans ---

    async def _ban(self, nursery: trio.Nursery, what: str, is_name: bool) -> Reply:
        ban = read_ban(what, is_name=is_name)
        bans = [ban]
        # The person is meant: with the name alone they would be back under another one in a moment.
        if ban.kind is BanKind.NAME and (key := self._fingerprint(ban.value)):
            bans.append(Ban(BanKind.KEY, key, ban.value))
        moderation = self._service.moderation
        moderation.ban(bans)
        banned = [one for one in self._service.online() if moderation.is_banned(one.name, one.key, one.peer.address)]
        for session in banned:
            self._end(nursery, session, EndReason.BANNED)
        await self._store.ban(bans)
        return {
            "banned": [self._ban_fields(one) for one in bans],
            "ended": [one.name for one in banned],
            "known": ban.kind is not BanKind.NAME or ban.value in self._service.table,
        }

    async def _unban(self, what: str, is_name: bool) -> Reply:
        bans = self._service.moderation.bans_like(read_ban(what, is_name=is_name))
        if not bans:
            raise NotBanned(what)
        self._service.moderation.unban(bans)
        await self._store.unban(bans)
        return {"unbanned": [self._ban_fields(one) for one in bans]}

    def _bans(self) -> list[Reply]:
        return [self._ban_fields(one) for one in self._service.moderation.bans.values()]

    def _ban_fields(self, ban: Ban) -> Reply:
        name = self._spelt(ban.name)
        return {"kind": ban.kind, "value": name if ban.kind is BanKind.NAME else ban.value, "name": name}

    # --- names ---

    def _spelt(self, name: str) -> str:
        """The name as its owner has registered it."""
        record = self._service.table.get(name)
        return record.name if record else name

    def _fingerprint(self, name: str) -> str:
        record = self._service.table.get(name)
        return record.fingerprint if record else ""

    async def _forget(self, nursery: trio.Nursery, name: str, only_for: str) -> Reply:
        if name not in self._service.table:
            raise UnknownRecipient(name)
        if session := self._service.session(name):
            self._end(nursery, session, EndReason.DELETED)
        self._service.free(name, only_for)
        await self._store.forget(name, only_for)
        return {"freed": self._service.table[name].name if name in self._service.table else name, "for": only_for}

    async def _delete_known(self, nursery: trio.Nursery, name: str) -> Reply:
        if not await self.delete(nursery, name):
            raise UnknownRecipient(name)
        return {"deleted": name}

    async def delete(self, nursery: trio.Nursery, name: str, *, unless_online: bool = False) -> bool:
        """Delete a name. False if there is none, or if it is online and should not be deleted then."""
        # What its owner has taken is not unread. And no checkpoint after this: a registration would be in between.
        await self._deliveries.write(nursery)
        session = self._service.session(name)
        if name not in self._service.table or (session and unless_online):
            return False
        if session:
            self._end(nursery, session, EndReason.DELETED)
        self._service.delete(name)
        await self._store.delete(name, self._clock())
        return True

    async def delete_unused(self, nursery: trio.Nursery, now: float) -> None:
        """Delete the names that nobody has used for NAME_RETENTION and for which nothing waits.

        To be called about once a day: who was online between two calls counts as online at the second one.
        """
        online = [session.name for session in self._service.online()]
        for name in await self._store.unused(online, now - NAME_RETENTION, now):
            await self.delete(nursery, name, unless_online=True)

    # --- invitations ---

    async def _invite(self, name: str | None, days: float) -> Reply:
        code, now = show_code(secrets.token_bytes(CODE_BYTES)), self._clock()
        invitation = Invitation(hash_code(code), now + days * _DAY, fold(name or ""))
        self._service.moderation.invite(invitation, now)
        # Before it is answered: what has been given to somebody must not be gone after a crash.
        await self._store.invite(invitation, now)
        mode = self._service.moderation.mode
        return {"code": code, "name": name or "", "until": invitation.until, "registration": mode}

    # --- lists ---

    def _who(self) -> list[Reply]:
        return [
            {
                "name": one.name,
                "host": one.host,
                "port": one.port,
                "fingerprint": one.fingerprint,
                "since": one.since,
                "online": one.online,
            }
            for one in sorted(self._service.table.values(), key=lambda record: fold(record.name))
        ]

    def _stats(self) -> Reply:
        moderation = self._service.moderation
        return {
            "seconds": round(time.monotonic() - self._began),
            "names": len(self._service.table),
            "online": len(self._service.online()),
            "registration": moderation.mode,
            "invitations": len(moderation.invitations),
            "bans": self._bans(),
            **self._numbers(),
        }
