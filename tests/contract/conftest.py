"""The fixtures of contract tests."""

import pytest

from kekd_server.storage.history.retention import Retention
from kekd_server.storage.location import S3Location
from kekd_server.storage.s3.client import make_client
from kekd_server.storage.s3.driver import S3Driver
from tests.contract.scripted_s3 import BUCKET, ScriptedS3, scripted_s3
from tests.fixtures.s3 import REGION

__all__ = ["scripted_s3"]


@pytest.fixture
def driver(scripted_s3: ScriptedS3, aws_credentials: dict[str, str]) -> S3Driver:
    """A driver for the scripted server, without a history, whose requests no script expects."""
    location = S3Location(BUCKET, "", REGION, scripted_s3.endpoint)
    return S3Driver(make_client(location), location, retention=Retention(versions=0))
