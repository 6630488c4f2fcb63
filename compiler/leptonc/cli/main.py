"""The `leptonc` command: its subcommands, imported when they are asked for, and its exit status."""

from __future__ import annotations

import contextlib
import gc
import importlib
import sys
import warnings
from collections.abc import Generator
from typing import Any

import click

from leptonc import __version__

COMMANDS = ("bench", "check", "compile", "inspect", "optimize", "passes", "run")
EXIT_ERROR, EXIT_BUG, EXIT_INTERRUPTED = 1, 70, 130


class LazyGroup(click.Group):
    """Subcommands live in modules of their own, so that none pays for the others' imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands by name."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called so."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"leptonc.cli.{cmd_name}_command")
        return module.command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command, naming the nearest one where there is none."""
        import difflib

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="leptonc")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, *, debug: bool) -> None:
    """Compile neural networks (ONNX) into artefacts that run fast.

    \b
    leptonc compile model.onnx -o model.lepton
    leptonc run model.lepton --random 0
    """
    ctx.obj = {"debug": debug}


@contextlib.contextmanager
def collecting_seldom() -> Generator[None]:
    """Within it, Python seldom looks for garbage.

    Among the millions of objects of a large graph that takes a sixth of the time and finds next to
    nothing.
    """
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _tell(message: Warning | str, *_: object, **__: object) -> None:
    """Show a notice as one line, without the code it came from."""
    click.echo(f"warning: {message}", err=True)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 the user's error, 2 usage, 70 a bug of ours."""
    from leptonc.ir.diagnostics import LeptonBug, LeptonError

    given = sys.argv[1:] if arguments is None else arguments
    try:
        with warnings.catch_warnings(), collecting_seldom():
            warnings.showwarning = _tell
            cli.main(args=given, prog_name="leptonc", standalone_mode=False)
    except click.ClickException as problem:
        problem.show()
        sys.exit(problem.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except (LeptonError, LeptonBug) as error:
        if "--debug" in given:
            raise
        click.echo(str(error), err=True)
        sys.exit(EXIT_BUG if isinstance(error, LeptonBug) else EXIT_ERROR)
    except BrokenPipeError:
        sys.exit(EXIT_ERROR)
    except Exception as crash:
        if "--debug" in given:
            raise
        click.echo(f"bug in leptonc: {type(crash).__name__}: {crash}", err=True)
        click.echo(
            "  note: leptonc --debug ... shows where; please report it with the model", err=True
        )
        sys.exit(EXIT_BUG)
