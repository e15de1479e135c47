"""A chat at the console: commands go in, lines come out. Events are shown by a task of their own.

What is typed is parsed in commands.py, and lines are made by a renderer (wordings.py, json_lines.py).
"""

import time
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import attrs
import trio

from trio_chat.client.chat import Chat
from trio_chat.client.events import RemovedFromRoom, RoomMembersChanged, ServerSilent, SignedOff, TableChanged
from trio_chat.errors import (
    ChatError,
    NoSuchRoom,
    NotAMember,
    RoomExists,
    RoomFull,
    RoomIsPrivate,
    ServerKeyChanged,
    ServerNotResponding,
    SignedInElsewhere,
)
from trio_chat.protocol.records import EVERYONE_NAME, fold
from trio_chat.terminal import commands, results
from trio_chat.terminal.styling import Line

SILENT_AFTER = 2.6
"""Seconds without an answer to a registration after which the server counts as silent: just over 5 windows of 0.5."""


async def run_conversation(
    opening: AbstractAsyncContextManager[Chat],
    typed: AsyncIterable[str],
    show: Callable[[Line], object],
    renderer: results.Renderer,
    *,
    ready: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint,
    stay: bool = False,
    reconnect: bool = False,
) -> None:
    """Open a chat and carry out the typed lines; return after `exit` or the end of the lines, deregistered.

    Args:
        opening: what `open_chat` returned.
        typed: the commands, without line ends.
        show: prints one line.
        renderer: makes the lines.
        ready: waits until more can be shown; before that no event and no command is taken.
        stay: at the end of the typed lines, go on listening until cancelled.
        reconnect: `opening` tries again while the server is silent, so report that the server is silent.

    Raises:
        ServerNotResponding, ServerKeyChanged, SignedInElsewhere: at any time; they have not been shown.
        ChatError: what `open_chat` raises.
        All of them within exception groups, as they come out of the nursery.
    """
    # The nursery is outside: the chat closes first, then show_events shows what is left in it, and ends.
    async with trio.open_nursery() as nursery:
        still_opening = trio.CancelScope()
        if reconnect:
            nursery.start_soon(_report_silence, still_opening, show, renderer)
        async with opening as chat:
            still_opening.cancel()
            conversation = _Conversation(chat, show, renderer, ready)
            conversation.tell(results.SignedOn(chat.waiting))
            nursery.start_soon(conversation.show_events)
            await conversation.take_commands(typed, stay)


async def _report_silence(
    still_opening: trio.CancelScope, show: Callable[[Line], object], renderer: results.Renderer
) -> None:
    with still_opening:
        await trio.sleep(SILENT_AFTER)
        for line in renderer.render(ServerSilent(time.time())):
            show(line)


@attrs.define(eq=False)
class _Conversation:
    """`rooms`: those that we are in, the current one last; empty: the server has not been asked.

    `doing`: the command that is being carried out, if any.
    `is_chosen`: whether the user has chosen the current one. None: not yet, in this run. False: their choice failed, or
    they are not in it any more.
    """

    chat: Chat
    show: Callable[[Line], object]
    renderer: results.Renderer
    ready: Callable[[], Awaitable[object]]
    rooms: list[str] = attrs.field(factory=list)
    is_chosen: bool | None = None
    doing: commands.Command | None = None

    def tell(self, result: results.Result) -> None:
        for line in self.renderer.render(result):
            self.show(line)

    async def show_events(self) -> None:
        async for event in self.chat.events:
            await self.ready()
            match event:
                case SignedOff(error=(ServerNotResponding() | ServerKeyChanged() | SignedInElsewhere()) as error):
                    # The conversation ends, whatever take_commands waits for: the nursery cancels it.
                    self._tell_unsent()
                    raise error
                case RoomMembersChanged(room, joined=True) if self.rooms:
                    self._add_room(room)
                case RemovedFromRoom(room):
                    self._lose_room(room)
            match event:
                case TableChanged() if self.renderer.lists_changed_table:
                    self._tell_table()
                case _:
                    self.tell(event)

    async def take_commands(self, typed: AsyncIterable[str], stay: bool) -> None:
        async for line in typed:
            await self.ready()
            if await self._do_line(line):
                break
        else:
            if stay:
                await trio.sleep_forever()
        if self.chat.online:
            await self._do_line("dereg")

    async def _do_line(self, line: str) -> bool:
        """Carry out a line; return whether it was `exit`. Errors are shown, unless they end the conversation."""
        try:
            command = self.doing = commands.parse(line)
            await self._do(command)
        except (ServerNotResponding, ServerKeyChanged, SignedInElsewhere):
            self._tell_unsent()
            raise
        except ChatError as error:
            # Nobody can leave the room of everyone: who tries that is still in it.
            if isinstance(error, NotAMember) and fold(error.room) != EVERYONE_NAME:
                self._lose_room(error.room)
            self.tell(results.Failed(self._with_known_room(error)))
            return False
        finally:
            self.doing = None
        return isinstance(command, commands.Exit)

    def _tell_unsent(self) -> None:
        """The program ends: say so if a message has had no answer."""
        match self.doing:
            case commands.Send(recipient):
                self.tell(results.MessageUnsent(recipient))
            case commands.SendAll():
                self.tell(results.MessageUnsent("everyone"))
            case commands.SendGroup(room=named):
                room = named or self._chosen()
                self.tell(results.MessageUnsent(f"group {room}" if room else "your group", in_group=True))
        # An event may end the program at the same moment.
        self.doing = None

    async def _do(self, command: commands.Command) -> None:
        match command:
            case commands.Send(recipient, text):
                delivery = await self.chat.send(
                    recipient, text, on_fallback=lambda reason: self.tell(results.SentByServer(recipient, reason))
                )
                self.tell(results.MessageSent(recipient, delivery.how, delivery.sent_at))
            case commands.SendAll(text):
                await self.chat.send_all(text)
                self.tell(results.PostAccepted())
            case _ if isinstance(command, commands.GroupCommand):
                await self._do_in_group(command)
            case commands.Reg(name) | commands.Dereg(name) if name and fold(name) != fold(self.chat.name):
                raise commands.OnlyYourself("nobody else can be registered or deregistered")
            case commands.Reg():
                await self._register()
            case commands.Dereg():
                await self.chat.deregister()
                self.tell(results.WentOffline())
            case commands.Who():
                self._tell_table()
            case commands.TrustKey(name):
                self.tell(results.KeyTrusted(name, self.chat.trust(name)))
            case commands.Block(name):
                self.tell(results.PersonBlocked(name, await self.chat.block(name)))
            case commands.Unblock(name):
                await self.chat.unblock(name)
                self.tell(results.PersonUnblocked(name))
            case commands.ListBlocked():
                self.tell(results.BlockedList(self.chat.blocked))
            case commands.History(name, count):
                self.tell(results.HistoryList(tuple(await self.chat.history(name, count))))
            case commands.Search(words):
                self.tell(results.HistoryList(tuple(await self.chat.search(words))))
            case commands.Help():
                self.tell(results.CommandList(commands.help_lines()))
            case commands.Empty() | commands.Exit():
                pass

    async def _do_in_group(self, command: commands.GroupCommand) -> None:
        match command:
            case commands.CreateGroup(typed, private):
                await self._choose(await self.chat.create_room(typed, private=private))
                self.tell(results.RoomCreated(self.rooms[-1], private))
            case commands.JoinGroup(typed):
                # If it fails, what a script sends next must not go to the room before.
                self.is_chosen = False
                await self._choose(await self.chat.join(typed))
                self.tell(results.RoomJoined(self.rooms[-1]))
            case commands.LeaveGroup(named, anyway):
                room = self._as_known(named) if named else await self._current_room("leave_group NAME", in_none="")
                await self.chat.leave(room, anyway=anyway)
                self._forget_room(room)
                self.tell(results.RoomLeft(self._as_known(room)))
            case commands.SendGroup(text, str(named)):
                await self.chat.post(self._as_known(named), text)
                self.tell(results.PostAccepted(self._as_known(named)))
            case commands.SendGroup(text):
                room = await self._current_room("join_group NAME first", in_none="join_group NAME")
                await self.chat.post(room, text)
                self.tell(results.PostAccepted(room))
            case commands.ListGroups():
                rooms = tuple(await self.chat.rooms())
                await self._rooms_joined()
                self.tell(results.RoomsList(rooms, self._chosen()))
            case commands.ListGroupMembers(named):
                instead = "list_members NAME"
                room = self._as_known(named) if named else await self._current_room(instead, in_none=instead)
                members = tuple(await self.chat.members(room))
                self.tell(results.MembersList(self._as_known(room), members))
            case commands.Invite() | commands.Remove() | commands.Owners():
                room = await self._current_room("join_group NAME first", in_none="join_group NAME")
                await self._do_in_private_group(command, room)

    async def _do_in_private_group(self, command: commands.PrivateGroupCommand, room: str) -> None:
        match command:
            case commands.Invite(name):
                self.tell(results.MemberInvited(room, await self.chat.invite(room, name)))
            case commands.Remove(name):
                await self.chat.remove(room, name)
                self.tell(results.MemberRemoved(room, name))
            case commands.Owners(None):
                self.tell(results.OwnersList(room, tuple(await self.chat.owners(room))))
            case commands.Owners(str(name)):
                await self.chat.add_owner(room, name)
                self.tell(results.OwnerAdded(room, name))

    async def _rooms_joined(self) -> list[str]:
        """The rooms that we are in, the current one last."""
        if not self.rooms:
            self.rooms[:] = await self.chat.joined_rooms()
        return self.rooms

    async def _choose(self, room: str) -> None:
        """Make a room the current one. We may have been in it before."""
        self.rooms[:] = [*(one for one in await self._rooms_joined() if fold(one) != fold(room)), room]
        self.is_chosen = True

    async def _current_room(self, instead: str, *, in_none: str) -> str:
        """The current room. If it is not known: what the user should type, also if they are in none."""
        rooms = await self._rooms_joined()
        if not rooms:
            raise commands.InNoGroup(in_none)
        if current := self._chosen():
            return current
        raise commands.WhichGroup(rooms, instead)

    def _chosen(self) -> str:
        """The current one of `rooms`; empty if it is not known."""
        # The server knows the rooms, and not which one they had chosen before the program was started again.
        is_known = self.is_chosen or (self.is_chosen is None and len(self.rooms) == 1)
        return self.rooms[-1] if self.rooms and is_known else ""

    def _as_known(self, typed: str) -> str:
        """The name of a room as it was created, if we have heard of it; else as it was typed."""
        known = (*self.rooms, *self.chat.known_rooms, EVERYONE_NAME)
        return next((room for room in known if fold(room) == fold(typed)), typed)

    def _with_known_room(self, error: ChatError) -> ChatError:
        match error:
            # What they typed may have told us how the room is called.
            case RoomExists() | NoSuchRoom() | NotAMember() | RoomFull() | RoomIsPrivate():
                return type(error)(self._as_known(error.room))
        return error

    def _add_room(self, name: str) -> None:
        """Somebody has put us into a room."""
        # Not the current one: what is typed at this moment is for another room. That stays the current one, also if it
        # was so because it was the only one.
        self.is_chosen = True if self._chosen() else self.is_chosen
        if not any(fold(room) == fold(name) for room in self.rooms):
            self.rooms.insert(0, name)

    def _lose_room(self, name: str) -> None:
        """We are not in a room any more, and have not left it here."""
        if any(fold(room) == fold(name) for room in self.rooms):
            # What is typed next was meant for it, and not for another room. Nor, if they have chosen none, for the one
            # that is left.
            self.is_chosen = bool(self.is_chosen) and fold(name) != fold(self.rooms[-1])
        self._forget_room(name)

    def _forget_room(self, name: str) -> None:
        self.rooms[:] = [room for room in self.rooms if fold(room) != fold(name)]

    async def _register(self) -> None:
        if self.chat.online:
            raise commands.AlreadyRegistered("already registered")
        self.tell(results.RegistrationSent())
        self.tell(results.CameBack(await self.chat.register()))

    def _tell_table(self) -> None:
        records = sorted(self.chat.table.values(), key=lambda record: fold(record.name))
        changed, own = self.chat.untrusted, fold(self.chat.name)
        rows = (
            results.TableRow(
                one.name,
                one.host,
                one.port,
                # After dereg no table comes any more: in the last one we are still online.
                one.online and (self.chat.online or fold(one.name) != own),
                one.since,
                one.fingerprint,
                fold(one.name) in changed,
            )
            for one in records
        )
        self.tell(results.TableList(tuple(rows)))
