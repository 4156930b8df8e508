"""``swath methods``: the pretraining methods."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands.output import Json, print_json, print_table

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_methods(json: Json = False) -> None:
    """Every method with its skeleton, the products it is for, its recipe and its reference."""
    from models.methods import describe_methods

    methods = describe_methods()
    if json:
        print_json(methods)
        return
    print_table(
        ("method", "skeleton", "products", "recipe", "reference"),
        ((m["name"], m["skeleton"], ", ".join(m["products"]), m["recipe"], m["reference"]) for m in methods),
    )


@app.command("show")
def show_method(name: Annotated[str, typer.Argument(help="e.g. moco-v2")], json: Json = False) -> None:
    """One method with its options and their defaults."""
    from models.methods import describe_method

    method = describe_method(name)
    if json:
        print_json(method)
        return
    for key, value in method.items():
        if key == "options":
            typer.echo("options:")
            for option, schema in value.items():
                meaning = f"  {schema['description']}" if "description" in schema else ""
                typer.echo(f"  {option} = {schema.get('default')}{meaning}")
        else:
            typer.echo(f"{key}: {', '.join(value) if isinstance(value, list) else value}")
