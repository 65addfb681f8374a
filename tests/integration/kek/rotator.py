"""Rotates all indexes, and prints what became of each as soon as it is known.

python -m tests.integration.kek.rotator REGISTRY SLOT
"""

import sys

import kekd
from kekd.kek import Registry, Rotation, rotate_all

if __name__ == "__main__":
    registry = Registry.from_yaml(sys.argv[1])
    with kekd.Client() as client:
        for it in rotate_all(registry, sys.argv[2], client=client):
            outcome = it.outcome if isinstance(it, Rotation) else repr(it.error)
            print(it.index_name, outcome, flush=True)  # noqa: T201
