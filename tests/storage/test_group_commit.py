"""Group commits: one transaction for many requests, answers only after it is durable, and failures.

Transactions run without threads, in virtual time; a fake connection fails where the disk would.
"""

import sqlite3
from contextlib import closing

import pytest
import trio

from tests.storage.backends import inline
from trio_chat.errors import StoreFailed
from trio_chat.storage.group_commit import GROUP, GroupCommit, in_thread
from trio_chat.tasks import open_background


class FakeDisk:
    """A connection that counts its commits, and fails at statements that begin with `fails_at`."""

    def __init__(self) -> None:
        self.real = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self.real.execute("CREATE TABLE facts (n INTEGER PRIMARY KEY)")
        self.commits = 0
        self.fails_at: str | None = None
        self.failure = sqlite3.OperationalError("disk I/O error")

    @property
    def in_transaction(self):
        return self.real.in_transaction

    def execute(self, statement, *parameters):
        if self.fails_at and statement.startswith(self.fails_at):
            raise self.failure
        self.commits += statement == "COMMIT"
        return self.real.execute(statement, *parameters)

    def close(self):
        self.real.close()

    def facts(self):
        return [n for (n,) in self.real.execute("SELECT n FROM facts ORDER BY n")]


def put(n):
    def request(database):
        database.execute("INSERT INTO facts VALUES (?)", (n,))
        return n

    return request


@pytest.fixture
def disk():
    with closing(FakeDisk()) as disk:
        yield disk


@pytest.fixture
async def commits(disk, nursery):
    commits = GroupCommit(disk, inline)
    nursery.start_soon(commits.write)
    return commits


async def submit_all(commits, numbers, results):
    async def submit(n):
        results[n] = await commits.submit(put(n))

    async with trio.open_nursery() as nursery:
        for n in numbers:
            nursery.start_soon(submit, n)


async def test_a_request_is_answered_with_what_it_returned(commits, disk, autojump_clock):
    assert await commits.submit(put(7)) == 7
    assert disk.facts() == [7]
    assert disk.commits == 1


async def test_requests_that_arrive_during_a_transaction_share_the_next(commits, disk, autojump_clock):
    results = {}
    await submit_all(commits, range(200), results)
    assert results == {n: n for n in range(200)}
    assert disk.commits <= 3


async def test_a_group_has_a_limit_and_the_queue_too(commits, disk, autojump_clock):
    results = {}
    await submit_all(commits, range(3 * GROUP), results)
    assert disk.facts() == list(range(3 * GROUP))
    assert 3 <= disk.commits <= 6


async def test_one_failed_request_does_not_affect_its_group(commits, disk, autojump_clock):
    await commits.submit(put(5))
    results, errors = {}, []

    async def repeat():
        try:
            await commits.submit(put(5))
        except sqlite3.IntegrityError as error:
            errors.append(error)

    async def fail_halfway():
        def half(database):
            database.execute("INSERT INTO facts VALUES (100)")
            raise KeyError("a bug")

        with pytest.raises(KeyError):
            await commits.submit(half)
        errors.append("fail_halfway")

    async with trio.open_nursery() as nursery:
        for work in (repeat, fail_halfway):
            nursery.start_soon(work)
        nursery.start_soon(submit_all, commits, range(10, 20), results)
    assert len(errors) == 2
    assert disk.facts() == [5, *range(10, 20)]
    assert results == {n: n for n in range(10, 20)}


async def test_a_commit_is_told_before_any_caller_goes_on_and_in_order(commits, disk, autojump_clock):
    log, submitted = [], []

    async def submit(n):
        submitted.append(n)
        assert await commits.submit(put(n), lambda result: log.append(("told", result, disk.commits))) == n
        log.append(("goes on", n, disk.commits))

    async with trio.open_nursery() as nursery:
        for n in range(600):
            nursery.start_soon(submit, n)
    told = [(n, commits) for what, n, commits in log if what == "told"]
    assert [n for n, _ in told] == submitted
    for at in range(1, disk.commits + 1):
        steps = [what for what, _, commits in log if commits == at]
        assert steps == sorted(steps, reverse=True), "first all is told"


async def test_a_failed_request_is_not_told(commits, autojump_clock):
    told = []
    await commits.submit(put(1), told.append)
    with pytest.raises(sqlite3.IntegrityError):
        await commits.submit(put(1), told.append)
    assert told == [1]


async def test_a_cancelled_request_is_told_when_it_is_durable(commits, disk, autojump_clock):
    told = []
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(commits.submit, put(1), told.append)
            await trio.lowlevel.checkpoint()
            scope.cancel()
    await commits.submit(put(2), told.append)
    assert told == disk.facts()


@pytest.mark.parametrize("statement", ["COMMIT", "BEGIN", "INSERT"])
async def test_a_failed_commit_answers_nobody_and_ends_the_writer(disk, autojump_clock, statement):
    answered = []
    disk.fails_at = statement

    async def submit(n):
        answered.append(await commits.submit(put(n), answered.append))

    with pytest.raises(
        StoreFailed,
        match=r"^the store failed: disk I/O error; check the disk, and the quota if it has one, then start again$",
    ):
        async with open_background() as nursery:
            commits = GroupCommit(disk, inline)
            nursery.start_soon(commits.write)
            for n in range(3):
                nursery.start_soon(submit, n)
            await trio.sleep(60)
    assert answered == []


async def test_a_full_disk_ends_the_writer(disk, autojump_clock):
    disk.real.execute("CREATE TABLE texts (text TEXT)")
    pages = disk.real.execute("PRAGMA page_count").fetchone()[0]
    disk.real.execute(f"PRAGMA max_page_count = {pages + 2}")

    def write_much(database):
        database.execute("INSERT INTO texts VALUES (?)", ("x" * 100_000,))

    with pytest.raises(StoreFailed, match=r"^the folder failed: .* full; make room on the disk, then start again$"):
        async with open_background() as nursery:
            commits = GroupCommit(disk, inline, "the folder")
            nursery.start_soon(commits.write)
            await commits.submit(write_much)


async def test_a_cancelled_request_does_not_disturb_the_others(commits, disk, autojump_clock):
    with trio.CancelScope() as scope:
        scope.cancel()
        await commits.submit(put(1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(commits.submit, put(2))
        await trio.testing.wait_all_tasks_blocked()
    assert disk.facts()[-1:] == [2]


async def test_in_a_real_thread(disk):
    async with open_background() as nursery:
        commits = GroupCommit(disk, in_thread())
        nursery.start_soon(commits.write)
        results = {}
        await submit_all(commits, range(20), results)
    assert disk.facts() == list(range(20))
