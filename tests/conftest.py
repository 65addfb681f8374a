"""Where the fixtures are; each file there has those of one thing."""

from hypothesis import settings

settings.register_profile("kekd", deadline=None)  # a busy machine is no reason to fail
settings.load_profile("kekd")

pytest_plugins = [
    "tests.fixtures.broken_disk",
    "tests.fixtures.daemon",
    "tests.fixtures.dns",
    "tests.fixtures.forgetful_s3",
    "tests.fixtures.proxy",
    "tests.fixtures.s3",
    "tests.fixtures.kms",
    "tests.fixtures.notify",
    "tests.fixtures.machine",
    "tests.fixtures.metrics",
    "tests.fixtures.slow_s3",
    "tests.fixtures.tls",
    "tests.fixtures.credentials",
    "tests.fixtures.watch",
    "tests.fixtures.wire",
    "tests.fixtures.workers",
    "tests.fixtures.otlp",
]
