"""Kill -9, again and again, while all send as fast as answers come: nothing is lost, nothing comes twice.

`nox -s crash -- --cycles 300` does the same for longer.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from tests.crash.run import NAMES, run

CYCLES = 5
FEW = NAMES[:3]


async def test_what_was_acknowledged_survives_kills_of_the_server_and_of_clients():
    counts = {}

    async def count(victims):
        with TemporaryDirectory() as folder:  # on the disk, unlike `tmp_path`
            counts[victims] = await run(Path(folder), names=FEW, **{victims: CYCLES})

    async with trio.open_nursery() as nursery:
        for victims in ("servers", "clients"):
            nursery.start_soon(count, victims)

    for result in counts.values():
        assert not result.faults, "\n".join([*result.lines(), *result.faults])
        # By the outbox or without it: a busy machine gets through few messages in so few cycles.
        for way, kept in (("direct", "outbox: received"), ("saved", "outbox: saved"), ("posted", "outbox: posted")):
            assert result.table[way].acknowledged + result.table[kept].acknowledged, way
