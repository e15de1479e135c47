"""The crash play: one server, several clients at full speed, SIGKILL at random moments, and everyone born again.

`python -m tests.crash.run --cycles 300` plays it and prints the count. Here is who is started, killed and waited
for; what was lost or came twice is told by count.py.
"""

import random
import socket
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

from tests.crash.count import Count, Kill
from tests.forkserver import ENVIRONMENT, open_program

NAMES = ("ann", "bob", "cid", "dee", "eve")
PATIENCE = 60
"""How long anything may take, in seconds; a client's pauses without the server grow up to 15."""
QUIET = 0.8
"""Without a new line in any diary for so many seconds, a window and more, nothing is on its way."""
SERVER_LIFE = (0.05, 0.65)
"""How long a server lives, from and to, in seconds after it began to listen. Some of it passes until the clients, who
know its predecessor's sessions only, are back."""
STILLBORN = 1 / 8
"""How many of the servers are killed so long after their start instead, listening or not."""
CLIENT_LIFE = (0.05, 0.85)
"""How long it takes, from and to, in seconds, until the next client dies."""
MOVES = 1 / 4
"""How many of the clients are born again at another port, where they take over their names from the dead."""
OPENING = ("Listening on ", "Key: ")
"""How the lines begin that a server says at its start."""
FAULTS_SHOWN = 20


def free_ports(count):
    """UDP ports that were free a moment ago."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    for udp in sockets:
        udp.bind(("127.0.0.1", 0))
    ports = [udp.getsockname()[1] for udp in sockets]
    for udp in sockets:
        udp.close()
    return ports


@attrs.define(eq=False)
class Actor:
    """One name on the stage, through all its lives."""

    name: str
    port: int
    spare_port: int = 0
    lives: int = 0
    process: trio.Process | None = None


class Stage:
    """Who plays, on which ports, and every kill. All files are in one folder."""

    def __init__(self, folder, names, seed):
        self.folder = folder
        self.random = random.Random(seed)
        self.kills: list[Kill] = []
        first, *ports = free_ports(1 + 2 * len(names))
        self.server = Actor("server", first)
        self.clients = [Actor(name, ports.pop(), ports.pop()) for name in names]

    # --- births and deaths ---

    async def start_server(self):
        arguments = ("server", self.server.port, "--host", "127.0.0.1")
        files = ("--store", self.folder / "server.db", "--identity", self.folder / "server.key")
        await self._start(self.server, "trio_chat", *arguments, *files)

    async def start_client(self, client):
        if self.random.random() < MOVES:
            client.port, client.spare_port = client.spare_port, client.port
        others = [other.name for other in self.clients if other is not client]
        arguments = (client.name, client.lives, client.port, self.server.port, self.folder, *others)
        await self._start(client, "tests.crash.client", *arguments)

    async def _start(self, actor, module, *arguments):
        actor.lives += 1
        with (self.folder / f"{actor.name}.err").open("wb") as complaints:
            environment = ENVIRONMENT | {"XDG_DATA_HOME": str(self.folder)}
            actor.process = await open_program(
                module, arguments, stdout=subprocess.DEVNULL, stderr=complaints, env=environment
            )

    async def kill(self, actor):
        self.check(actor)
        after = time.monotonic()
        actor.process.kill()
        self.kills.append(Kill(actor.name, after, time.monotonic()))
        await actor.process.wait()
        await actor.process.stdin.aclose()

    def check(self, actor):
        """It lives, and has nothing to complain of."""
        complaints = self.complaints(actor)
        if actor.process.returncode is not None or complaints:
            raise AssertionError(f"{actor.name} ended with {actor.process.returncode} and said\n{complaints}")

    def complaints(self, actor):
        said = (self.folder / f"{actor.name}.err").read_text()
        return "".join(line for line in said.splitlines(keepends=True) if not line.startswith(OPENING))

    async def let_leave(self, client):
        await client.process.stdin.aclose()
        await client.process.wait()
        if client.process.returncode or self.complaints(client):
            raise AssertionError(
                f"{client.name} left with {client.process.returncode} and said\n{self.complaints(client)}"
            )

    async def end(self):
        """Whoever is still here is killed."""
        for actor in (*self.clients, self.server):
            if actor.process is not None:
                actor.process.kill()
                await actor.process.wait()

    # --- cues ---

    async def cue(self, client):
        await client.process.stdin.send_all(b".")

    async def until(self, what, is_so, who):
        """Wait for something while these live."""
        with trio.move_on_after(PATIENCE):
            while not is_so():
                for actor in who:
                    self.check(actor)
                await trio.sleep(0.02)
            return
        raise AssertionError(f"it took more than {PATIENCE} s until {what}")

    async def until_the_server_listens(self):
        errors = self.folder / "server.err"
        await self.until("the server listened", lambda: errors.stat().st_size > 0, [self.server])

    async def until_all_note(self, word, behind):
        """Each diary has this line somewhere behind the length that it had."""

        def is_so():
            return all(f'"{word}"' in self._read(client, behind[client.name]) for client in self.clients)

        await self.until(f"all were {word}", is_so, [self.server, *self.clients])

    def _read(self, client, behind):
        with self._diary(client).open() as diary:
            diary.seek(behind)
            return diary.read()

    def _diary(self, client):
        return self.folder / f"{client.name}.diary"

    def lengths(self):
        return {client.name: self._diary(client).stat().st_size for client in self.clients}

    async def until_quiet(self):
        changed_at, before = time.monotonic(), self.lengths()

        def is_quiet():
            nonlocal changed_at, before
            now = self.lengths()
            if now != before:
                changed_at, before = time.monotonic(), now
            return time.monotonic() - changed_at > QUIET

        await self.until("all was quiet", is_quiet, [self.server, *self.clients])


@asynccontextmanager
async def open_stage(folder, names, seed):
    """The server and all clients on line; at the end nobody is left."""
    stage = Stage(folder, names, seed)
    try:
        await stage.start_server()
        for client in stage.clients:
            (folder / f"{client.name}.diary").touch()
            await stage.start_client(client)
        await stage.until_all_note("here", behind=dict.fromkeys(names, 0))
        yield stage
    finally:
        with trio.CancelScope(shield=True):
            await stage.end()


async def kill_servers(stage, cycles):
    for _ in range(cycles):
        if stage.random.random() > STILLBORN:
            await stage.until_the_server_listens()
        await trio.sleep(stage.random.uniform(*SERVER_LIFE))
        await stage.kill(stage.server)
        await stage.start_server()
    await stage.until_the_server_listens()


async def kill_clients(stage, cycles):
    for _ in range(cycles):
        await trio.sleep(stage.random.uniform(*CLIENT_LIFE))
        client = stage.random.choice(stage.clients)
        await stage.kill(client)
        await stage.start_client(client)
        await stage.cue(client)


async def leave(stage):
    """Everyone on line, then quiet, then gone politely."""
    before = stage.lengths()
    for client in stage.clients:
        await stage.cue(client)
    await stage.until_all_note("hushed", behind=before)
    await stage.until_quiet()
    with trio.fail_after(PATIENCE):
        for client in stage.clients:
            await stage.let_leave(client)
    stage.check(stage.server)


async def perform(folder, servers=0, clients=0, names=NAMES, seed=0):
    """Kill so many servers, then so many clients, and return the count."""
    async with open_stage(folder, names, seed) as stage:
        for client in stage.clients:
            await stage.cue(client)
        await kill_servers(stage, servers)
        await kill_clients(stage, clients)
        await leave(stage)
    return Count(folder, names, stage.kills)


@click.command()
@click.option("--cycles", default=5, show_default=True, help="How many servers are killed, and how many clients.")
@click.option("--seed", default=0, show_default=True, help="Of the moments at which they are killed.")
@click.option("--folder", type=Path, help="Where stores and diaries are left, for whoever wants to see them.")
def main(cycles, seed, folder):
    """Kill the server again and again, then, in a second play, clients; count what was lost or came twice."""
    faults = []
    with TemporaryDirectory() as temporary:
        for victims in ("servers", "clients"):
            place = (folder or Path(temporary)) / victims
            place.mkdir(parents=True)
            count = trio.run(partial(perform, place, seed=seed, **{victims: cycles}))
            click.echo("\n".join(count.lines()))
            faults += count.faults
    for fault in faults[:FAULTS_SHOWN]:
        click.echo(fault, err=True)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
