"""Plays seeds, tells which promises were broken and how, and hands the same seed out again as a readable play.

python -m tests.simulation.run --seeds 1000
python -m tests.simulation.run --seed 42 --trace
"""

import hashlib
import logging
import os
import random
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import trio
import trio.testing

from tests.network import open_memory_network
from tests.simulation.invariants import Fault, broken
from tests.simulation.ledger import Ledger
from tests.simulation.mutants import ZOO, Bug
from tests.simulation.seed import fixed_by
from tests.simulation.world import World
from tests.wiretap import open_wiretap

MEMORY = Path("/dev/shm")  # noqa: S108 - disks of the simulation, which need not outlive it
STEPS = 80
SHOWN = 3
"""Broken promises of one seed that are told as plays; of the others only what they are."""

LINES = 120
"""The most lines of a play: its end is what counts."""

ZOO_SEEDS = 200


def play(seed: int, steps: int = STEPS) -> World:
    """One seed, with its disks in a folder that is gone afterwards."""
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        with fixed_by(seed) as dice:
            clock = trio.testing.MockClock(autojump_threshold=0)
            return trio.run(partial(_live, seed, dice, Path(folder), steps), clock=clock)


async def _live(seed: int, dice: random.Random, folder: Path, steps: int) -> World:
    with open_wiretap() as tap:
        async with open_memory_network(seed) as network, trio.open_nursery() as nursery:
            ledger = Ledger(network, tap)
            network.filters.append(ledger.overhear)
            world = World(seed, ledger, nursery, dice, folder)
            network.filters.append(world.passes)
            with ledger.hearing_ids():
                await world.live(steps)
            nursery.cancel_scope.cancel()
    return world


def trace_hash(world: World) -> str:
    """The same for the same seed, wherever it is played."""
    return hashlib.sha256("\n".join(world.ledger.trace()).encode()).hexdigest()


def report(seed: int, world: World) -> list[str]:
    """Which promises this seed broke, and the plays of the messages or people concerned; nothing if it broke none."""
    faults = broken(world)
    lines = [f"seed {seed}: {fault.promise}: {fault.what}" for fault in faults]
    for fault in faults[:SHOWN]:
        lines += [f"--- seed {seed}, {fault.promise}: {_subject(fault)}", *_play_of(world, fault)]
    return lines


def _subject(fault: Fault) -> str:
    return f"the message {fault.text[:40]!r}" if fault.text else f"what concerns {', '.join(sorted(fault.people))}"


def _play_of(world: World, fault: Fault) -> list[str]:
    lines = world.ledger.play_of(fault.text, set(fault.people))
    left_out = [f"... {len(lines) - LINES} lines before"] if len(lines) > LINES else []
    return left_out + lines[-LINES:]


def report_of(seed: int, steps: int) -> list[str]:
    """Play a seed and report on it. A world that fell apart is reported with its traceback."""
    try:
        return report(seed, play(seed, steps))
    except Exception:
        return [f"seed {seed}: the world fell apart", traceback.format_exc()]


def first_that_catches(name: str) -> int | None:
    """The first seed in which a bug of the zoo breaks a promise, or the whole world."""
    return next((seed for seed in range(ZOO_SEEDS) if is_caught(ZOO[name], seed)), None)


def is_caught(bug: Bug, seed: int) -> bool:
    """Does this seed tell a world with the bug from one without?"""
    with ExitStack() as patched:
        bug(patched)
        try:
            return bool(broken(play(seed)))
        except Exception:
            return True


@click.command()
@click.option("--seeds", default=0, help="How many seeds are played.")
@click.option("--first", default=0, help="The first of them.")
@click.option("--seed", type=int, help="Play this one alone.")
@click.option("--steps", default=STEPS, show_default=True, help="How many things happen in each, about one a second.")
@click.option("--trace", is_flag=True, help="Print all that happened in it, line by line.")
@click.option("--zoo", is_flag=True, help=f"See that each of the seeded bugs is caught within {ZOO_SEEDS} seeds.")
@click.option("--jobs", default=os.cpu_count(), help="How many are played at the same time.  [default: all cores]")
def main(seeds: int, first: int, seed: int | None, steps: int, trace: bool, zoo: bool, jobs: int) -> None:
    """Simulate the whole system from seeds; exit with 1 if a promise was broken, or a seeded bug was not caught."""
    logging.disable(logging.CRITICAL)  # disks fail all the time here
    failed = 0
    if seed is not None:
        failed += _play_one(seed, steps, trace)
    with ProcessPoolExecutor(jobs) as processes:
        each = processes.map
        failed += _play_all(range(first, first + seeds), steps, each)
        if zoo:
            failed += _visit_the_zoo(each)
    sys.exit(failed > 0)


Each = Callable[..., Iterator[Any]]


def _play_one(seed: int, steps: int, trace: bool) -> bool:
    world = play(seed, steps)
    lines = report(seed, world)
    kept = [] if lines else [f"seed {seed}: all promises were kept"]
    click.echo("\n".join([*(world.ledger.trace() if trace else ()), *lines, *kept]))
    return bool(lines)


def _play_all(seeds: range, steps: int, each: Each) -> int:
    failed = 0
    for played, lines in enumerate(each(partial(report_of, steps=steps), seeds), start=1):
        if lines:
            failed += 1
            click.echo("\n".join(lines))
        if played % 100 == 0 or played == len(seeds):
            click.echo(f"{played} seeds from {seeds.start}: {failed} broke a promise")
    return failed


def _visit_the_zoo(each: Each) -> int:
    missed = 0
    for name, seed in zip(ZOO, each(first_that_catches, ZOO), strict=True):
        missed += seed is None
        click.echo(f"{name:60} {'NOT CAUGHT' if seed is None else f'caught by seed {seed}'}")
    return missed


if __name__ == "__main__":
    main()
