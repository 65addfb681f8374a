"""The settings of one S3 store."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from kekd_server.config.history import HistorySettings
from kekd_server.config.types import Endpoint, Expanded
from kekd_server.storage.location import AddressingStyle, clean_prefix

_BUCKET_NAME: Final = re.compile(r"[a-zA-Z0-9._-]{3,255}")


def _bucket_name(name: str) -> str:
    if not _BUCKET_NAME.fullmatch(name):
        raise ValueError(
            "not the name of a bucket; use 3 to 255 letters, digits, dots, dashes and underscores"
        )
    return name


class S3Settings(BaseModel):
    """One bucket, or a prefix in one."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    bucket: Annotated[str, AfterValidator(_bucket_name)]
    prefix: Annotated[Expanded, AfterValidator(clean_prefix)] = ""
    region: Expanded | None = None
    endpoint: Endpoint | None = None
    addressing_style: AddressingStyle | None = None
    history: HistorySettings | None = None

    def __str__(self) -> str:
        return f"{self.bucket}/{self.prefix}"


def _bucket(value: object) -> object:
    """Accepts `BUCKET[/PREFIX]` instead of a mapping."""
    if not isinstance(value, str):
        return value
    bucket, _, prefix = value.partition("/")
    return {"bucket": bucket, "prefix": prefix}


Bucket = Annotated[S3Settings, BeforeValidator(_bucket)]
