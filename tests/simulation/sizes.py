"""How much the running programs hold in memory and files: tasks, pending requests, waiting letters. Finds leaks."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from typing import Any

import trio

PACKAGE = "trio_chat."
WAITING_ROWS = {
    "server": (
        "SELECT count(*) FROM entries WHERE body IS NOT NULL AND recipient > '$' AND recipient NOT LIKE 'mallory%'",
    ),
    "client": ("SELECT count(*) FROM received WHERE NOT shown", "SELECT count(*) FROM outgoing"),
}
"""Queries for what waits in the files of each kind of store. The hostile participant takes nothing: see hostile.py."""


def sizes() -> Counter[str]:
    """Of all programs together: the number of tasks by name, the lengths of collections by class and attribute."""
    found: Counter[str] = Counter()
    seen: set[int] = set()
    for task in _tasks(trio.lowlevel.current_root_task()):
        if task.name.startswith(PACKAGE):
            found[f"task {task.name}"] += 1
        for part in _parts(task):
            _measure(part, found, seen)
    return found


def _tasks(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    yield task
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _tasks(child)


def _parts(task: trio.lowlevel.Task) -> Iterator[Any]:
    """The local variables of all functions that a task is in."""
    coroutine = task.coro
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        yield from frame.f_locals.values()
        coroutine = coroutine.cr_await


def _measure(part: Any, found: Counter[str], seen: set[int]) -> None:
    if not type(part).__module__.startswith(PACKAGE) or id(part) in seen:
        return
    seen.add(id(part))
    for name, value in _attributes(part):
        where = f"{type(part).__name__}.{name}"
        if isinstance(value, dict | list | set) or type(value).__name__ == "deque":
            found[where] += len(value)
            found[f"largest {where}"] = max(len(value), found[f"largest {where}"])
            for one in value.values() if isinstance(value, dict) else value:
                _measure(one, found, seen)
        elif isinstance(value, trio.MemoryReceiveChannel):
            found[where] += value.statistics().current_buffer_used
        elif isinstance(value, sqlite3.Connection):
            _count_waiting(value, found)
        else:
            _measure(value, found, seen)


def _count_waiting(database: sqlite3.Connection, found: Counter[str]) -> None:
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    for query in WAITING_ROWS["server" if "entries" in tables and "names" in tables else "client"]:
        found[query] += database.execute(query).fetchone()[0]


def _attributes(part: Any) -> Iterator[tuple[str, Any]]:
    names = {name for kind in type(part).__mro__ for name in getattr(kind, "__slots__", ())}
    for name in sorted(names | getattr(part, "__dict__", {}).keys()):
        if name != "__weakref__" and hasattr(part, name):
            yield name, getattr(part, name)
