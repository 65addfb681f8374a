"""Files that CyborgDB leaves beside the records when it is killed."""

import os
import re
from pathlib import Path

from kekd_server.model.index_name import IndexName
from kekd_server.storage.history.destruction import RemainingVersion


def find_unfinished(records: Path, name: IndexName) -> list[RemainingVersion]:
    """Finds the files that CyborgDB writes before it renames them to the record. Reads the whole
    folder: 0.3 s for a million records. Raises OSError.
    """
    is_unfinished = re.compile(rf"{re.escape(name.key)}\.\d+\.\d+\.tmp").fullmatch
    why = "cyborgdb_core has not finished this file; remove it when its process has ended"
    with os.scandir(records) as entries:
        found = [entry.path for entry in entries if is_unfinished(entry.name)]
    return [RemainingVersion(path, why) for path in sorted(found)]
