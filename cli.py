"""The command line: assembles the commands of all packages and turns errors into exit codes."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from typing import Any

import click

from tickover import __version__
from tickover.errors import ExitCode, TickoverError
from tickover.ground.secrets import redact_url

# Command -> the package whose `commands` module has it. A package that a finished migration deleted is skipped.
COMMANDS = {
    "servers": "tickover.ground", "db": "tickover.ground",
    "model": "digital_being",
    "worker": "async_tick", "once": "async_tick", "checkpoints": "async_tick", "status": "async_tick",
    "workflow": "async_tick", "serve": "async_tick",
    "shadow": "shadow", "runs": "shadow", "diff": "shadow", "findings": "shadow",
    "report": "reports",
}  # fmt: skip


class PackagedCommands(click.Group):
    """A group that imports a command's package only when the command is used, so that `--help` starts at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands whose packages are there."""
        return [name for name, package in COMMANDS.items() if _has_commands(package)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        package = COMMANDS.get(cmd_name)
        if package is None or not _has_commands(package):
            return None
        commands: list[click.Command] = importlib.import_module(f"{package}.commands").COMMANDS
        return next((command for command in commands if command.name == cmd_name), None)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command to run; for an unknown name the error suggests the closest."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            close = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "; `tickover --help` lists the commands"
            raise click.UsageError(f"there is no command {args[0]!r}{hint}", ctx) from error


def _has_commands(package: str) -> bool:
    top = package.partition(".")[0]
    return importlib.util.find_spec(top) is not None and importlib.util.find_spec(f"{package}.commands") is not None


@click.group(
    cls=PackagedCommands,
    context_settings={"auto_envvar_prefix": "TICKOVER", "help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(__version__, prog_name="tickover")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def main(context: click.Context, debug: bool) -> None:
    """Run a heavy job's old and new system side by side, compare, decide, switch, and go back.

    Exit codes: 0 ready or done, 1 not ready, 2 usage or configuration, 3 infrastructure, 4 keep running,
    130 interrupted.
    """
    context.ensure_object(dict)["debug"] = debug


def run(arguments: list[str] | None = None) -> None:
    """Run a command and exit with its code: the console script."""
    arguments = sys.argv[1:] if arguments is None else arguments
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    sys.exit(_exit_code(arguments))


def _exit_code(arguments: list[str]) -> int:
    try:
        result: Any = main.main(args=arguments, prog_name="tickover", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return int(ExitCode.USAGE)
    except TickoverError as error:
        if "--debug" in arguments:
            raise
        click.echo(f"error: {redact_url(str(error))}", err=True)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return 130
    return int(result) if isinstance(result, int) else int(ExitCode.OK)


if __name__ == "__main__":
    run()
