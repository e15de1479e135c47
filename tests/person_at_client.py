"""A person at a client with `--reconnect`, in virtual time: what they type, and what is printed."""

import re

import attrs
import trio

from tests.stage import SERVER, identity_of
from trio_chat.client.early_outbox import EarlyOutbox
from trio_chat.client.opening import open_chat
from trio_chat.storage.memory import MemoryClientStore
from trio_chat.terminal.lasting import run_lasting_conversation
from trio_chat.terminal.wordings import Phrasebook


@attrs.define(eq=False)
class PersonAtClient:
    """A person at a client with `--reconnect`. `store` is what their program finds at its next start."""

    stage: object
    name: str
    host: str
    is_terminal: bool = True
    stay: bool = False
    renderer: object = attrs.field(factory=lambda: Phrasebook(is_at_terminal=True))
    store: MemoryClientStore = attrs.field(factory=MemoryClientStore)
    printed: list = attrs.field(factory=list)
    keys: object = None
    ended_at: float | None = None
    told_to_end: trio.Event = attrs.field(factory=trio.Event)

    def open(self, *, reconnect=True):
        return open_chat(
            *(self.name, SERVER),
            **{"host": self.host, "identity": identity_of(self.name), "store": self.store},
            **{"network": self.stage.network, "reconnect": reconnect, "clock": trio.current_time},
        )

    async def run(self, task_status=trio.TASK_STATUS_IGNORED):
        self.keys, lines = trio.open_memory_channel(2000)
        task_status.started()
        await run_lasting_conversation(
            *(self.open(), lines, self._show, self.renderer),
            EarlyOutbox(self.name, self.store, trio.current_time),
            **{"stay": self.stay, "is_terminal": self.is_terminal, "told_to_end": self.told_to_end},
        )
        self.ended_at = trio.current_time()

    def _show(self, line):
        self.printed.append(re.sub(r"\b\d\d:\d\d:\d\d\b", "TIME", line.text))

    async def types(self, *lines, seconds=0.2):
        """Types lines; returns what is printed in so many seconds."""
        self.printed.clear()
        for line in lines:
            self.keys.send_nowait(line)
        await self.stage.pass_time(seconds)
        return [*self.printed]
