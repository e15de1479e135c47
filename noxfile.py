"""The checks of the project. `nox` without arguments runs those of `.ci/run`, with its own Python (3.11 or newer)."""

from pathlib import Path

import nox

nox.options.sessions = ["tests", "readme", "coverage", "lint", "types", "docs", "simulate"]
nox.options.reuse_venv = "yes"

PYTEST = ("-m", "pytest", "-n", "auto", "--dist", "loadgroup")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, in several processes. Arguments after `--` go to pytest."""
    session.install("-e", ".[tests]")
    session.run("python", *PYTEST, *session.posargs)


@nox.session
def readme(session: nox.Session) -> None:
    """Every command of the README, as printed, in a fresh copy of the repository. One of them runs all tests."""
    session.install("-e", ".[tests]")
    session.run("python", "-m", "tests.docs.fresh_clone")


@nox.session
def coverage(session: nox.Session) -> None:
    """The same with branch coverage. It takes twice as long."""
    session.install("-e", ".[tests]")
    session.run("coverage", "erase")
    session.run("coverage", "run", *PYTEST, *session.posargs)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report", "--fail-under=0" if session.posargs else "--fail-under=95")


@nox.session
def lint(session: nox.Session) -> None:
    """ruff: lint and formatting."""
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
    """Build the documentation; a warning is an error. Then run its terminals, and record its pictures again."""
    session.install("-e", ".[docs,tests]")
    session.run("sphinx-build", "-W", "--keep-going", "-n", "docs", "docs/_build/html")
    session.run("python", *PYTEST, "-m", "docs", "tests/docs")


@nox.session
def crash(session: nox.Session) -> None:
    """Kill and restart servers, then clients, and count lost messages. `-- --cycles 300` for more than a few."""
    session.install("-e", ".[tests]")
    session.run("python", "-m", "tests.crash.run", *session.posargs)


@nox.session
def networks(session: nox.Session) -> None:
    """Real programs on lines that lose, delay or translate. Prints what it measured. Needs Linux and root."""
    session.install("-e", ".[tests]")
    session.run("python", *PYTEST, "-m", "networks", "-rPsx", "tests/networks", *session.posargs)


@nox.session
def simulate(session: nox.Session) -> None:
    """Simulate the whole system: 40 seeds, or `-- --seeds 1000`, `-- --seed 42 --trace`, `-- --mutants`."""
    session.install("-e", ".[tests]")
    session.run("python", "-m", "tests.simulation.run", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Mutated input for everything that reads from the network. `-- --minutes 5`, `-- --seed 2 --target links`."""
    session.install("-e", ".[tests]")
    session.run("python", "-m", "tests.fuzz.run", *session.posargs)


@nox.session
def flood(session: nox.Session) -> None:
    """Clients during floods, spoofed and from true addresses. Needs Linux, and a machine that is otherwise idle."""
    session.install("-e", ".[tests]")
    session.run("python", "-m", "pytest", "tests/end_to_end/test_flood.py", env={"FLOOD": "10000"})
    session.run("python", "-m", "tests.flood.run", *session.posargs)


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Print the tables of all benchmarks, or of some: `-- direct startup`. Needs Linux, and an idle machine."""
    session.install("-e", ".")
    for benchmark in sorted(Path("benchmarks").glob("*.py")):
        if not session.posargs or benchmark.stem in session.posargs:
            session.run("python", str(benchmark))
