"""Plays seeds, tells which promises were broken and how, and hands the same seed out again as a readable play.

python -m tests.simulation.play --seeds 1000
python -m tests.simulation.play --seed 42 --trace
"""

import hashlib
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from tests.simulation.books import broken
from tests.simulation.world import World, run
from tests.simulation.zoo import ZOO

MEMORY = Path("/dev/shm")  # noqa: S108 - disks of the simulation, which need not outlive it
SHOWN = 5
"""Broken promises that are told of one seed."""


def play(seed: int, steps: int = 120) -> World:
    """One seed, with its disks in a folder that is gone afterwards."""
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        return run(seed, Path(folder), steps)


def trace_hash(world: World) -> str:
    """The same for the same seed, wherever it is played. Lines, not ciphertexts: HPKE has randomness of its own."""
    return hashlib.sha256("\n".join(world.ledger.lines).encode()).hexdigest()


def caught(bug, seeds: range) -> int | None:
    """The first of these seeds in which a seeded bug breaks a promise, or the whole world."""
    for seed in seeds:
        with ExitStack() as patched:
            bug(patched)
            try:
                if broken(play(seed)):
                    return seed
            except Exception:
                return seed
    return None


@click.command()
@click.option("--seeds", default=0, help="How many seeds are played.")
@click.option("--first", default=0, help="The first of them.")
@click.option("--seed", type=int, help="Play this one alone.")
@click.option("--trace", is_flag=True, help="Print what happened in it, line by line.")
@click.option("--zoo", is_flag=True, help="See that each of the seeded bugs is caught within 200 seeds.")
def main(seeds: int, first: int, seed: int | None, trace: bool, zoo: bool) -> None:
    """Simulate the whole system from seeds; exit with 1 if a promise was broken, or a seeded bug was not caught."""
    failed = 0
    for number in [seed] if seed is not None else range(first, first + seeds):
        world = play(number)
        if trace:
            click.echo("\n".join(world.ledger.lines))
        if faults := broken(world):
            failed += 1
            for promise, fault in faults[:SHOWN]:
                click.echo(f"seed {number}: {promise}: {fault}")
    if seeds:
        click.echo(f"{seeds} seeds from {first}: {failed} broke a promise")
    if zoo and not broken(play(0)):  # or else everything would seem to be noticed
        for name, bug in ZOO.items():
            at = caught(bug, range(200))
            failed += at is None
            click.echo(f"{name:60} {'NOT CAUGHT' if at is None else f'caught by seed {at}'}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
