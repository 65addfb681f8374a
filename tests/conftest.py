"""Where the fixtures are; each file there has those of one thing."""

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
    "tests.fixtures.watch",
    "tests.fixtures.wire",
    "tests.fixtures.workers",
    "tests.fixtures.otlp",
]
