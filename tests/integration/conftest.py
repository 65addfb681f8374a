"""The fixtures of integration tests."""

from tests.integration.fixtures.broken_disk import broken_disk
from tests.integration.fixtures.proxy import start_proxy
from tests.integration.fixtures.slow_s3 import slow_s3
from tests.integration.fixtures.watch import open_watch
from tests.integration.fixtures.wire import shared_stub, stub

__all__ = ["broken_disk", "open_watch", "shared_stub", "slow_s3", "start_proxy", "stub"]
