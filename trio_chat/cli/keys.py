"""Where the command line keeps its files, and whose keys are in them: what `fingerprint` prints.

Its arguments are in cli/main.py, the handling of its errors in cli/running.py.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote

import click
import platformdirs

from trio_chat.errors import IdentityError
from trio_chat.protocol.records import check_name, fingerprint, fold
from trio_chat.storage.identity_file import read_identity
from trio_chat.storage.private_files import make_private_folder
from trio_chat.terminal.wordings import escape, show_address

_SERVER_KEY = re.compile(r"server-(?P<port>[0-9]{1,5})\.key")
_CLIENT_KEY = re.compile(r"(?P<name>[^@]+)@(?P<host>.+)_(?P<port>[0-9]{1,5})\.key")


def client_file(name: str, server: tuple[str, int], kind: str) -> Path:
    """The default file of a client. `kind`: db or key. Raises InvalidName."""
    check_name(name)  # `../../x` must not become part of a path
    host, port = server
    return _folder() / "clients" / f"{fold(name)}@{quote(host, safe='', errors='surrogateescape')}_{port}.{kind}"


def server_file(port: int, kind: str) -> Path:
    """The default file of the server at a port. `kind`: db or key."""
    return _folder() / f"server-{port}.{kind}"


def typed_lines_file() -> Path:
    """The file of the lines that are typed at a terminal. Its folder is made, unless that fails: then none are kept."""
    path = platformdirs.user_state_path("trio_chat") / "typed"
    with suppress(OSError):
        make_private_folder(path.parent)
    return path


def _folder() -> Path:
    return platformdirs.user_data_path("trio_chat", appauthor=False)


def fingerprint_of(path: Path) -> str:
    """The fingerprint of the keys in a file. Raises IdentityError if it cannot be read or does not exist."""
    identity = read_identity(path)
    if identity is None:
        raise IdentityError(f"there is no identity file {path} yet")
    return fingerprint(identity.public.signing)


def other_addresses(name: str, server: tuple[str, int]) -> list[str]:
    """Other hosts, with the same port, for which there is a key file of the name. Raises InvalidName."""
    own = client_file(name, server, "key")
    return [
        escape(show_address(address))
        for path, owner, address in _clients()
        if owner == fold(name) and address[1] == server[1] and path != own
    ]


def print_fingerprints() -> bool:
    """Print the fingerprint and the owner of each key file in the data folder; return whether all can be read."""
    all_readable = True
    clients = [(path, escape(f"{name}@{show_address(server)}")) for path, name, server in _clients()]
    key_files = [*clients, *_servers()]
    for path, owner in key_files:
        try:
            click.echo(f"{fingerprint_of(path)}  {owner}")
        except IdentityError as error:
            all_readable = False
            click.echo(f"{owner}: {error}", err=True)
    if not key_files:
        click.echo("There are no identities yet: clients and servers make theirs when they first start.", err=True)
    return all_readable


def _clients() -> Iterator[tuple[Path, str, tuple[str, int]]]:
    for path in sorted((_folder() / "clients").glob("*.key")):
        if found := _CLIENT_KEY.fullmatch(path.name):
            server = (unquote(found["host"], errors="surrogateescape"), int(found["port"]))
            yield path, found["name"], server


def _servers() -> Iterator[tuple[Path, str]]:
    for path in sorted(_folder().glob("server-*.key")):
        if found := _SERVER_KEY.fullmatch(path.name):
            yield path, f"server on port {found['port']}"
