"""`kekctl config`: selects and edits contexts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

import kekd
from kekd._cli.common import main
from kekd._cli.exit_codes import FAILED
from kekd._cli.options.contexts import KEYS, Context, Contexts
from kekd._cli.options.global_options import CONTEXT_OPTIONS, complete_context, global_options
from kekd._cli.options.parameters import Name, OrEmpty, Store
from kekd._cli.output.output import Output, Row, dry_run_option, output_option
from kekd._cli.output.terminal import say
from kekd._cli.output.yaml_format import yaml_lines
from kekd._transport import address as addresses

_FILES = ("ca", "cert", "key")


@main.group()
def config() -> None:
    """Manage contexts: named daemons, with their TLS files and store.

    They are in ~/.config/kekd/contexts.json, or in the file of the variable KEKCTL_CONFIG.
    """


@config.command("use-context")
@click.argument("name", type=Name(), shell_complete=complete_context)
@dry_run_option
@output_option
def use_context(name: str, output: Output) -> None:
    """Make the context NAME the current one."""
    contexts = Contexts.load()
    contexts.find(name)
    contexts.current = name
    _save(contexts, name, "changed", f"switched to context '{name}'", output)
    if "address" in global_options(click.get_current_context()).variables:
        say(
            f"kekctl: warning: {addresses.ADDRESS_VARIABLE} is set, so commands ignore the"
            " current context; unset it",
            error=True,
        )


@config.command("get-contexts")
@output_option
def get_contexts(output: Output) -> None:
    """List the contexts, and mark the current one.

    If a context is invalid, the command reports it, lists the others, and exits with 1.
    """
    contexts = Contexts.load()
    if contexts.current and contexts.current not in contexts.by_name:
        say(
            f"kekctl: warning: the current context '{contexts.current}' doesn't exist; choose one"
            " with 'kekctl config use-context'",
            error=True,
        )
    rows, errors = _list_contexts(contexts)
    output.show_table(("current", "name", *KEYS), rows)
    _exit_if_invalid(errors)


@config.command()
@output_option
@click.pass_context
def view(context: click.Context, output: Output) -> None:
    """Show the contexts, and the connection that a command with the same options would use.

    The connection says where each value is from: an option, a variable, a context or the default.
    It shows no secrets: TLS keys stay in their files. If a context is invalid, the command reports
    it, shows the others, and exits with 1.
    """
    contexts = Contexts.load()
    rows, errors = _list_contexts(contexts)
    content: dict[str, Any] = {
        "file": str(contexts.path),
        "current-context": contexts.current,
        "contexts": [described for _, described, _ in rows],
    }
    try:
        content["connection"] = _connection(global_options(context).layers)
    except click.ClickException as error:
        errors.append(error.message)
    output.show(contexts.current, content, yaml_lines(content), indent=2)
    _exit_if_invalid(errors)


@config.command("current-context")
@output_option
def current_context(output: Output) -> None:
    """Show the name of the current context."""
    name = Contexts.load().current
    if not name:
        raise click.UsageError("no current context; choose one with 'kekctl config use-context'")
    output.show(name, {"name": name}, [name])


@config.command()
@click.argument("key", type=click.Choice(["current-context"]))
@dry_run_option
@output_option
def unset(key: str, output: Output) -> None:
    """Make no context the current one. The contexts stay."""
    contexts = Contexts.load()
    contexts.current = ""
    _save(contexts, key, "changed", "switched to no context", output)


@config.command("set-context", params=[*CONTEXT_OPTIONS])
@click.argument("name", type=Name())
@click.option(
    "--store",
    type=OrEmpty(Store()),
    metavar="STORE",
    help="Store that commands use: memory, disk:PATH or s3:BUCKET[/PREFIX].",
)
@dry_run_option
@output_option
@click.pass_context
def set_context(
    context: click.Context, name: str, store: kekd.StorageConfig | str | None, output: Output
) -> None:
    """Create the context NAME, or change the given options of it.

    An empty value, such as --ca '', removes an option from the context.
    """
    if "timeout" in global_options(context).flags:
        raise click.UsageError("a context has no timeout; omit --timeout")
    flags = {key: value for key, value in global_options(context).flags.items() if key in KEYS}
    given = _parse(flags | ({} if store is None else {"store": store}))
    if not given:
        raise click.UsageError(f"nothing to set; give one of --{', --'.join(KEYS)}")
    contexts = Contexts.load()
    previous = contexts.find(name) if name in contexts.by_name else {}
    contexts.by_name[name] = _validated(previous | given)
    _save(contexts, name, "changed", f"context '{name}' saved in {contexts.path}", output)
    if contexts.current != name and output.is_text and not output.is_dry_run:
        say(f"kekctl: to use it: kekctl config use-context {name}", error=True)


@config.command("rename-context")
@click.argument("name", type=Name(), shell_complete=complete_context)
@click.argument("new_name", type=Name())
@dry_run_option
@output_option
def rename_context(name: str, new_name: str, output: Output) -> None:
    """Rename the context NAME to NEW_NAME. The current context stays current."""
    contexts = Contexts.load()
    contexts.require(name)
    if new_name in contexts.by_name:
        raise click.UsageError(
            f"cannot rename context '{name}': context '{new_name}' exists; choose another name, or"
            f" delete it with 'kekctl config delete-context {new_name}'"
        )
    contexts.by_name[new_name] = contexts.by_name.pop(name)
    if contexts.current == name:
        contexts.current = new_name
    text = f"context '{name}' renamed to '{new_name}'"
    _save(contexts, new_name, "changed", text, output)


@config.command("delete-context")
@click.argument("name", type=Name(), shell_complete=complete_context)
@dry_run_option
@output_option
def delete_context(name: str, output: Output) -> None:
    """Delete the context NAME. Its files stay."""
    contexts = Contexts.load()
    contexts.require(name)
    del contexts.by_name[name]
    if contexts.current == name:
        contexts.current = ""
    _save(contexts, name, "deleted", f"context '{name}' deleted", output)


def _parse(flags: dict[str, object]) -> Context:
    """Makes paths absolute, because a context is used from any folder."""
    context = {key: str(value) for key, value in flags.items()}
    for key in _FILES:
        if context.get(key):
            context[key] = str(Path(context[key]).absolute())
    if context.get("address"):
        try:
            context["address"] = addresses.resolve(context["address"])
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    return context


def _validated(context: Context) -> Context:
    options = [context.get(key) for key in (*_FILES, "server-name")]
    try:
        tls = kekd.Tls.from_options(*options)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    address = context.get("address", "")
    if tls and address.startswith("unix:"):
        raise click.UsageError(
            f"cannot use TLS with the Unix socket {address}; set --address to HOST:PORT, or omit"
            " --ca, --cert, --key and --server-name ('' removes one from the context)"
        )
    return {key: context[key] for key in KEYS if context.get(key)}


def _save(contexts: Contexts, name: str, outcome: str, text: str, output: Output) -> None:
    if not output.is_dry_run:
        contexts.save()
    output.show_change(name, outcome, text, key="name")


def _connection(layers: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, str]]:
    """Returns each value with its origin. An empty value hides those of the later layers."""
    found: dict[str, dict[str, str]] = {}
    for key in KEYS:
        origin = next((origin for origin, values in layers.items() if key in values), None)
        if origin and (value := str(layers[origin][key])):
            found[key] = {"value": value, "from": origin}
    default = {"value": addresses.resolve(None), "from": "default"}
    return {"address": default} | found


def _list_contexts(contexts: Contexts) -> tuple[list[Row], list[str]]:
    """Returns the contexts, and the errors of those that are invalid."""
    rows: list[Row] = []
    errors: list[str] = []
    for name in sorted(contexts.by_name):
        try:
            rows.append(_describe_context(contexts, name))
        except click.ClickException as error:
            errors.append(error.message)
    return rows, errors


def _exit_if_invalid(errors: Sequence[str]) -> None:
    """Prints each error once, and ends the command if there are any."""
    for error in dict.fromkeys(errors):
        say(f"kekctl: {error}", error=True)
    if errors:
        click.get_current_context().exit(FAILED)


def _describe_context(contexts: Contexts, name: str) -> Row:
    context = contexts.find(name)
    is_current = name == contexts.current
    cells = ["*" if is_current else "", name, *(context.get(key, "-") for key in KEYS)]
    return name, {"name": name, "current": is_current, **context}, cells
