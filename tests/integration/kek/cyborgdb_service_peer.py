"""The KEK layer of CyborgDB Service, on a kekd daemon instead of cyborgdb_core.

Reads a JSON list of a function and its arguments from each line of stdin, and answers with a JSON
object. KEKs are in hex. It is a separate process, because the service reads its settings on import
and its registry only once.

python -m tests.integration.kek.cyborgdb_service_peer KEYSTORE
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from typing import Any

import cyborgdb_core

import kekd.cyborgdb

indexes: Any = import_module("cyborgdb_service.indexes")  # untyped
config = cyborgdb_core.StorageConfig.disk(sys.argv[1])
kekd.cyborgdb.install()

rekeyed: list[list[str]] = []


def rotate_index_kek(_: kekd.StorageConfig, index_name: str, old: bytes, new: bytes) -> None:
    """Replaces cyborgdb_core's function, which wraps the data key of a real index under a new KEK.

    There are no indexes here, only envelopes.
    """
    rekeyed.append([index_name, old.hex(), new.hex()])


cyborgdb_core.rotate_index_kek = rotate_index_kek


def provision(index_name: str, slot: str | None = None, kek: str | None = None) -> str:
    own = bytearray.fromhex(kek) if kek else None
    answer = indexes.provision_index(index_name, slot, config_location=config, client_kek=own)
    return bytes(answer).hex()


def load(index_name: str, kek: str | None = None) -> str:
    indexes.kek_cache.reset_for_tests()
    own = bytearray.fromhex(kek) if kek else None
    answer = indexes.load_index_kek(index_name, config_location=config, client_kek=own)
    return bytes(answer).hex()


def delete(index_name: str) -> None:
    indexes.delete_index_kms(index_name, config_location=config)


def sync(*index_names: str) -> dict[str, Any]:
    """Returns what it reports, and the KEKs that it wrapped again, old and new."""
    report = indexes.sync_with_yaml(
        config_location=config, client_list_indexes=lambda: list(index_names)
    )
    return asdict(report) | {"rekeyed": rekeyed}


CALLS: dict[str, Callable[..., Any]] = {
    "provision": provision,
    "load": load,
    "delete": delete,
    "sync": sync,
}

if __name__ == "__main__":
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer = {"result": CALLS[name](*arguments)}
        except Exception as error:  # noqa: BLE001  (the test wants to see which)
            answer = {"kinds": [kind.__name__ for kind in type(error).mro()], "text": str(error)}
        print(json.dumps(answer), flush=True)  # noqa: T201
