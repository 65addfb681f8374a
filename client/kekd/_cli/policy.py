"""How a daemon's policy decides."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from kekd._cli.common import DENIED, main
from kekd._cli.terminal import say

if TYPE_CHECKING:
    from kekd_common.policy import Method

METHODS: Final = ("read", "list", "create", "push", "delete", "delete-if-match", "watch")


@main.group()
def policy() -> None:
    """Look at a daemon's policy."""


@policy.command()
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="KEKD_CONFIG",
    show_envvar=True,
    required=True,
    help="The daemon's configuration.",
)
@click.option("--identity", required=True, help="Who asks, as the audit has it: dns:db.example.")
@click.option("--method", required=True, type=click.Choice(METHODS), help="What for.")
@click.option("--index", help="Of which index. Default: of any, as a listing or a watch begins.")
@click.option(
    "--store", metavar="STORE", help="Where, as the daemon's log has it. Default: anywhere."
)
def check(
    config: Path,
    identity: str,
    method: "Method",
    index: str | None,
    store: str | None,
) -> None:
    """Say which rule decides, by the daemon's own function. No daemon is asked.

    Exit code 0 if it is allowed, 7 if it is denied, and 2 if there is no policy to tell.
    """
    try:
        from kekd_common.policy import PolicyError, evaluate, read  # noqa: PLC0415  (of the daemon's extra)
    except ImportError:
        raise click.UsageError(
            "policies are read with what the daemon needs: pip install 'kekd[server]'"
        ) from None
    try:
        rules = read(config)
    except PolicyError as error:
        raise click.UsageError(str(error)) from None
    if rules is None:
        say("no policy: local listeners allow everything, others nothing")
        if not identity.startswith("listener:"):  # a certificate is shown to either
            click.get_current_context().exit(2)
        return
    rule = evaluate(rules, identity, method, store, index)
    if rule:
        say(f"allowed by rule {rule.name}")
        return
    say(f"denied: none of the {len(rules)} rules allows it")
    click.get_current_context().exit(DENIED)
