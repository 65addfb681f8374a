"""Builds the request of each method, and converts its response, for both kinds of client."""

from typing import TYPE_CHECKING

from kekd._operations.envelopes import create, delete, full_page, get, page, push
from kekd_common.lazy_exports import lazy_exports

# Imported on first use, because most programs need none of them.
if TYPE_CHECKING:
    from kekd._operations.batches import get_batches, push_batches, version_imports
    from kekd._operations.daemon import check_health, status
    from kekd._operations.history import (
        destroy,
        find_hold,
        hold,
        release,
        restore,
        undelete,
        version_page,
    )
    from kekd._operations.watching import watch
else:
    __getattr__, __dir__ = lazy_exports(
        globals(),
        {
            "kekd._operations.batches": ["get_batches", "push_batches", "version_imports"],
            "kekd._operations.daemon": ["check_health", "status"],
            "kekd._operations.history": [
                "destroy",
                "find_hold",
                "hold",
                "release",
                "restore",
                "undelete",
                "version_page",
            ],
            "kekd._operations.watching": ["watch"],
        },
    )

__all__ = [
    "check_health",
    "create",
    "delete",
    "destroy",
    "find_hold",
    "full_page",
    "get",
    "get_batches",
    "hold",
    "page",
    "push",
    "push_batches",
    "release",
    "restore",
    "status",
    "undelete",
    "version_imports",
    "version_page",
    "watch",
]
