"""A chat at the console: commands go in, lines come out. Events are shown by a task of their own.

What is typed is parsed in commands.py, and lines are made by a renderer (wordings.py, json_lines.py).
"""

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager

import attrs
import trio

from trio_chat.client import events
from trio_chat.client.chat import Chat
from trio_chat.client.people import Person
from trio_chat.errors import (
    ChatError,
    NoSuchRoom,
    NotAMember,
    NotRegistered,
    RoomExists,
    RoomFull,
    RoomIsPrivate,
    ServerKeyChanged,
    ServerNotResponding,
    ServerTooNew,
    ServerTooOld,
    SignedInElsewhere,
    TooFast,
)
from trio_chat.protocol.records import EVERYONE_NAME, fold
from trio_chat.terminal import commands, refusals, results, unfinished
from trio_chat.terminal.current_group import CurrentGroup
from trio_chat.terminal.outbox_words import waiting_messages
from trio_chat.terminal.styling import Line

_ENDS_IT = (ServerKeyChanged, ServerTooOld, ServerTooNew, SignedInElsewhere)
"""The errors after which the program is of no use here."""


async def run_conversation(
    opening: AbstractAsyncContextManager[Chat],
    typed: AsyncIterable[str],
    show: Callable[[Line], object],
    renderer: results.Renderer,
    *,
    ready: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint,
    stay: bool = False,
    left: Callable[[], Iterable[str]] = tuple,
) -> None:
    """Open a chat and carry out the typed lines; return after `exit` or the end of the lines, deregistered.

    Args:
        opening: what `open_chat` returned.
        typed: the commands, without line ends.
        show: prints one line.
        renderer: makes the lines.
        ready: waits until more can be shown; before that no event and no command is taken.
        stay: at the end of the typed lines, go on listening until cancelled.
        left: gives the typed lines that nobody has taken. If an error ends this, they are said not to be done.

    Raises:
        ServerNotResponding, ServerKeyChanged, ServerTooOld, ServerTooNew, SignedInElsewhere: at any time; they have not
            been shown.
        ChatError: what `open_chat` raises.
        All of them within exception groups, as they come out of the nursery.
    """

    def tell(result: results.Result) -> None:
        for line in renderer.render(result):
            show(line)

    try:
        # The nursery is outside: the chat closes first, then show_events shows what is left in it, and ends.
        async with trio.open_nursery() as nursery, opening as chat:
            conversation = Conversation(chat, show, renderer, ready)
            tell(results.SignedOn(chat.waiting))
            conversation.tell_waiting()
            nursery.start_soon(conversation.show_events)
            await conversation.take_commands(typed, stay)
    except BaseException:
        unfinished.tell_not_done(tell, left())
        raise


@attrs.define(eq=False)
class Conversation:
    """Carries out commands and shows events.

    `doing`: the command that is being carried out, if any.
    `keeps`: messages go by the outbox, and no command ends the conversation because the server does not respond.
    """

    chat: Chat
    show: Callable[[Line], object]
    renderer: results.Renderer
    ready: Callable[[], Awaitable[object]]
    keeps: bool = False
    doing: commands.Command | None = None
    groups: CurrentGroup = attrs.field(init=False, factory=CurrentGroup)

    def tell(self, result: results.Result) -> None:
        """Show a result."""
        for line in self.renderer.render(result):
            self.show(line)

    def tell_waiting(self) -> None:
        """If messages wait that this program does not send (any more), say so."""
        if waiting := self.waiting():
            self.tell(results.MessagesWait(len(waiting)))

    def waiting(self) -> list[results.WaitingMessage]:
        """The messages that wait to be sent."""
        return waiting_messages(self.chat.outbox.waiting())

    async def show_events(self) -> None:
        """Show events until the chat has ended."""
        async for event in self.chat.events:
            await self.ready()
            ends_it = (*_ENDS_IT, ServerNotResponding) if isinstance(event, events.SignedOff) else _ENDS_IT
            match event:
                case events.SignedOff(error) | events.OutgoingChanged(error=ChatError() as error) if isinstance(
                    error, ends_it
                ):
                    # The conversation ends, whatever take_commands waits for: the nursery cancels it.
                    self._tell_unsent()
                    raise error
                case events.RoomMembersChanged(room, joined=True):
                    self.groups.add(room)
                case events.RemovedFromRoom(room):
                    self.groups.removed(room)
                case events.OutgoingChanged(error=NotAMember(room=room)):
                    self.groups.lose(room)
            match event:
                case events.TableChanged() if self.renderer.lists_changed_table:
                    self._tell_table()
                case events.OutgoingChanged(state=events.MessageState.WAITING, error=ServerNotResponding()) if (
                    self.chat.silent_since is None
                ):
                    pass  # it is being sent, and that is told next
                case events.OutgoingChanged(room=str(room)) if room:
                    self.tell(attrs.evolve(event, room=self._as_known(room)))
                case _:
                    self.tell(event)

    async def learn_rooms(self) -> None:
        """Ask which rooms we are in, so that `send_group` knows it also when the server does not respond later."""
        try:
            await self._rooms_joined()
        except (ServerNotResponding, NotRegistered, TooFast):
            pass  # the command that needs them asks again
        except (ServerKeyChanged, SignedInElsewhere):
            self._tell_unsent()
            raise
        except ChatError as error:
            # We had to register again for this, and were not let in: nobody else says so.
            self.tell(events.SignedOff(error))

    async def take_commands(self, typed: AsyncIterable[str], stay: bool) -> None:
        """Carry out the typed lines, and deregister."""
        async for line in typed:
            await self.ready()
            if await self.do_line(line):
                break
        else:
            if stay:
                await trio.sleep_forever()
        if self.chat.online:
            await self.do_line("dereg")

    async def do_line(self, line: str) -> bool:
        """Carry out a line; return whether it was `exit`. Errors are shown, unless they end the conversation."""
        try:
            command = self.doing = commands.parse(line)
            await self._do(command)
        except (ServerNotResponding, *_ENDS_IT) as error:
            if not self.keeps or not isinstance(error, ServerNotResponding):
                self._tell_unsent()
                raise
            self.tell(results.NoAnswer(line.split()[0]))
            return False
        except ChatError as error:
            # Nobody can leave the room of everyone: who tries that is still in it.
            if isinstance(error, NotAMember) and fold(error.room) != EVERYONE_NAME:
                self.groups.lose(error.room)
            to = unfinished.recipient_of(self.doing, self.groups.name)
            self.tell(results.CommandFailed(self._with_known_room(error), line.split()[0], to))
            return False
        finally:
            self.doing = None
        return isinstance(command, commands.Exit)

    def _tell_unsent(self) -> None:
        """The program ends: say so if a message has had no answer, and how many wait."""
        # What was not put into the outbox is not sent: that is said at the very end.
        if not self.keeps and (to := unfinished.recipient_of(self.doing, self.groups.name)):
            self.tell(results.MessageUnsent(to, in_group=isinstance(self.doing, commands.SendGroup)))
        # An event may end the program at the same moment.
        self.doing = None
        if self.keeps:
            self.tell_waiting()

    async def _do(self, command: commands.Command) -> None:
        match command:
            case commands.Send() | commands.SendAll() | commands.SendGroup():
                await (self._put(command) if self.keeps else self._send(command))
            case commands.ListOutbox():
                self.tell(results.OutboxList(tuple(self.waiting())))
            case commands.CancelMessage(number):
                one = await self.chat.outbox.cancel(number)
                was_tried = one.attempted_at is not None
                self.tell(results.MessageCancelled(number, one.id, one.recipient, one.room, one.at, was_tried))
            case _ if isinstance(command, commands.GroupCommand):
                await self._do_in_group(command)
            case commands.Reg(name) | commands.Dereg(name) if name and fold(name) != fold(self.chat.name):
                raise refusals.OnlyYourself("nobody else can be registered or deregistered")
            case commands.Reg():
                await self._register()
            case commands.Dereg():
                await self.chat.deregister()
                self.tell(results.WentOffline())
            case commands.Who(everybody):
                self._tell_table(await self.chat.everybody() if everybody else ())
            case commands.TrustKey(name):
                self.tell(results.KeyTrusted(name, await self.chat.trust(name)))
            case commands.Block(name):
                self.tell(results.PersonBlocked(name, await self.chat.block(name)))
            case commands.Unblock(name):
                await self.chat.unblock(name)
                self.tell(results.PersonUnblocked(name))
            case commands.ListBlocked():
                self.tell(results.BlockedList(self.chat.blocked))
            case commands.History(name, count):
                self.tell(results.HistoryList(tuple(await self.chat.history(name, count))))
            case commands.Search(words, room):
                self.tell(results.HistoryList(tuple(await self.chat.search(words, name=room))))
            case commands.Help(about):
                self.tell(results.CommandList(commands.help_lines(about)))

    async def _send(self, command: commands.MessageCommand) -> None:
        match command:
            case commands.Send(recipient, text):
                delivery = await self.chat.send(
                    recipient, text, on_fallback=lambda reason: self.tell(results.SentByServer(recipient, reason))
                )
                self.tell(results.MessageSent(recipient, delivery.how, delivery.sent_at))
            case commands.SendAll(text):
                await self.chat.send_all(text)
                self.tell(results.PostAccepted())
            case commands.SendGroup(text, named):
                room = await self._room_of(named)
                await self.chat.post(room, text)
                self.tell(results.PostAccepted(self._as_known(room)))

    async def _put(self, command: commands.MessageCommand) -> None:
        """Accept a message. What becomes of it comes as events."""
        outbox = self.chat.outbox
        match command:
            case commands.Send(recipient, text):
                one = await outbox.put(recipient, text)
            case commands.SendAll(text):
                one = await outbox.put_in_room(EVERYONE_NAME, text)
            case commands.SendGroup(text, named):
                one = await outbox.put_in_room(await self._room_of(named), text)
        self.tell(results.MessageQueued(one.number, one.id, one.recipient, one.room, one.at))

    async def _room_of(self, named: str | None) -> str:
        if named:
            return self._as_known(named)
        if self._is_silent and not self.groups.rooms:
            raise refusals.GroupsUnknown
        try:
            return await self._current_room("join_group NAME first", in_none="join_group NAME")
        except ServerNotResponding:
            if self.keeps:
                raise refusals.GroupsUnknown from None
            raise

    @property
    def _is_silent(self) -> bool:
        """Whether the server is known not to respond, and that does not end the conversation."""
        return self.keeps and self.chat.silent_since is not None

    async def _do_in_group(self, command: commands.GroupCommand) -> None:
        match command:
            case commands.CreateGroup(typed, private):
                self.groups.is_chosen = False  # if this or the next fails, what is sent then is not for the room before
                await self._choose(await self.chat.create_room(typed, private=private))
                self.tell(results.RoomCreated(self.groups.rooms[-1], private))
            case commands.JoinGroup(typed):
                self.groups.is_chosen = False
                await self._choose(await self._join(typed))
                self.tell(results.RoomJoined(self.groups.rooms[-1]))
            case commands.LeaveGroup(named, anyway):
                room = self._as_known(named) if named else await self._current_room("leave_group NAME", in_none="")
                before = self.groups.name
                await self.chat.leave(room, anyway=anyway)
                self.groups.forget(room)
                current = self.groups.name
                self.tell(results.RoomLeft(self._as_known(room), current if current != before else ""))
            case commands.ListGroups():
                rooms = tuple(await self.chat.rooms())
                await self._rooms_joined()
                self.tell(results.RoomsList(rooms, self.groups.name))
            case commands.ListGroupMembers(named):
                instead = "list_members NAME"
                room = self._as_known(named) if named else await self._current_room(instead, in_none=instead)
                members, gone = await self.chat.members(room), await self.chat.gone_members(room)
                self.tell(results.MembersList(self._as_known(room), tuple(members), tuple(gone)))
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

    async def _join(self, typed: str) -> str:
        """Join a room; return its name. To choose one that we are in, nobody needs a server that does not respond."""
        known = self.groups.find(typed)
        if known and self._is_silent:
            return known
        try:
            return await self.chat.join(typed)
        except ServerNotResponding:
            if known and self.keeps:
                return known
            raise

    async def _rooms_joined(self) -> list[str]:
        """The rooms that we are in, the current one last."""
        if not self.groups.rooms:
            self.groups.learn(await self.chat.joined_rooms())
        return self.groups.rooms

    async def _choose(self, room: str) -> None:
        """Make a room the current one. We may have been in it before."""
        await self._rooms_joined()
        self.groups.choose(room)

    async def _current_room(self, instead: str, *, in_none: str) -> str:
        """The current room. If it is not known: what the user should type, also if they are in none."""
        rooms = await self._rooms_joined()
        if not rooms:
            raise refusals.InNoGroup(in_none)
        if current := self.groups.name:
            return current
        raise refusals.WhichGroup(rooms, instead)

    def _as_known(self, typed: str) -> str:
        """The name of a room as it was created, if we have heard of it; else as it was typed."""
        known = (*self.groups.rooms, *self.chat.known_rooms, EVERYONE_NAME)
        return next((room for room in known if fold(room) == fold(typed)), typed)

    def _with_known_room(self, error: ChatError) -> ChatError:
        match error:
            # What they typed may have told us how the room is called.
            case RoomExists() | NoSuchRoom() | NotAMember() | RoomFull() | RoomIsPrivate():
                return type(error)(self._as_known(error.room))
        return error

    async def _register(self) -> None:
        if self.chat.online:
            raise refusals.AlreadyRegistered("already registered")
        self.tell(results.RegistrationSent())
        self.tell(results.CameBack(await self.chat.register()))

    def _tell_table(self, everybody: Sequence[Person] = ()) -> None:
        changed, own = self.chat.untrusted, fold(self.chat.name)
        rows = [
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
            for one in self.chat.table.values()
        ]
        # What has changed while they were asked for is in the table.
        rows += (
            results.TableRow(one.name, "", 0, one.online, one.since, one.fingerprint, one.key_changed)
            for one in everybody
            if one.name not in self.chat.table
        )
        rows.sort(key=lambda row: fold(row.name))
        since = self.chat.silent_since if self.keeps else None
        self.tell(results.TableList(tuple(rows), since, self.chat.online))
