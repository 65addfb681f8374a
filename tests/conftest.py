"""Where the fixtures are; each file there has those of one thing."""

pytest_plugins = [
    "tests.fixtures.daemon",
    "tests.fixtures.proxy",
    "tests.fixtures.s3",
    "tests.fixtures.wire",
]
