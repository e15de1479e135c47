"""The project's checks. Plain `nox` runs all of them with the Python it runs under itself, 3.11 or newer."""

from pathlib import Path

import nox

nox.options.sessions = ["tests", "coverage", "lint", "types", "docs"]

PYTEST = ("-m", "pytest", "-n", "auto", "--dist", "loadgroup")
COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}  # or else each program that a play starts would compile the package anew
nox.options.reuse_venv = "yes"


@nox.session
def tests(session: nox.Session) -> None:
    """Every test, on all cores. Arguments after `--` go to pytest."""
    session.install("-e", ".[tests]")
    session.run("python", *PYTEST, *session.posargs, env=COMPILED)


@nox.session
def coverage(session: nox.Session) -> None:
    """The same with branch coverage, which takes twice as long."""
    session.install("-e", ".[tests]")
    session.run("coverage", "erase")
    session.run("coverage", "run", *PYTEST, *session.posargs, env=COMPILED)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report", "--fail-under=0" if session.posargs else "--fail-under=95")


@nox.session
def lint(session: nox.Session) -> None:
    """ruff, as linter and as judge of the formatting."""
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
    """SIGKILL, more often than the tests do it. `-- --cycles 300`: so many servers, then so many clients."""
    session.install("-e", ".[tests]")
    session.run("python", "-m", "tests.crash.run", *session.posargs)


@nox.session
def simulate(session: nox.Session) -> None:
    """The whole system from seeds. `-- --seeds 1000`, `-- --seed 42 --trace`, `-- --mutants`."""
    session.install("-e", ".[tests]")
    session.run("python", "-m", "tests.simulation.run", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Mutated input for all that faces the network. `-- --minutes 5`, `-- --seed 2 --target links`."""
    session.install("-e", ".[tests]")
    session.run("python", "-m", "tests.fuzz.run", *session.posargs)


@nox.session
def flood(session: nox.Session) -> None:
    """A real client registers while 10,000 spoofed handshakes come in each second; on a quiet machine."""
    session.install("-e", ".[tests]")
    session.run("python", "-m", "pytest", "tests/end_to_end/test_flood.py", env={"FLOOD": "10000"})


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Each benchmark's table, as this machine has it."""
    session.install("-e", ".")
    for benchmark in sorted(Path("benchmarks").glob("*.py")):
        session.run("python", str(benchmark))
