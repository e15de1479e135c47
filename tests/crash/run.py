"""The crash test: a server and several clients at full speed. One after the other is killed and started again.

`python -m tests.crash.run --cycles 300` runs it and prints the count. Here programs are started, killed and waited for;
count.py finds what was lost or came twice.
"""

import random
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
import click
import trio

from tests.crash.count import Count
from tests.crash.files import OUTBOX, Kill
from tests.end_to_end.processes import free_port, switches
from tests.forkserver import ENVIRONMENT, open_program

NAMES = ("ann", "bob", "cid", "dee", "eve")
PATIENCE = 60
"""How long anything may take, in seconds. A client that misses the server pauses for up to 15."""
QUIET = 2.0
"""No message is in progress after so many seconds, more than a window, in which no log grew and all programs rested.
Positions that were moved by posts alone are on the disk after one second."""
SERVER_RUN = (0.05, 0.65)
"""How long a server runs, from and to, in seconds after it began to listen. For some of this time the clients, which
have sessions with its predecessor, are not registered."""
KILLED_EARLY = 1 / 8
"""The share of servers that are killed so long after their start instead, whether they listen or not."""
CLIENT_RUN = (0.05, 0.85)
"""How long it takes, from and to, in seconds, until the next client is killed."""
MOVES = 1 / 4
"""The share of clients that are started again at another port, where they take over their names."""
WAYS = ("direct", "saved", "posted", *(OUTBOX + way for way in ("received", "saved", "posted")))
EXPECTED_LINES = ("Listening on ", "Key: ", "Others join with: ", "over the limit posts_per_key ")
"""How the lines begin that a server prints at its start, and when clients post as fast as they can."""
FAULTS_SHOWN = 20


@attrs.define(eq=False)
class Program:
    """A server or a client, through all its runs."""

    name: str
    port: int
    spare_port: int = 0
    runs: int = 0
    process: trio.Process | None = None


class CrashTest:
    """The programs, and every kill. All files are in one folder."""

    def __init__(self, folder, names, seed):
        self.folder = folder
        self.random = random.Random(seed)
        self.kills: list[Kill] = []
        self.server = Program("server", free_port())
        self.clients = [Program(name, free_port(), free_port()) for name in names]

    # --- starts and ends ---

    async def start_server(self):
        arguments = ("server", self.server.port, "--host", "127.0.0.1")
        files = ("--store", self.folder / "server.db", "--identity", self.folder / "server.key")
        await self._start(self.server, "trio_chat", *arguments, *files)

    async def start_client(self, client):
        if self.random.random() < MOVES:
            client.port, client.spare_port = client.spare_port, client.port
        others = [other.name for other in self.clients if other is not client]
        arguments = (client.name, client.runs, client.port, self.server.port, self.folder, *others)
        await self._start(client, "tests.crash.client", *arguments)

    async def _start(self, program, module, *arguments):
        program.runs += 1
        with (self.folder / f"{program.name}.err").open("wb") as errors:
            environment = ENVIRONMENT | {"XDG_DATA_HOME": str(self.folder)}
            program.process = await open_program(
                module, arguments, stdout=subprocess.DEVNULL, stderr=errors, env=environment
            )

    async def kill(self, program):
        self.check(program)
        after = time.monotonic()
        program.process.kill()
        self.kills.append(Kill(program.name, after, time.monotonic()))
        await program.process.wait()
        await program.process.stdin.aclose()

    def check(self, program):
        """It runs, and has printed no error."""
        errors = self.errors(program)
        if program.process.returncode is not None or errors:
            raise AssertionError(f"{program.name} ended with {program.process.returncode} and printed\n{errors}")

    def errors(self, program):
        printed = (self.folder / f"{program.name}.err").read_text()
        return "".join(line for line in printed.splitlines(keepends=True) if not line.startswith(EXPECTED_LINES))

    async def let_end(self, client):
        await client.process.stdin.aclose()
        await client.process.wait()
        if client.process.returncode or self.errors(client):
            raise AssertionError(
                f"{client.name} ended with {client.process.returncode} and printed\n{self.errors(client)}"
            )

    async def close(self):
        """Kills the programs that still run."""
        for program in (*self.clients, self.server):
            if program.process is not None:
                program.process.kill()
                await program.process.wait()

    # --- commands to clients, and waiting for them ---

    async def command(self, client):
        """Starts its messages, or stops them."""
        await client.process.stdin.send_all(b".")

    async def until(self, what, is_so, programs):
        """Waits for something while these run."""
        with trio.move_on_after(PATIENCE):
            while not is_so():
                for program in programs:
                    self.check(program)
                await trio.sleep(0.02)
            return
        raise AssertionError(f"it took more than {PATIENCE} s until {what}")

    async def until_the_server_listens(self):
        errors = self.folder / "server.err"
        await self.until("the server listened", lambda: errors.stat().st_size > 0, [self.server])

    async def until_all_log(self, word, after):
        """Each log has this line somewhere after the length that it had."""

        await self.until(f"all were {word}", lambda: self._all_log(word, after), [self.server, *self.clients])

    def _all_log(self, word, after):
        return all(f'"{word}"' in self._read(client, after[client.name]) for client in self.clients)

    async def until_all_outboxes_are_empty(self, after):
        """Or for PATIENCE: what is left then is counted."""
        with trio.move_on_after(PATIENCE):
            while not self._all_log("empty", after):  # noqa: ASYNC110 - they are programs
                await trio.sleep(0.02)

    async def until_all_ways_were_used(self):
        """Some message went each way. On a slow machine that may take longer than the kills."""

        def is_so():
            logs = "".join(self._read(client, 0) for client in self.clients)
            return all(f'"{way}"' in logs for way in WAYS)

        await self.until("messages went all ways", is_so, [self.server, *self.clients])

    def _read(self, client, after):
        with self._log(client).open() as log:
            log.seek(after)
            return log.read()

    def _log(self, client):
        return self.folder / f"{client.name}.log"

    def lengths(self):
        return {client.name: self._log(client).stat().st_size for client in self.clients}

    async def until_quiet(self):
        programs = [self.server, *self.clients]
        changed_at, before = time.monotonic(), self.lengths()

        def is_quiet():
            nonlocal changed_at, before
            now = self.lengths()
            # A program that waits for a busy processor logs nothing either.
            if now != before or None in [switches(program.process.pid) for program in programs]:
                changed_at, before = time.monotonic(), now
            return time.monotonic() - changed_at > QUIET

        await self.until("all was quiet", is_quiet, programs)


@asynccontextmanager
async def open_crash_test(folder, names, seed):
    """The server and all clients, registered; at the end no program is left."""
    test = CrashTest(folder, names, seed)
    try:
        await test.start_server()
        for client in test.clients:
            (folder / f"{client.name}.log").touch()
            await test.start_client(client)
        await test.until_all_log("online", after=dict.fromkeys(names, 0))
        yield test
    finally:
        with trio.CancelScope(shield=True):
            await test.close()


async def kill_servers(test, cycles):
    for _ in range(cycles):
        if test.random.random() > KILLED_EARLY:
            await test.until_the_server_listens()
        await trio.sleep(test.random.uniform(*SERVER_RUN))
        await test.kill(test.server)
        await test.start_server()
    await test.until_the_server_listens()


async def kill_clients(test, cycles):
    for _ in range(cycles):
        await trio.sleep(test.random.uniform(*CLIENT_RUN))
        client = test.random.choice(test.clients)
        await test.kill(client)
        await test.start_client(client)
        await test.command(client)


async def end(test):
    """All register once more, and nothing more is accepted; after a while without messages they end."""
    before = test.lengths()
    for client in test.clients:
        await test.command(client)
    await test.until_all_log("stopped", after=before)
    await test.until_all_outboxes_are_empty(after=before)
    await test.until_quiet()
    with trio.fail_after(PATIENCE):
        for client in test.clients:
            await test.let_end(client)
    test.check(test.server)


async def run(folder, servers=0, clients=0, names=NAMES, seed=0):
    """Kills so many servers, then so many clients, and returns the count."""
    async with open_crash_test(folder, names, seed) as test:
        for client in test.clients:
            await test.command(client)
        await kill_servers(test, servers)
        await kill_clients(test, clients)
        await test.until_all_ways_were_used()
        await end(test)
    return Count(folder, names, test.kills)


@click.command()
@click.option("--cycles", default=5, show_default=True, help="How many servers are killed, and how many clients.")
@click.option("--seed", default=0, show_default=True, help="Of the moments at which they are killed.")
@click.option("--folder", type=Path, help="Where stores and logs are kept for a look at them.")
def main(cycles, seed, folder):
    """Kill the server again and again; then, in a second run, clients. Count what was lost or came twice."""
    faults = []
    with TemporaryDirectory() as temporary:
        for victims in ("servers", "clients"):
            place = (folder or Path(temporary)) / victims
            place.mkdir(parents=True)
            count = trio.run(partial(run, place, seed=seed, **{victims: cycles}))
            click.echo("\n".join(count.lines()))
            faults += count.faults
    for fault in faults[:FAULTS_SHOWN]:
        click.echo(fault, err=True)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
