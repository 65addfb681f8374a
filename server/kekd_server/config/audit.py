"""The settings of the audit log."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from kekd_server.access.auditor import OnFailure
from kekd_server.config.types import FilePath


class AuditSettings(BaseModel):
    model_config = ConfigDict(extra="forbid")

    file: FilePath | Literal["-"]
    """`-` is standard output."""
    on_failure: OnFailure | None = None
    """By default, writes are denied and reads are allowed."""

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> Any:
        return handler(self) if self.on_failure else str(self.file)

    @property
    def path(self) -> Path | None:
        return None if self.file == "-" else self.file


def _audit(value: object) -> object:
    """Accepts a file instead of a mapping."""
    return {"file": value} if isinstance(value, str) else value


Audit = Annotated[AuditSettings, BeforeValidator(_audit)]
