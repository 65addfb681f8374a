"""`kekctl version`: shows the versions of kekctl and of the daemon."""

import click

from kekd._cli.common import main, open_client
from kekd._cli.output.output import Output, output_option
from kekd_common.version import __version__


@main.command()
@click.option("--client", "only_client", is_flag=True, help="Don't call the daemon.")
@output_option
@click.pass_context
def version(context: click.Context, output: Output, *, only_client: bool) -> None:
    """Show the versions of kekctl and of the daemon."""
    versions = {"kekctl": __version__}
    try:
        if not only_client:
            versions["kekd"] = open_client(context).status().version
    finally:  # also without a daemon
        lines = (f"{name:<12}{value}" for name, value in versions.items())
        output.show(__version__, versions, lines)
