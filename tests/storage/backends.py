"""How a store is opened again and again, for the contract tests: in memory, and in a SQLite file.

A new backend gets a line in `backends`; to open it again must bring back all that was reported as done.
"""

from contextlib import asynccontextmanager
from functools import partial

import trio

from trio_chat.storage.database import Schema


async def inline(work):
    """Runs a transaction here and now: virtual time does not wait for threads."""
    await trio.lowlevel.checkpoint()
    return work()


def backends(in_memory, open_file):
    """Names, and functions of a folder that return `open_store`, as often used as one likes, one after the other."""

    def memory(folder):
        store = in_memory()  # which outlives whoever uses it, though not the process

        @asynccontextmanager
        async def open_store():
            yield store

        return open_store

    def sqlite(folder):
        return partial(open_file, folder / "store.db", inline)

    return {"memory": memory, "sqlite": sqlite}


def first_schema(schema):
    """Of a schema, what the first files were made with."""
    return Schema(schema.application_id, schema.migrations[:1])
