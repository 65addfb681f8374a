"""Creates, unwraps and rotates key-encryption keys (KEKs), in your process.

from kekd import Client
from kekd.kek import Keyring, Registry

registry = Registry.from_yaml("/etc/cyborgdb/cyborgdb.yaml")
with Client() as client:
    kek, envelope = registry.provision("my_index", "prod", client=client)
    keyring = Keyring(registry, client)
    keyring.kek("my_index")  # 32 bytes
"""

from typing import TYPE_CHECKING

from kekd_common.lazy_exports import lazy_exports

# Imported on first use, because programs that need only `kekd.kek.errors` should start quickly.
if TYPE_CHECKING:
    from kekd.kek.bulk_rotation import rotate_all
    from kekd.kek.key_state import KeyStates
    from kekd.kek.keyring import AsyncKeyring, Keyring
    from kekd.kek.provider import KeyDescription, Provider, WrappedKek
    from kekd.kek.registry import Registry
    from kekd.kek.rotation import Failure, Rotation
    from kekd.kek.slot import Slot
    from kekd.kek.unwrap_check import UnwrapCheck, check_unwrap_all
else:
    __getattr__, __dir__ = lazy_exports(
        globals(),
        {
            "kekd.kek.bulk_rotation": ["rotate_all"],
            "kekd.kek.key_state": ["KeyStates"],
            "kekd.kek.keyring": ["AsyncKeyring", "Keyring"],
            "kekd.kek.provider": ["KeyDescription", "Provider", "WrappedKek"],
            "kekd.kek.registry": ["Registry"],
            "kekd.kek.rotation": ["Failure", "Rotation"],
            "kekd.kek.slot": ["Slot"],
            "kekd.kek.unwrap_check": ["UnwrapCheck", "check_unwrap_all"],
        },
    )

__all__ = [
    "AsyncKeyring",
    "Failure",
    "KeyDescription",
    "KeyStates",
    "Keyring",
    "Provider",
    "Registry",
    "Rotation",
    "Slot",
    "UnwrapCheck",
    "WrappedKek",
    "check_unwrap_all",
    "rotate_all",
]
