"""The fixtures of the tests of deploy/."""

from tests.deploy.chart import example
from tests.deploy.machine import machine
from tests.deploy.notify import manager

__all__ = ["example", "machine", "manager"]
