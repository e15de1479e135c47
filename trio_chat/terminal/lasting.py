"""A conversation that goes on while the server is away: its messages wait in the outbox, and nothing waits for them.

How commands are carried out is in conversation.py, as for the other clients.
"""

import time
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import trio

from trio_chat.client.chat import Chat
from trio_chat.client.early_outbox import EarlyOutbox
from trio_chat.client.events import ServerSilent
from trio_chat.errors import NotRegistered, ServerNotResponding
from trio_chat.terminal import results
from trio_chat.terminal.conversation import Conversation
from trio_chat.terminal.early_lines import EarlyLines
from trio_chat.terminal.line_reader import LineReader
from trio_chat.terminal.styling import Line
from trio_chat.terminal.unfinished import NotTold, tell_not_done

SILENT_AFTER = 2.6
"""Seconds without an answer to a registration after which the server counts as silent: just over 5 windows of 0.5."""

CHECK_EVERY = 0.5
"""Seconds after which it is looked whether messages have left the outbox, at the end."""

Tell = Callable[[results.Result], None]


async def run_lasting_conversation(
    opening: AbstractAsyncContextManager[Chat],
    typed: AsyncIterable[str],
    show: Callable[[Line], object],
    renderer: results.Renderer,
    early_outbox: EarlyOutbox,
    *,
    ready: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint,
    stay: bool = False,
    is_terminal: bool = False,
    told_to_end: trio.Event | None = None,
) -> None:
    """Carry out the typed lines, as `run_conversation` does, in a chat that is opened with `reconnect`.

    After `exit` or the end of the lines it returns within 3 seconds, deregistered if the server responds; at the end of
    a pipe, when no message has left the outbox for 3 seconds. Says how many messages wait then. Messages that were
    typed are kept, also those behind a command that waits for the server.

    Args:
        opening, typed, show, renderer, ready, stay: as for `run_conversation`.
        early_outbox: keeps what is typed before the chat is open, while the server is silent. It has the chat's store.
        is_terminal: a person types: `exit`, and the end of the lines, end this also while the chat is not open yet.
        told_to_end: when it is set, this ends as after `exit`, within a second.

    Raises as `run_conversation` does, but for ServerNotResponding.
    """

    def tell(result: results.Result) -> None:
        for line in renderer.render(result):
            show(line)

    early = EarlyLines(early_outbox, tell, is_terminal)
    reader = LineReader(typed, is_terminal, stay, lambda line: tell_not_done(tell, [line]), early)
    conversation: Conversation | None = None
    try:
        async with trio.open_nursery() as nursery:
            taking, still_opening = trio.CancelScope(), trio.CancelScope()
            nursery.start_soon(_take_lines, taking, still_opening, tell, reader, told_to_end)
            with reader.staying:
                async with opening as chat:
                    still_opening.cancel()
                    reader.opened()
                    nursery.start_soon(_take_over, reader, chat)
                    conversation = Conversation(chat, show, renderer, ready, keeps=True)
                    tell(results.SignedOn(chat.waiting))
                    nursery.start_soon(conversation.show_events)
                    await _carry_out(conversation, reader, early)
            await _keep_messages(reader, early, conversation)
            taking.cancel()
    finally:
        tell_not_done(tell, [*reader.unanswered, *reader.left()])  # also if it could not be opened, or the disk fails
    if conversation is not None and conversation.chat.online:
        tell(results.Failed(NotTold()))
    # Only now everything is shown that has become of messages.
    early.tell_waiting()


async def _take_lines(
    scope: trio.CancelScope,
    still_opening: trio.CancelScope,
    tell: Tell,
    reader: LineReader,
    told_to_end: trio.Event | None,
) -> None:
    """Read what is typed, and find out when to leave, until this scope is cancelled."""
    with scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_report_silence, still_opening, tell, reader)
            nursery.start_soon(reader.run)
            if told_to_end is not None:
                await told_to_end.wait()
                reader.leave_at_once()


async def _report_silence(still_opening: trio.CancelScope, tell: Tell, reader: LineReader) -> None:
    with still_opening:
        await trio.sleep(SILENT_AFTER)
    if not still_opening.cancelled_caught:
        tell(ServerSilent(time.time()))
        await reader.server_is_silent()


async def _take_over(reader: LineReader, chat: Chat) -> None:
    await reader.all_taken()
    # The last message that was typed before may be on the disk only now.
    chat.outbox.resume(again=True)


async def _carry_out(conversation: Conversation, reader: LineReader, early: EarlyLines) -> None:
    """Carry out the lines; wait until all messages are sent or have to wait, for as long as there is time; leave."""
    # The nursery is inside the chat: nothing may ask the server when that is closed.
    with reader.working:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(conversation.learn_rooms)
            async for line in reader.lines:
                reader.unanswered[:] = [line]
                await conversation.ready()
                await conversation.do_line(line)
                reader.unanswered.clear()
            if reader.stay:
                await trio.sleep_forever()
            nursery.start_soon(_note_progress, conversation.chat, reader)
            await conversation.chat.outbox.settled()
            nursery.cancel_scope.cancel()
    await _keep_messages(reader, early, conversation)
    await _deregister(conversation)


async def _keep_messages(reader: LineReader, early: EarlyLines, conversation: Conversation | None) -> None:
    """Messages that were typed behind a command that waits for the server are not lost by that."""
    is_begun = bool(reader.unanswered)
    reader.unanswered += reader.left()
    group = conversation.groups.name if conversation else ""
    await early.keep_messages(reader.unanswered, is_begun=is_begun, group=group)


async def _note_progress(chat: Chat, reader: LineReader) -> None:
    waiting = len(chat.outbox.waiting())
    while True:
        await trio.sleep(CHECK_EVERY)
        before, waiting = waiting, len(chat.outbox.waiting())
        if waiting < before:
            reader.message_left()


async def _deregister(conversation: Conversation) -> None:
    if conversation.chat.online:
        # The server may be silent, or another program of the owner may have the name now.
        try:
            await conversation.chat.deregister()
        except (ServerNotResponding, NotRegistered):
            return
        conversation.tell(results.WentOffline())
