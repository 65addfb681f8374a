"""The cache of a client, and the watch that keeps it correct."""

from typing import TYPE_CHECKING, Final

from kekd_common.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from kekd._cache.watcher import ThreadCacheManager
else:
    __getattr__, __dir__ = lazy_exports(globals(), {"kekd._cache.watcher": ["ThreadCacheManager"]})

__all__ = ["DEFAULT_MAX_STALENESS", "ThreadCacheManager"]

DEFAULT_MAX_STALENESS: Final = 10.0
"""Here, because every client has this default, and most have no cache."""
