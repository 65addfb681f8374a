"""The settings of TLS, which all TCP addresses share or one has for itself."""

import os
from pathlib import Path
from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from kekd_common.address import require_expanded
from kekd_server.listeners.tcp import TlsFiles

INCOMPLETE: Final = "incomplete"
"""The kind of problem that another setting, wherever it is, would put an end to."""


def _named(value: object) -> object:
    if value == "" or "\0" in str(value):
        raise ValueError("no path: write one")
    require_expanded(str(value))
    return value


def _absolute(path: Path) -> Path:
    try:
        full = path.expanduser().absolute()
    except (RuntimeError, FileNotFoundError) as error:  # no such user, or no folder to start from
        raise ValueError(f"{str(path)!r} leads nowhere: write it from / on") from error
    # Normalised as text, as the paths in requests are.
    plain = Path(os.path.normpath(full))
    if not str(plain).isprintable():
        raise ValueError(f"{str(plain)!r} can't be written as text: take another path")
    if os.path.realpath(plain) != (real := os.path.realpath(full)):
        raise ValueError(f"{str(path)!r} leads past a link and back: write {real}")
    return plain


FilePath = Annotated[Path, BeforeValidator(_named), AfterValidator(_absolute)]
Needed = Annotated[FilePath | None, Field(validate_default=True)]


class TlsSettings(BaseModel):
    """Where the certificates are. Whether they can be used is seen when they are."""

    model_config = ConfigDict(extra="forbid")

    tls_cert: FilePath | None = None
    tls_key: Needed = None
    tls_client_ca: FilePath | None = None

    @field_validator("tls_key")
    @classmethod
    def _is_of_a_pair(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        cert = info.data.get("tls_cert", key)
        if cert and not key:
            raise PydanticCustomError(INCOMPLETE, "tls_cert needs it: give both")
        if key and not cert:
            raise PydanticCustomError(INCOMPLETE, "it needs tls_cert: give both")
        return key

    @field_validator("tls_client_ca")
    @classmethod
    def _has_a_pair(cls, client_ca: Path | None, info: ValidationInfo) -> Path | None:
        if client_ca and "tls_cert" in info.data and not info.data["tls_cert"]:
            raise PydanticCustomError(INCOMPLETE, "it needs tls_cert and tls_key: give all three")
        return client_ca

    @property
    def tls(self) -> TlsFiles | None:
        if self.tls_cert and self.tls_key:
            return TlsFiles(self.tls_cert, self.tls_key, self.tls_client_ca)
        return None
