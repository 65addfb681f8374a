"""`kekctl config`: selects and edits contexts."""

from pathlib import Path

import click

import kekd
from kekd._cli.common import main
from kekd._cli.contexts import KEYS, Context, Contexts
from kekd._cli.exit_codes import FAILED
from kekd._cli.global_options import CONTEXT_OPTIONS, complete_context, global_options
from kekd._cli.output import Output, Row, dry_run_option, output_option
from kekd._cli.parameters import Name, OrEmpty, Store
from kekd._cli.terminal import say
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
            f"kekctl: warning: {addresses.ADDRESS_VARIABLE} is set, so that commands ignore the"
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
    rows = [row for name in sorted(contexts.by_name) if (row := _row(contexts, name))]
    output.show_table(("current", "name", *KEYS), rows)
    if len(rows) < len(contexts.by_name):
        click.get_current_context().exit(FAILED)


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
    contexts.by_name[name] = _checked(previous | given)
    _save(contexts, name, "changed", f"context '{name}' saved in {contexts.path}", output)
    if contexts.current != name and output.is_text and not output.is_dry_run:
        say(f"kekctl: to use it: kekctl config use-context {name}", error=True)


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


def _checked(context: Context) -> Context:
    files = [context.get(key) for key in (*_FILES, "server-name")]
    try:
        tls = kekd.Tls.from_options(*files)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if tls and context.get("address", "").startswith("unix:"):
        raise click.UsageError("cannot use TLS with a Unix socket; give HOST:PORT as --address")
    return {key: context[key] for key in KEYS if context.get(key)}


def _save(contexts: Contexts, name: str, outcome: str, text: str, output: Output) -> None:
    if not output.is_dry_run:
        contexts.save()
    output.show_change(name, outcome, text, key="name")


def _row(contexts: Contexts, name: str) -> Row | None:
    """Reports an invalid context, and returns None for it."""
    try:
        context = contexts.find(name)
    except click.ClickException as error:
        say(f"kekctl: {error.message}", error=True)
        return None
    is_current = name == contexts.current
    cells = ["*" if is_current else "", name, *(context.get(key, "-") for key in KEYS)]
    return name, {"name": name, "current": is_current, **context}, cells
