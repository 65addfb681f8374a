"""The settings of one store on disk."""

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from kekd_server.config.history import HistorySettings
from kekd_server.config.types import FilePath, Several


class DiskSettings(BaseModel):
    """One keystore folder."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    path: FilePath
    history: HistorySettings | None = None

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> Any:
        return handler(self) if self.history else str(self.path)

    def __str__(self) -> str:
        return str(self.path)


def _folder(value: object) -> object:
    """Accepts a path instead of a mapping."""
    return {"path": value} if isinstance(value, str | Path) else value


def _require_distinct(folders: list[DiskSettings]) -> list[DiskSettings]:
    seen: dict[str, Path] = {}
    for folder in folders:
        if (other := seen.setdefault(os.path.realpath(folder.path), folder.path)) != folder.path:
            raise ValueError(f"'{folder}' is the same folder as '{other}'; remove one")
    return folders


Folder = Annotated[DiskSettings, BeforeValidator(_folder)]
Folders = Annotated[Several[Folder], AfterValidator(_require_distinct)]
