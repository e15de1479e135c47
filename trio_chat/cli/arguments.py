"""How single arguments of the command line are read.

The commands that take them are in cli/main.py.
"""

import re

import click

IN_MEMORY = ":memory:"
"""Given as the path of a store: it is not kept in a file."""

_FINGERPRINT = re.compile("[a-z2-7]{4}(-[a-z2-7]{4}){3}")
_HOST_AND_PORT = re.compile(r"(?P<host>\[[^]]+\]|[^:]+):(?P<port>[0-9]{1,5})")


class _Port(click.IntRange):
    name = "port"  # in error messages and as the metavar


PORT = _Port(1, 65535)
ANY_PORT = _Port(0, 65535)
"""0 stands for any free port."""


def host(given: str) -> str:
    """Read a host: an address or a name. `[::1]` is `::1`, so that both find the same files."""
    return given[1:-1] if given.startswith("[") and given.endswith("]") else given


def host_and_port(given: str) -> tuple[str, int]:
    """Read HOST:PORT. An IPv6 address is written in brackets: `[::1]:8081`."""
    match = _HOST_AND_PORT.fullmatch(given)
    if match is None:
        raise click.BadParameter(f"{given!r} is not HOST:PORT")
    return host(match["host"]), int(match["port"])


class TakesServer(click.Command):
    """A command with the arguments SERVER-IP and SERVER-PORT, which may be typed as one: HOST:PORT."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words after the command."""
        # `--store x:1` is no server.
        before_values = {
            name
            for option in self.params
            if isinstance(option, click.Option) and not option.is_flag
            for name in option.opts
        }
        words: list[str] = []
        for word, before in zip(args, ["", *args], strict=False):
            match = None if before in before_values else _HOST_AND_PORT.fullmatch(word)
            words += [match["host"], match["port"]] if match and not word.startswith("-") else [word]
        return super().parse_args(ctx, words)


class TakesText(click.Command):
    """A command for a text of several words, which may begin with `#`: a shell gives it as one word in quotes only."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words after the command."""
        try:
            return super().parse_args(ctx, args)
        except click.MissingParameter as error:
            if not isinstance(error.param, click.Argument):
                raise
            # A shell takes an unquoted # and all after it as a comment.
            raise click.UsageError(f"{error.format_message()} Quote a # in a shell: '#lunch'", ctx) from error
        except click.UsageError as error:
            if type(error) is not click.UsageError:
                raise
            raise click.UsageError(f"{error.message}: put the text in quotes", ctx) from error


def port_is_an_argument(ctx: click.Context, option: click.Parameter, given: str | None) -> None:
    """Refuse `--port` where the port is an argument. Without this, click would suggest other options."""
    if given is not None:
        raise click.UsageError(f"the port is an argument: {ctx.command_path} {given}", ctx)


def key(given: str) -> str:
    """Read a fingerprint, in upper or lower case."""
    if not _FINGERPRINT.fullmatch(given.lower()):
        raise click.BadParameter(f"{given!r} is not a fingerprint, xxxx-xxxx-xxxx-xxxx")
    return given.lower()


def user_number(given: str) -> int:
    """Read the number by which somebody appears at the presence service."""
    if not re.fullmatch("[1-9][0-9]{0,17}", given):
        raise click.BadParameter(f"{given!r} is not a number from 1 on. Only a FRIEND may be a name.")
    return int(given)


def friend(given: str) -> int | str:
    """Read a friend: a number is a user of the presence service, anything else a name of the chat."""
    return int(given) if re.fullmatch("[0-9]{1,19}", given) else given
