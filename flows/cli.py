"""The ``swath`` command; a subcommand imports what it needs when it is called."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from catalog.errors import SwathError
from flows.commands import archive, cubes, demo, encoders, methods, run, scenes

app = typer.Typer(
    name="swath",
    help="From satellite archives to versioned self-supervised encoders.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo")(demo.demo)
app.command("run")(run.run)
app.add_typer(archive.app, name="archive", help="The sandbox archive, or one over a folder of real GeoTIFFs.")
app.add_typer(scenes.app, name="scenes", help="The ledger: every scene ever seen, and its state.")
app.add_typer(cubes.app, name="cubes", help="Cubes and their snapshots.")
app.add_typer(encoders.app, name="encoders", help="Registered encoders.")
app.add_typer(methods.app, name="methods", help="Pretraining methods.")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("swath"))
        raise typer.Exit


def main() -> None:
    """Entry point: errors that a user can mend become one line on stderr and exit code 1 or 2."""
    try:
        app()
    except SwathError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
