"""How long the versions of envelopes are kept."""

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

HistoryFailure: TypeAlias = Literal["deny", "allow"]
Versions: TypeAlias = Annotated[int, Field(ge=0, le=1000)]
Days: TypeAlias = Annotated[float, Field(ge=0, le=36500)]


class HistorySettings(BaseModel):
    """Where the history of one store differs from that of the others."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    versions: Versions | None = None
    days: Days | None = None
    on_failure: HistoryFailure | None = None
