"""A few seeds of the simulation, and that a seed fixes everything. Many more: `nox -s simulate`."""

import random
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio._core._run as scheduler

from tests.simulation.books import broken
from tests.simulation.play import play
from tests.simulation.zoo import ZOO

ROOT = Path(__file__).parents[2]
HASH = "from tests.simulation.play import play, trace_hash; print(trace_hash(play(7, steps=25)))"


@pytest.mark.parametrize("seed", range(5))
def test_the_promises_are_kept(seed):
    assert broken(play(seed, steps=60)) == []


def test_a_seeded_bug_is_noticed():
    with ExitStack() as patched:
        ZOO["the server removes letters before they are acknowledged"](patched)
        assert broken(play(0))


def test_one_seed_is_one_play_in_any_process():
    processes = [
        subprocess.Popen([sys.executable, "-c", HASH], cwd=ROOT, env={"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE)
        for seed in ("1", "2")
    ]
    first, second = [process.communicate(timeout=60)[0] for process in processes]
    assert first
    assert first == second


def test_the_private_names_of_trio_that_fix_the_order_of_tasks_are_there():
    assert isinstance(scheduler._ALLOW_DETERMINISTIC_SCHEDULING, bool)
    assert isinstance(scheduler._r, random.Random)
