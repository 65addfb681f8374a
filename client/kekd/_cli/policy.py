"""`kekctl policy`: evaluates a daemon's policy."""

from pathlib import Path

import click

from kekd._cli.common import main
from kekd._cli.exit_codes import DENIED
from kekd._cli.options.global_options import global_options
from kekd._cli.output.output import Output, output_option
from kekd_common.install import install_command
from kekd_common.methods import METHODS, Method


@main.group()
def policy() -> None:
    """Evaluate a daemon's policy."""


@policy.command()
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="KEKD_CONFIG",
    show_envvar=True,
    required=True,
    help="The daemon's configuration file.",
)
@click.option(
    "--identity", required=True, help="Caller, as in the audit log, such as dns:db.example."
)
@click.option("--method", required=True, type=click.Choice(METHODS), help="Method to check.")
@click.option("--index", help="Index name (default: any, as at the start of a list or watch).")
@click.option(
    "--store", metavar="STORE", help="Store, as named in the daemon's log (default: any)."
)
@output_option
def check(  # noqa: PLR0913
    *,
    config: Path,
    identity: str,
    method: Method,
    index: str | None,
    store: str | None,
    output: Output,
) -> None:
    """Show which policy rule allows a call, without calling a daemon.

    Exits with 0 if the call is allowed, 7 if it is denied, and 2 if the file doesn't decide it.
    """
    if store is None and (given := global_options(click.get_current_context()).flags.get("store")):
        store = str(given)
    try:
        from kekd_common.policy import PolicyError, evaluate, read  # noqa: PLC0415  (of the daemon's extra)
    except ImportError:
        raise click.UsageError(
            f"cannot read policies: the daemon isn't installed; run {install_command('server')}"
        ) from None
    try:
        rules = read(config)
    except PolicyError as error:
        raise click.UsageError(str(error)) from None
    if rules is None:
        text = "no policy: local listeners allow every call, others none"
        output.show("", {"decision": "undecided", "rule": None}, [text])
        if not identity.startswith("listener:"):  # a certificate can be used on both
            click.get_current_context().exit(2)
        return
    rule = evaluate(rules, identity, method, store, index)
    if rule:
        content = {"decision": "allowed", "rule": rule.name}
        output.show(rule.name, content, [f"allowed by rule {rule.name}"])
        return
    text = f"denied: none of the {len(rules)} rules allows the call"
    output.show("", {"decision": "denied", "rule": None}, [text])
    click.get_current_context().exit(DENIED)
