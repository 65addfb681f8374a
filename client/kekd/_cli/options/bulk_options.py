"""Options of the commands that process many indexes."""

import click

from kekd._cli.options.parameters import Name
from kekd.kek.job_pool import DEFAULT_JOBS

all_option = click.option("--all", "every", is_flag=True, help="Every index of the store.")
many_prefix_option = click.option(
    "--prefix", type=Name(), metavar="TEXT", help="Every index whose name starts with this text."
)
jobs_option = click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    default=DEFAULT_JOBS,
    show_default=True,
    metavar="N",
    help="Number of indexes to process at once.",
)


def require_one(index: str | None, *, every: bool, prefix: str | None) -> None:
    """Raises a usage error unless exactly one of the three selects the indexes."""
    if [index is not None, every, prefix is not None].count(True) != 1:
        raise click.UsageError("give exactly one of INDEX, --all and --prefix")
