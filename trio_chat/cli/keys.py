"""Where the command line keeps its files, and whose keys are in them: the program behind `fingerprint`.

The command itself is declared in cli/main.py, which also turns what is raised here into exit codes.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

import click
import platformdirs

from trio_chat.errors import IdentityError
from trio_chat.protocol.records import check_name, fingerprint, fold
from trio_chat.storage.identity_file import read_identity
from trio_chat.terminal.wordings import escape, show_address

__all__ = ["IN_MEMORY", "client_file", "fingerprint_of", "key", "server_file", "show_fingerprints"]

IN_MEMORY = ":memory:"
"""Said instead of a store's path: no file."""

_FINGERPRINT = re.compile("[a-z2-7]{4}(-[a-z2-7]{4}){3}")
_SERVER_KEY = re.compile(r"server-(?P<port>[0-9]{1,5})\.key")
_CLIENT_KEY = re.compile(r"(?P<name>[^@]+)@(?P<host>.+)_(?P<port>[0-9]{1,5})\.key")


def client_file(name: str, server: tuple[str, int], kind: str) -> Path:
    """Where the `kind` (db or key) of a client lies if nobody says otherwise. Raises InvalidName."""
    check_name(name)  # before it becomes a part of a file's name
    host, port = server
    return _folder() / "clients" / f"{fold(name)}@{quote(host, safe='', errors='surrogateescape')}_{port}.{kind}"


def server_file(port: int, kind: str) -> Path:
    """Where the `kind` (db or key) of a server lies if nobody says otherwise."""
    return _folder() / f"server-{port}.{kind}"


def _folder() -> Path:
    return platformdirs.user_data_path("trio_chat", appauthor=False)


def key(given: str) -> str:
    """The fingerprint that somebody has typed, as it is written."""
    if not _FINGERPRINT.fullmatch(given.lower()):
        raise click.BadParameter(f"{given!r} is not a fingerprint, xxxx-xxxx-xxxx-xxxx")
    return given.lower()


def fingerprint_of(path: Path) -> str:
    """The fingerprint of the keys in a file. Raises IdentityError, also if there is no file."""
    identity = read_identity(path)
    if identity is None:
        raise IdentityError(f"there is no identity file {path} yet")
    return fingerprint(identity.public.signing)


def show_fingerprints() -> bool:
    """Print the fingerprint of each identity in the data folder, and whose it is; return whether all can be read."""
    all_well, is_any = True, False
    for path, owner in (*_clients(), *_servers()):
        is_any = True
        try:
            click.echo(f"{fingerprint_of(path)}  {owner}")
        except IdentityError as error:
            all_well = False
            click.echo(f"{owner}: {error}", err=True)
    if not is_any:
        click.echo("There are no identities yet: clients and servers make theirs when they first start.", err=True)
    return all_well


def _clients() -> Iterator[tuple[Path, str]]:
    for path in sorted((_folder() / "clients").glob("*.key")):
        if found := _CLIENT_KEY.fullmatch(path.name):
            server = (unquote(found["host"], errors="surrogateescape"), int(found["port"]))
            yield path, escape(f"{found['name']}@{show_address(server)}")


def _servers() -> Iterator[tuple[Path, str]]:
    for path in sorted(_folder().glob("server-*.key")):
        if found := _SERVER_KEY.fullmatch(path.name):
            yield path, f"server on port {found['port']}"
