"""`kekctl config`: selects and edits contexts."""

from pathlib import Path

import click

import kekd
from kekd._cli.common import main
from kekd._cli.contexts import KEYS, Context, Contexts
from kekd._cli.global_options import CONTEXT_OPTIONS, complete_context, global_options
from kekd._cli.output import Output, dry_run_option, output_option
from kekd._cli.parameters import Name, Store
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
    """List the contexts, and mark the current one."""
    contexts = Contexts.load()
    if contexts.current and contexts.current not in contexts.by_name:
        say(
            f"kekctl: warning: the current context '{contexts.current}' doesn't exist; choose one"
            " with 'kekctl config use-context'",
            error=True,
        )
    output.show_table(
        ("current", "name", *KEYS),
        (
            (
                name,
                {"name": name, "current": name == contexts.current, **context},
                ("*" if name == contexts.current else "", name, *_cells(context)),
            )
            for name, context in sorted(contexts.by_name.items())
        ),
    )


@config.command("current-context")
@output_option
def current_context(output: Output) -> None:
    """Show the name of the current context."""
    name = Contexts.load().current
    if not name:
        raise click.UsageError("no current context; choose one with 'kekctl config use-context'")
    output.show(name, {"name": name}, [name])


@config.command("set-context", params=[*CONTEXT_OPTIONS])
@click.argument("name", type=Name())
@click.option(
    "--store",
    type=Store(),
    metavar="STORE",
    help="Store that commands use: memory, disk:PATH or s3:BUCKET[/PREFIX].",
)
@dry_run_option
@output_option
@click.pass_context
def set_context(
    context: click.Context, name: str, store: kekd.StorageConfig | None, output: Output
) -> None:
    """Create the context NAME, or change the given options of it."""
    if "timeout" in global_options(context).flags:
        raise click.UsageError("a context has no timeout; omit --timeout")
    flags = {key: value for key, value in global_options(context).flags.items() if key in KEYS}
    given = _parse(flags | ({"store": store} if store else {}))
    if not given:
        raise click.UsageError(f"nothing to set; give one of --{', --'.join(KEYS)}")
    contexts = Contexts.load()
    contexts.by_name[name] = _checked(contexts.by_name.get(name, {}) | given)
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
    contexts.find(name)
    del contexts.by_name[name]
    if contexts.current == name:
        contexts.current = ""
    _save(contexts, name, "deleted", f"context '{name}' deleted", output)


def _parse(flags: dict[str, object]) -> Context:
    """Makes paths absolute, because a context is used from any folder."""
    context = {key: str(value) for key, value in flags.items()}
    for key in _FILES:
        if key in context:
            context[key] = str(Path(context[key]).absolute())
    if "address" in context:
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
    return {key: context[key] for key in KEYS if key in context}


def _save(contexts: Contexts, name: str, outcome: str, text: str, output: Output) -> None:
    if not output.is_dry_run:
        contexts.save()
    output.show_change(name, outcome, text, key="name")


def _cells(context: Context) -> list[str]:
    return [context.get(key, "-") for key in KEYS]
