"""Rotates all indexes, and prints each outcome immediately.

python -m tests.integration.kek.rotator REGISTRY SLOT
"""

import sys

import kekd
from kekd.kek import Registry, Rotation, rotate_all

if __name__ == "__main__":
    registry = Registry.from_yaml(sys.argv[1])
    with kekd.Client() as client:
        for result in rotate_all(registry, sys.argv[2], client=client):
            outcome = result.outcome if isinstance(result, Rotation) else repr(result.error)
            print(result.index_name, outcome, flush=True)  # noqa: T201
