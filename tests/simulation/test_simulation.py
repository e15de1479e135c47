"""A few seeds of the simulation keep all promises, and a seed fixes everything. `nox -s simulate` runs more of them."""

import random
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio._core._run as scheduler

from tests.simulation.mutants import MUTANTS
from tests.simulation.run import report, simulate, trace_hash

ROOT = Path(__file__).parents[2]
STEPS = 8
"""Few, as the suite has little time."""

HASH = f"from tests.simulation.run import simulate, trace_hash; print(trace_hash(simulate(3, steps={STEPS})))"


@pytest.mark.parametrize("seed", range(4))
def test_the_promises_are_kept(seed):
    assert report(seed, simulate(seed, STEPS)) == []


def noticed(seed):
    """The message that was shown twice, and the excerpt of the trace about it; None if this seed shows nothing."""
    world = simulate(seed, steps=12)
    first, *_ = lines = report(seed, world) or [""]
    if not first.startswith(f"seed {seed}: nothing is shown twice: "):
        return None
    message = next(message for message in world.trace.messages.values() if message.mark in first)
    excerpt = lines[lines.index(f"--- seed {seed}, nothing is shown twice: the message {message.text[:40]!r}") :]
    # A long message goes in parts, and the beginning of a long excerpt is left out.
    way, to_server = (
        f"{message.sender:>6} -> {message.recipient:<6} DirectMessage",
        f"{message.sender:>6} -> server Save",
    )
    wanted = (f"{message.sender} sends {message.mark}", way, to_server)
    return (message, excerpt) if all(any(one in line for line in excerpt) for one in wanted) else None


def test_a_mutant_is_noticed_and_an_excerpt_of_the_trace_is_printed():
    with ExitStack() as patched:
        MUTANTS["the same message gets a new id when it goes by the server"](patched)
        # The first one showed it when this was written. One in ten does, and each takes a second: put one of those here
        # when the program has changed so much that it takes long to find another one.
        text, excerpt = next(filter(None, map(noticed, (32, *range(100)))))
    sends = next(n for n, line in enumerate(excerpt) if f"{text.sender} sends {text.mark}" in line)
    chat = next(n for n, line in enumerate(excerpt) if f"{text.sender:>6} -> {text.recipient:<6} DirectMessage" in line)
    saves = next(n for n, line in enumerate(excerpt) if f"{text.sender:>6} -> server Save" in line)
    shown = [n for n, line in enumerate(excerpt) if f"{text.recipient} is shown" in line and text.mark in line]
    assert sends < chat < shown[-1]
    assert sends < saves < shown[-1]
    assert len(shown) > 1


def test_a_seed_is_the_same_in_another_process_and_another_seed_is_different():
    command = [sys.executable, "-c", HASH]
    with subprocess.Popen(command, cwd=ROOT, env={"PYTHONHASHSEED": "1"}, stdout=subprocess.PIPE, text=True) as process:
        one, other = [trace_hash(simulate(seed, STEPS)) for seed in (3, 4)]
        output, _ = process.communicate(timeout=300)
    assert output.strip() == one != other


def test_the_private_names_of_trio_that_fix_the_order_of_tasks_are_there():
    assert isinstance(scheduler._ALLOW_DETERMINISTIC_SCHEDULING, bool)
    assert isinstance(scheduler._r, random.Random)
