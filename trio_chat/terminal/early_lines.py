"""What is typed while the chat is not open yet, because the server is away: messages are kept until it is.

What the store knows is shown at once. Other commands wait for the chat; see line_reader.py.
"""

from collections.abc import Callable
from contextlib import suppress

import attrs

from trio_chat.client.block_list import blocked_in
from trio_chat.client.early_outbox import EarlyOutbox
from trio_chat.client.events import MessageState, OutgoingChanged
from trio_chat.errors import ChatError, ServerNotResponding, StoreFailed
from trio_chat.protocol.records import EVERYONE_NAME, fold
from trio_chat.terminal import commands, refusals, results
from trio_chat.terminal.outbox_words import waiting_messages
from trio_chat.terminal.unfinished import tell_not_done


@attrs.frozen(eq=False)
class EarlyLines:
    """Carries out what needs no server.

    `is_terminal`: a person is told at once that nobody knows which group `send_group` means, or who is online, and
    which commands wait. In a pipe these wait, and what comes after a `send_group` for any group waits behind it.
    """

    _outbox: EarlyOutbox
    _tell: Callable[[results.Result], None]
    _is_terminal: bool
    # The groups, by their names in lower case, for which a command waits; empty: the current one.
    _waiting_for: set[str] = attrs.field(init=False, factory=set)

    async def carry_out(self, line: str) -> bool:
        """Carry out a command for which no server is needed; return whether it is one."""
        try:
            match command := commands.parse(line):
                case commands.SendGroup(room=None) if self._is_terminal:
                    raise refusals.GroupsUnknown
                case commands.Who() if self._is_terminal:
                    raise refusals.NoTable
                case _ if self._has_to_wait(command):
                    return False
                case commands.Send() | commands.SendAll() | commands.SendGroup(room=str()):
                    await self._put(command)
                case commands.ListOutbox():
                    self._tell(results.OutboxList(tuple(waiting_messages(self._outbox.waiting()))))
                case commands.CancelMessage(number):
                    one = await self._outbox.cancel(number)
                    was_tried = one.attempted_at is not None
                    self._tell(results.MessageCancelled(number, one.id, one.recipient, one.room, one.at, was_tried))
                case _:
                    return await self._show(command)
        except StoreFailed:
            raise
        except ChatError as error:
            self._tell(results.Failed(error))
        return True

    async def keep_messages(self, lines: list[str], *, is_begun: bool, group: str = "") -> None:
        """At the end, take the lines out of this list: keep the messages, and say of other commands: not done.

        A message to a group that they have not joined before the end fails later, and that is told then.

        Args:
            lines: what was typed, and not carried out.
            is_begun: the first one is being carried out. If it is a message, it may be kept already.
            group: the current group; empty if it is not known.
        """
        while lines:
            is_kept = False
            with suppress(ChatError):
                match command := commands.parse(lines[0]):
                    case commands.CreateGroup(room) | commands.JoinGroup(room):
                        group = room
                    case commands.LeaveGroup():
                        group = ""
                    case commands.Send() | commands.SendAll() | commands.SendGroup() if not is_begun:
                        is_kept = await self._put(command, group)
            if not is_kept:
                tell_not_done(self._tell, lines[:1])
            del lines[0]
            is_begun = False

    async def _put(self, command: commands.MessageCommand, group: str = "") -> bool:
        """Keep a message; False if it is to the current group, and nobody knows which that is."""
        match command:
            case commands.Send(recipient, text):
                one = await self._outbox.put(recipient, "", text)
            case commands.SendAll(text):
                one = await self._outbox.put("", EVERYONE_NAME, text)
            case commands.SendGroup(text, named):
                if not (room := named or group):
                    return False
                one = await self._outbox.put("", room, text)
        about = (one.number, one.id, one.recipient, one.room, one.at)
        self._tell(results.MessageQueued(*about))
        self._tell(OutgoingChanged(*about, MessageState.WAITING, error=ServerNotResponding()))
        return True

    async def _show(self, command: commands.Command) -> bool:
        store = self._outbox.store
        match command:
            case commands.ListBlocked():
                self._tell(results.BlockedList(blocked_in(store)))
            case commands.History(name, count):
                self._tell(results.HistoryList(tuple(await store.history(name, count))))
            case commands.Search(words, room):
                found = await store.search(words, commands.DEFAULT_COUNT, room)
                self._tell(results.HistoryList(tuple(found)))
            case commands.Help(about):
                self._tell(results.CommandList(commands.help_lines(about)))
            case _:
                return False
        return True

    def _has_to_wait(self, command: commands.Command) -> bool:
        """Whether a command waits for the chat. Messages wait if they would be sent before what was typed earlier."""
        match command:
            case commands.SendGroup(room=None):
                self._waiting_for.add("")
            case commands.CreateGroup(room) | commands.JoinGroup(room) | commands.LeaveGroup(str(room)):
                # A message to it that is sent before they are in it would fail.
                self._waiting_for.add(fold(room))
            case commands.SendGroup(room=str(room)):
                return not self._waiting_for.isdisjoint(("", fold(room)))
            case commands.SendAll():
                return "" in self._waiting_for  # the current group may be that of everyone
            case _:
                return False
        return True

    def tell_waits(self, line: str) -> None:
        """Say at a terminal that a command waits."""
        if self._is_terminal and line.split():
            self._tell(results.Failed(refusals.WaitsForServer(line.split()[0])))

    def tell_waiting(self) -> None:
        """If messages wait, say how many."""
        if waiting := waiting_messages(self._outbox.waiting()):
            self._tell(results.MessagesWait(len(waiting)))
