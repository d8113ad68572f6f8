"""The command line: assembles the commands of all packages and turns errors into exit codes."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import click

from tickover import __version__
from tickover.errors import ExitCode, TickoverError
from tickover.ground.secrets import RedactingFormatter, redact_url

# Where commands come from, each package's `commands.COMMANDS`, in the order of help. One that is not there (a
# finished migration deletes shadow and reports) is skipped; one that cannot be imported is an error.
PACKAGES = ("digital_being", "async_tick", "shadow", "reports", "tickover.ground")
# The shell's codes for a process that was interrupted, or whose reader left.
INTERRUPTED, READER_LEFT = 130, 141


class PackagedCommands(click.Group):
    """The commands of all packages; only as many packages are imported as finding the command takes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, in the order of their packages."""
        return [command.name for package in PACKAGES for command in _commands(package) if command.name]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        # The ground comes first: what mends a broken installation must not import everything else.
        for package in reversed(PACKAGES):
            for command in _commands(package):
                if command.name == cmd_name:
                    return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command to run; for an unknown name the error suggests the closest."""
        name = args[0]
        command = self.get_command(ctx, name)
        if command is None and not name.startswith("-"):
            close = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f"did you mean {close[0]!r}?" if close else "`tickover --help` lists the commands"
            raise click.UsageError(f"there is no command {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)


def _commands(package: str) -> Iterator[click.Command]:
    parent, _, _ = package.partition(".")
    if importlib.util.find_spec(parent) is None or importlib.util.find_spec(f"{package}.commands") is None:
        return
    for command in importlib.import_module(f"{package}.commands").COMMANDS:
        _show_environment(command)
        yield command


def _show_environment(command: click.Command) -> None:
    """Have help name each option's environment variable."""
    for option in command.params:
        if isinstance(option, click.Option):
            option.show_envvar = True
    for child in command.commands.values() if isinstance(command, click.Group) else ():
        _show_environment(child)


@click.group(
    cls=PackagedCommands,
    context_settings={"auto_envvar_prefix": "TICKOVER", "help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(__version__, prog_name="tickover", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error (may stand anywhere).", show_envvar=True)
@click.pass_context
def main(context: click.Context, debug: bool) -> None:
    """Run a heavy job's old and new system side by side, compare, decide, switch, and go back.

    Exit codes: 0 ready or done, 1 not ready, 2 usage or configuration, 3 infrastructure or an internal error,
    4 keep running, 130 interrupted.
    """
    context.ensure_object(dict)["debug"] = debug


def run(arguments: list[str] | None = None) -> None:
    """Run a command (None: the one typed) and exit with its code: the console script."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in own or os.environ.get("TICKOVER_DEBUG", "").lower() in ("1", "true", "yes", "on")
    _configure_logging()
    sys.exit(_exit_code([word for word in own if word != "--debug"] + arguments[len(own) :], debug))


def _configure_logging() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter("%(levelname)s %(name)s: %(message)s"))
    level = os.environ.get("TICKOVER_LOG_LEVEL", "WARNING").upper()
    logging.basicConfig(level=level if level in logging.getLevelNamesMapping() else "WARNING", handlers=[handler])


def _exit_code(arguments: list[str], debug: bool) -> int:
    try:
        result: Any = main.main(args=arguments, prog_name="tickover", standalone_mode=False)
        sys.stdout.flush()
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return int(ExitCode.USAGE)
    except BrokenPipeError:
        # `tickover runs | head`: nobody reads on, and the interpreter must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_LEFT
    except TickoverError as error:
        return _report(f"error: {error}", int(error.exit_code), debug)
    except Exception as error:  # noqa: BLE001 - whatever a command did not foresee, shown to people
        hint = "" if debug else "; run it again with --debug for the traceback"
        return _report(f"internal error: {type(error).__name__}: {error}{hint}", int(ExitCode.INFRASTRUCTURE), debug)
    return int(result) if isinstance(result, int) else int(ExitCode.OK)


def _report(message: str, code: int, debug: bool) -> int:
    if debug:
        click.echo(redact_url(traceback.format_exc()), err=True, nl=False)
    click.echo(redact_url(message), err=True)
    return code


if __name__ == "__main__":
    run()
