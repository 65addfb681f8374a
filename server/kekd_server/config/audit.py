"""The settings of the audit log."""

from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_serializer,
)

from kekd_server.access.audit.auditor import OnFailure
from kekd_server.config.types import FilePath

_STANDARD_OUTPUT: Final = Path("-")
"""Differs from every file: their paths are absolute."""


def _accept_dash(value: object, validate: ValidatorFunctionWrapHandler) -> Path:
    return _STANDARD_OUTPUT if value == "-" else validate(value)


class AuditSettings(BaseModel):
    model_config = ConfigDict(extra="forbid", defer_build=True)

    file: Annotated[FilePath, WrapValidator(_accept_dash)]
    on_failure: OnFailure | None = None
    """By default, writes are denied and reads are allowed."""

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> Any:
        return handler(self) if self.on_failure else str(self.file)

    @property
    def path(self) -> Path | None:
        return None if self.file == _STANDARD_OUTPUT else self.file


def _audit(value: object) -> object:
    """Accepts a file instead of a mapping."""
    return {"file": value} if isinstance(value, str) else value


Audit = Annotated[AuditSettings, BeforeValidator(_audit)]
