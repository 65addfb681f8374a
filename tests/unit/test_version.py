"""The version has one source, which the metadata of the installed package repeats."""

from importlib.metadata import version

import click
import pytest
from click.testing import CliRunner

import kekd
from kekd._cli.common import main as kekctl
from kekd_server.command import main as daemon


def test_version_of_the_package_is_that_of_its_metadata() -> None:
    assert kekd.__version__ == version("kekd")


@pytest.mark.parametrize("command", [daemon, kekctl], ids=["kekd", "kekctl"])
def test_version_of_a_command_is_that_of_the_package(command: click.Command) -> None:
    assert CliRunner().invoke(command, ["--version"]).stdout.split()[-1] == kekd.__version__
