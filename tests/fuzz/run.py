"""Tries mutated inputs with everything that reads bytes from the network, and reports those that break a promise.

python -m tests.fuzz.run --minutes 5
python -m tests.fuzz.run --seed 2 --target links
python -m tests.fuzz.run --replay links 00...
"""

import random
import resource
import sys
import time
import traceback
from collections.abc import Callable

import attrs
import click

from tests.fuzz.mutations import LONGEST
from tests.fuzz.targets import TARGETS, Target

MEMORY = 2 * 1024**3
"""Bytes that the process may use. Code that takes more fails with MemoryError, and does not harm the machine."""


@attrs.define
class Tally:
    """The results for one target. `failures`: the first input for each kind of failure."""

    tried: int = 0
    corpus: list[bytes] = attrs.Factory(list)
    seen: set[object] = attrs.Factory(set)
    failures: dict[str, bytes] = attrs.Factory(dict)

    def run(self, target: Target, data: bytes) -> None:
        """Try an input, and keep it if its outcome is new."""
        self.tried += 1
        try:
            seen = target.check(data)
        except Exception as error:
            self.failures.setdefault(how_it_failed(error), data)
            return
        if not seen <= self.seen:
            self.seen |= seen
            self.corpus.append(data)


def how_it_failed(error: Exception) -> str:
    """The exception and the line that raised it: the same for all inputs that fail in this way."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    message = str(error).partition("\n")[0] if isinstance(error, AssertionError) else ""
    return f"{type(error).__name__} {message} ({last.filename.rpartition('/')[2]}, line {last.lineno})"


def fuzz(target: Target, seed: int, goes_on: Callable[[int], bool]) -> Tally:
    """Try the samples, then mutations, while `goes_on(number of inputs tried)`."""
    dice = random.Random(seed)
    tally = Tally()
    samples = target.samples()
    for sample in samples:
        tally.run(target, sample[:LONGEST])
    while goes_on(tally.tried):
        tally.run(target, target.next_input(dice, tally.corpus or samples))
    return tally


def report(name: str, seed: int, tally: Tally, seconds: float) -> None:
    pace, kept = tally.tried / max(seconds, 1e-9), len(tally.corpus)
    summary = f"{tally.tried} inputs, {pace:.0f}/s, {len(tally.seen)} outcomes, {kept} kept"
    click.echo(f"{name:10} seed {seed}: {summary}, {len(tally.failures)} failures")
    for how, data in tally.failures.items():
        click.echo(f"{name}, seed {seed}: {how}\n  --replay {name} {data.hex()}")


def replay(name: str, data: bytes) -> None:
    """Try one input; exit with 1 if it fails."""
    try:
        TARGETS[name].check(data)
    except Exception:
        click.echo(traceback.format_exc())
        sys.exit(1)
    click.echo("all promises were kept")


@click.command()
@click.option("--minutes", default=1.0, show_default=True, help="How long, shared by all targets.")
@click.option("--inputs", type=int, help="How many inputs for each target, instead of minutes.")
@click.option("--seed", default=1, show_default=True, help="For the mutations.")
@click.option("--target", "name", type=click.Choice([*TARGETS]), help="This one alone.")
@click.option("--replay", "again", type=(click.Choice([*TARGETS]), str), help="Try one input again, given as hex.")
def main(minutes: float, inputs: int | None, seed: int, name: str | None, again: tuple[str, str] | None) -> None:
    """Fuzz everything that reads from the network; exit with 1 if a promise was broken."""
    if again:
        replay(again[0], bytes.fromhex(again[1]))
        return
    names = [name] if name else [*TARGETS]
    failed = False
    for one in names:
        began = time.monotonic()
        end = began + 60 * minutes / len(names)
        tally = fuzz(TARGETS[one], seed, lambda tried, end=end: tried < inputs if inputs else time.monotonic() < end)
        report(one, seed, tally, time.monotonic() - began)
        failed |= bool(tally.failures)
    sys.exit(failed)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    main()
