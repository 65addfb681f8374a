"""The values of the envelope API."""

from typing import TYPE_CHECKING

from kekd._models.envelope import EnvelopeLike, GetResult, KMSBlob, Push, PushResult
from kekd._models.store import StorageConfig
from kekd_common.lazy_exports import lazy_exports

# Imported on first use: most programs need none of them, and defining a dataclass takes as long as
# importing a small module.
if TYPE_CHECKING:
    from kekd._models.event import Change, ChangeKind, Event, Resync
    from kekd._models.history import (
        DestroyedVersion,
        DestructionReceipt,
        EnvelopeVersion,
        Hold,
        RemainingVersion,
        VersionEvent,
    )
    from kekd._models.s3_credentials import S3Credentials
else:
    __getattr__, __dir__ = lazy_exports(
        globals(),
        {
            "kekd._models.event": ["Change", "ChangeKind", "Event", "Resync"],
            "kekd._models.history": [
                "DestroyedVersion",
                "DestructionReceipt",
                "EnvelopeVersion",
                "Hold",
                "RemainingVersion",
                "VersionEvent",
            ],
            "kekd._models.s3_credentials": ["S3Credentials"],
        },
    )

__all__ = [
    "Change",
    "ChangeKind",
    "DestroyedVersion",
    "DestructionReceipt",
    "EnvelopeLike",
    "EnvelopeVersion",
    "Event",
    "GetResult",
    "Hold",
    "KMSBlob",
    "Push",
    "PushResult",
    "RemainingVersion",
    "Resync",
    "S3Credentials",
    "StorageConfig",
    "VersionEvent",
]
