"""Opens stores for the contract tests, once or repeatedly: in memory, and in a SQLite file.

A new backend gets a line in `backends`; opened again, it must have all that was reported as done.
"""

from contextlib import asynccontextmanager
from functools import partial

import trio

from trio_chat.storage.database import Schema


async def inline(work):
    """Run a transaction without a thread: virtual time does not wait for threads."""
    await trio.lowlevel.checkpoint()
    return work()


def put_file(path, content):
    """Write a file of a store that others cannot read: else it is refused."""
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def backends(in_memory, open_file):
    """For each backend, a function of a folder that returns `open_store`, which may be called again after each use."""

    def memory(folder):
        store = in_memory()  # it is kept between uses

        @asynccontextmanager
        async def open_store():
            yield store

        return open_store

    def sqlite(folder):
        return partial(open_file, folder / "store.db", inline)

    return {"memory": memory, "sqlite": sqlite}


def first_schema(schema):
    """The first version of a schema."""
    return Schema(schema.application_id, schema.migrations[:1])
