"""The project's checks. `nox` runs the usual ones with its own Python, 3.11 or newer; `nox -s NAME` runs one."""

from pathlib import Path

import nox

nox.options.sessions = ["tests", "readme", "coverage", "lint", "types", "docs"]

PYTEST = ("-m", "pytest", "-n", "auto", "--dist", "loadgroup")
# Some environments forbid bytecode files. Then each program that a test starts would compile the package again.
COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}
nox.options.reuse_venv = "yes"


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, on all cores. Arguments after `--` go to pytest."""
    session.install("-e", ".[tests]")
    session.run("python", *PYTEST, *session.posargs, env=COMPILED)


@nox.session
def readme(session: nox.Session) -> None:
    """Every command of the README, as printed, in a fresh copy of the repository. One of them runs all tests."""
    session.install("-e", ".[tests]")
    session.run("python", "-m", "tests.docs.fresh_clone")


@nox.session
def coverage(session: nox.Session) -> None:
    """All tests with branch coverage, which takes twice as long."""
    session.install("-e", ".[tests]")
    session.run("coverage", "erase")
    session.run("coverage", "run", *PYTEST, *session.posargs, env=COMPILED)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report", "--fail-under=0" if session.posargs else "--fail-under=95")


@nox.session
def lint(session: nox.Session) -> None:
    """ruff: the linter, and whether the code is formatted."""
    session.install("ruff")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict on the package."""
    session.install("-e", ".", "mypy")
    session.run("mypy", "--strict", "-p", "trio_chat")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation; a warning is an error."""
    session.install("-e", ".[docs]")
    session.run("sphinx-build", "-W", "--keep-going", "-n", "docs", "docs/_build/html")


@nox.session
def crash(session: nox.Session) -> None:
    """Kill servers and clients with SIGKILL, more often than the tests do. `-- --cycles 300`: how often each."""
    session.install("-e", ".[tests]")
    session.run("python", "-m", "tests.crash.run", *session.posargs)


@nox.session
def simulate(session: nox.Session) -> None:
    """The whole system in virtual time, from seeds. `-- --seeds 1000`, `-- --seed 42 --trace`, `-- --zoo`."""
    session.install("-e", ".[tests]")
    session.run("python", "-m", "tests.simulation.run", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Mutated input for all code that reads from the network. `-- --minutes 5`, `-- --seed 2 --target links`."""
    session.install("-e", ".[tests]")
    session.run("python", "-m", "tests.fuzz.run", *session.posargs)


@nox.session
def flood(session: nox.Session) -> None:
    """A real client registers during 10,000 spoofed handshakes a second. Needs a quiet machine."""
    session.install("-e", ".[tests]")
    session.run("python", "-m", "pytest", "tests/end_to_end/test_flood.py", env={"FLOOD": "10000"})


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Run each benchmark and print its table."""
    session.install("-e", ".")
    for benchmark in sorted(Path("benchmarks").glob("*.py")):
        session.run("python", str(benchmark))
