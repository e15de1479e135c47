"""Simulates seeds, reports which promises were broken and how, and prints what happened in a seed.

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
from unittest.mock import patch

import click
import trio
import trio.testing

from tests.memory_folder import MEMORY
from tests.network import open_memory_network
from tests.simulation.hostile import KEYS_KEPT
from tests.simulation.invariants import Fault, broken
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.seed import fixed_by
from tests.simulation.trace import Trace
from tests.simulation.world import World
from tests.wiretap import open_wiretap
from trio_chat.protocol.token_buckets import TokenBuckets
from trio_chat.server import server, throttle

SEEDS = 40
"""How many are simulated if nothing else is asked for, as `.ci/run` does."""
STEPS = 80
SHOWN = 3
"""Broken promises of one seed for which an excerpt of the trace is printed; the others are only named."""

LINES = 120
"""The most lines of an excerpt. Its end is printed."""

MUTANT_SEEDS = 200


def simulate(seed: int, steps: int = STEPS) -> World:
    """One seed, with its disks in a temporary folder."""
    with TemporaryDirectory(dir=MEMORY) as folder:
        # A world lasts for some minutes: in these the server looks often enough for what is too old.
        with (
            fixed_by(seed) as dice,
            patch.object(server, "RETENTION_CHECK_EVERY", 5.0),
            # So few that one attack of many keys fills them.
            patch.object(throttle, "KEYS_KEPT", KEYS_KEPT),
            patch.object(TokenBuckets.__init__, "__defaults__", (KEYS_KEPT,)),
        ):
            clock = trio.testing.MockClock(autojump_threshold=0)
            return trio.run(partial(_run, seed, dice, Path(folder), steps), clock=clock)


async def _run(seed: int, dice: random.Random, folder: Path, steps: int) -> World:
    with open_wiretap() as tap:
        async with open_memory_network(seed) as network, trio.open_nursery() as nursery:
            trace = Trace(network, tap)
            network.filters.append(trace.record)
            world = World(seed, trace, nursery, dice, folder)
            network.filters.append(world.passes)
            with trace.recording_ids():
                await world.run(steps)
            nursery.cancel_scope.cancel()
    return world


def trace_hash(world: World) -> str:
    """The same for the same seed, in any process."""
    return hashlib.sha256("\n".join(world.trace.lines()).encode()).hexdigest()


def report(seed: int, world: World) -> list[str]:
    """The promises that this seed broke, with excerpts about the messages or people concerned."""
    faults = broken(world)
    lines = [f"seed {seed}: {fault.promise}: {fault.what}" for fault in faults]
    for fault in faults[:SHOWN]:
        lines += [f"--- seed {seed}, {fault.promise}: {_subject(fault)}", *_excerpt(world, fault)]
    return lines


def _subject(fault: Fault) -> str:
    return f"the message {fault.text[:40]!r}" if fault.text else f"what concerns {', '.join(sorted(fault.people))}"


def _excerpt(world: World, fault: Fault) -> list[str]:
    lines = world.trace.excerpt(fault.text, set(fault.people))
    left_out = [f"... {len(lines) - LINES} lines before"] if len(lines) > LINES else []
    return left_out + lines[-LINES:]


def report_of(seed: int, steps: int) -> list[str]:
    """Simulate a seed and report on it. An exception is reported with its traceback."""
    try:
        return report(seed, simulate(seed, steps))
    except Exception:
        return [f"seed {seed}: an exception ended the world", traceback.format_exc()]


def first_that_catches(name: str) -> int | None:
    """The first seed in which this mutant breaks a promise, or raises an exception."""
    return next((seed for seed in range(MUTANT_SEEDS) if is_caught(MUTANTS[name], seed)), None)


def is_caught(mutant: Mutant, seed: int) -> bool:
    """Whether this seed catches the mutant."""
    with ExitStack() as patched:
        mutant(patched)
        try:
            return bool(broken(simulate(seed)))
        except Exception as error:
            # A mutant of what the product was like before is no mutant: it raises these, and would count as caught.
            if any(isinstance(one, TypeError | AttributeError | NameError) for one in _leaves(error)):
                raise
            return True


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """An error, or all those in a group."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


@click.command()
@click.option("--seeds", type=int, help=f"How many seeds are simulated.  [default: {SEEDS}, if there is no other task]")
@click.option("--first", default=0, help="The first of them.")
@click.option("--seed", type=int, help="Simulate this one alone.")
@click.option("--steps", default=STEPS, show_default=True, help="How many events happen in each, about one a second.")
@click.option("--trace", is_flag=True, help="Print all that happened in it, line by line.")
@click.option("--mutants", is_flag=True, help=f"Check that each mutant is caught within {MUTANT_SEEDS} seeds.")
@click.option("--jobs", default=os.cpu_count(), help="How many are simulated at the same time.  [default: all cores]")
def main(seeds: int | None, first: int, seed: int | None, steps: int, trace: bool, mutants: bool, jobs: int) -> None:
    """Simulate the whole system from seeds. Exit with 1 if a promise was broken or a mutant was not caught."""
    logging.disable(logging.CRITICAL)  # disks fail all the time here
    failed = 0
    if seeds is None:
        seeds = 0 if mutants or seed is not None else SEEDS
    if seed is not None:
        failed += _simulate_one(seed, steps, trace)
    with ProcessPoolExecutor(jobs) as processes:
        each = processes.map
        failed += _simulate_all(range(first, first + seeds), steps, each)
        if mutants:
            failed += _check_mutants(each)
    sys.exit(failed > 0)


Each = Callable[..., Iterator[Any]]


def _simulate_one(seed: int, steps: int, trace: bool) -> bool:
    world = simulate(seed, steps)
    lines = report(seed, world)
    kept = [] if lines else [f"seed {seed}: all promises were kept"]
    click.echo("\n".join([*(world.trace.lines() if trace else ()), *lines, *kept]))
    return bool(lines)


def _simulate_all(seeds: range, steps: int, each: Each) -> int:
    failed = 0
    for done, lines in enumerate(each(partial(report_of, steps=steps), seeds), start=1):
        if lines:
            failed += 1
            click.echo("\n".join(lines))
        if done % 100 == 0 or done == len(seeds):
            click.echo(f"{done} seeds from {seeds.start}: {failed} broke a promise")
    return failed


def _check_mutants(each: Each) -> int:
    missed = 0
    for name, seed in zip(MUTANTS, each(first_that_catches, MUTANTS), strict=True):
        missed += seed is None
        click.echo(f"{name:60} {'NOT CAUGHT' if seed is None else f'caught by seed {seed}'}")
    return missed


if __name__ == "__main__":
    main()
