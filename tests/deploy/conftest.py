"""The fixtures of the tests of deploy/."""

from tests.deploy.machine import machine
from tests.deploy.notify import manager

__all__ = ["machine", "manager"]
