"""The daemon's settings: flag over KEKD_* environment over file over default."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar

import platformdirs
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from kekd_proto.address import DEFAULT_TCP_PORT, default_socket
from kekd_server.listen import Listener, parse
from kekd_server.storage.location import (
    DiskLocation,
    Location,
    MemoryLocation,
    S3Location,
    clean_prefix,
)


class SettingsError(Exception):
    """The settings can't be used. `problems` holds every one of them, a line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _split(value: object) -> object:
    """Lists are comma-separated in the environment."""
    return [word.strip() for word in value.split(",")] if isinstance(value, str) else value


def _distinct(values: list[Any]) -> list[Any]:
    if doubled := [str(value) for value in values if values.count(value) > 1]:
        raise ValueError(f"given twice: {doubled[0]}")
    return values


def _address(value: str) -> str:
    return str(parse(value))


def _named(value: object) -> object:
    if value == "" or "\0" in str(value):
        raise ValueError("no path: write that of a folder")
    return value


def _absolute(path: Path) -> Path:
    # Normalised as text, as the paths in requests are.
    return Path(os.path.normpath(path.expanduser().absolute()))


def _bucket(value: object) -> object:
    """`BUCKET[/PREFIX]`, in the place of a mapping."""
    if not isinstance(value, str):
        return value
    bucket, _, prefix = value.partition("/")
    return {"bucket": bucket, "prefix": prefix}


Value = TypeVar("Value")
Several = Annotated[list[Value], NoDecode, BeforeValidator(_split), AfterValidator(_distinct)]
Address = Annotated[str, AfterValidator(_address)]
Folder = Annotated[Path, BeforeValidator(_named), AfterValidator(_absolute)]
Endpoint = Annotated[str, Field(pattern="^https?://[^/]+/?$")]


class S3Settings(BaseModel):
    """One bucket, or a prefix in one. Without a region, AWS's own default chain names it."""

    model_config = ConfigDict(extra="forbid")

    bucket: str = Field(pattern=r"^[a-zA-Z0-9._-]{3,255}$")
    prefix: Annotated[str, AfterValidator(clean_prefix)] = ""
    region: str | None = None
    endpoint: Endpoint | None = None

    def __str__(self) -> str:
        return f"{self.bucket}/{self.prefix}"


Bucket = Annotated[S3Settings, BeforeValidator(_bucket)]


class Settings(BaseSettings):
    """What the daemon runs with. Each field is a flag, a KEKD_ variable and a key of the file."""

    model_config = SettingsConfigDict(env_prefix="KEKD_", env_ignore_empty=True, extra="forbid")

    listen: Several[Address] = Field(
        default_factory=lambda: [f"unix:{default_socket()}", f"127.0.0.1:{DEFAULT_TCP_PORT}"],
        min_length=1,
    )
    disk: Several[Folder] = []
    memory: bool = False
    s3: Several[Bucket] = []
    s3_region: str | None = None
    """For every bucket that names no region of its own; likewise the endpoint."""
    s3_endpoint: Endpoint | None = None
    log_format: Literal["text", "json"] = "text"
    shutdown_grace: Annotated[float, Field(ge=0, le=3600)] = 10.0
    """Seconds that calls in flight are given to finish."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  (the base class sets the signature)
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """`load` has already merged the sources, as it also tells where each value came from."""
        return (init_settings,)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not (self.disk or self.memory or self.s3):
            self.disk = [platformdirs.user_state_path("kekd") / "keystore"]
        for bucket in self.s3:
            bucket.region = bucket.region or self.s3_region
            bucket.endpoint = bucket.endpoint or self.s3_endpoint
        _distinct(self.locations)
        return self

    @property
    def listeners(self) -> list[Listener]:
        return [parse(address) for address in self.listen]

    @property
    def locations(self) -> list[Location]:
        """Of the stores, the default one first: disk before S3 before memory, each as given."""
        return [
            *(DiskLocation(str(path), os.path.realpath(path)) for path in self.disk),
            *(S3Location(s3.bucket, s3.prefix, s3.region, s3.endpoint) for s3 in self.s3),
            *([MemoryLocation()] if self.memory else []),
        ]


class Loaded(NamedTuple):
    settings: Settings
    origins: Mapping[str, str]
    """For each setting, where its value is from: `--listen`, `KEKD_LISTEN`, a file, `default`."""

    def __str__(self) -> str:
        """YAML that `--config` takes back."""
        values = self.settings.model_dump(mode="json", exclude_none=True)
        return "".join(
            f"# {self.origins[name]}\n{yaml.safe_dump({name: value}, allow_unicode=True)}"
            for name, value in values.items()
        )


def load(flags: Mapping[str, Any], file: Path | None) -> Loaded:
    """Raises `SettingsError` with all that is wrong, wherever it was set."""
    variables = EnvSettingsSource(Settings)()
    contents = _read(file) if file else {}
    origins = dict.fromkeys(Settings.model_fields, "default")
    origins |= {name: str(file) for name in contents}
    origins |= {name: f"KEKD_{name.upper()}" for name in variables}
    origins |= {name: f"--{name.replace('_', '-')}" for name in flags}
    try:
        return Loaded(Settings(**{**contents, **variables, **flags}), origins)
    except ValidationError as error:
        raise SettingsError(
            [_problem(origins, *e["loc"], text=e["msg"]) for e in error.errors()]
        ) from None


def _read(file: Path) -> dict[str, Any]:
    try:
        contents = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError([f"{file}: can't be read as YAML: {error}"]) from error
    if contents is None:  # nothing but comments
        return {}
    if not isinstance(contents, dict):
        raise SettingsError([f"{file}: must be a mapping of settings, such as 'memory: true'"])
    return {str(name): value for name, value in contents.items()}


def _problem(origins: Mapping[str, str], *where: int | str, text: str) -> str:
    text = text.removeprefix("Value error, ").replace(
        "Extra inputs are not permitted", "there is no such setting"
    )
    if not where:
        return text
    name, *rest = (str(part) for part in where)
    return f"{'.'.join([name, *rest])} (from {origins.get(name, 'default')}): {text}"
