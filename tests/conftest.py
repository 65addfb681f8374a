"""The fixtures that several folders use, one subject in each module."""

from hypothesis import settings

settings.register_profile("kekd", deadline=None)  # a busy machine must not fail a test
settings.load_profile("kekd")

pytest_plugins = [
    "tests.fixtures.daemon",
    "tests.fixtures.s3",
    "tests.fixtures.forgetful_s3",
    "tests.fixtures.kms",
    "tests.fixtures.metrics",
    "tests.fixtures.tls",
    "tests.fixtures.credentials",
    "tests.fixtures.workers",
]
