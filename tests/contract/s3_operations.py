"""Every operation of the S3 driver, for tests of what all of them do."""

from collections.abc import Callable
from typing import Final

import pytest

from kekd_server.storage.s3.driver import S3Driver
from tests.contract.driver_contract import ALL, NAME
from tests.fixtures.writes import create, delete, put

RECORD: Final = b"a record"

_OPERATIONS: Final[dict[str, Callable[[S3Driver], object]]] = {
    "check": lambda driver: driver.check(),
    "get": lambda driver: driver.get(NAME),
    "create": lambda driver: create(driver, NAME, RECORD),
    "put": lambda driver: put(driver, NAME, RECORD, if_etag=None),
    "delete": lambda driver: delete(driver, NAME, if_etag=None),
    "list": lambda driver: driver.list(ALL, None, 10, listing="l"),
    "scan_objects": lambda driver: list(driver.scan_objects()),
    "find_object": lambda driver: driver.find_object(NAME),
}
each_operation = pytest.mark.parametrize("operate", _OPERATIONS.values(), ids=_OPERATIONS)
