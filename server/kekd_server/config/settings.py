"""The daemon's settings: flag over KEKD_* environment over file over default."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from kekd_common.address import DEFAULT_TCP_PORT, default_socket, require_expanded, state_folder
from kekd_common.policy import DocumentError, Policy, load_yaml
from kekd_server.access.authorizer import OnFailure
from kekd_server.config.tls import INCOMPLETE, FilePath, TlsSettings
from kekd_server.listeners.engine import EngineName
from kekd_server.listeners.listener import Listener, insecurity_reason, parse
from kekd_server.listeners.tcp import TcpListener, TlsFiles
from kekd_server.storage.location import (
    AddressingStyle,
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
    names = [str(value) for value in values]
    if doubled := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"given twice: {doubled[0]}")
    return values


def _address(value: str) -> str:
    return str(parse(value))


def _port(value: str) -> str:
    if value.startswith("unix:"):
        raise ValueError(f"'{value}' is no port: write HOST:PORT or [IPV6]:PORT")
    return _address(value)


def _listen(value: object) -> object:
    """An address, in the place of a mapping."""
    return {"address": value} if isinstance(value, str) else value


def _bucket(value: object) -> object:
    """`BUCKET[/PREFIX]`, in the place of a mapping."""
    if not isinstance(value, str):
        return value
    bucket, _, prefix = value.partition("/")
    return {"bucket": bucket, "prefix": prefix}


Value = TypeVar("Value")
Several = Annotated[list[Value], BeforeValidator(_split), AfterValidator(_distinct)]
Address = Annotated[str, AfterValidator(_address)]
Expanded = Annotated[str, AfterValidator(require_expanded)]
Port = Annotated[str, AfterValidator(_port)]
Endpoint = Annotated[str, Field(pattern="^https?://[^/?#]+(/[^?#]*)?$")]


class ListenSettings(TlsSettings):
    """An address, and what differs there from the others: what speaks HTTP/2, TLS, and what callers
    without a certificate are known as to the policy.
    """

    address: Address
    engine: EngineName | None = None
    role: Annotated[str, Field(min_length=1)] | None = None

    @field_validator("address")
    @classmethod
    def _has_a_use_for_tls(cls, address: str, info: ValidationInfo) -> str:
        if address.startswith("unix:") and any(info.data.values()):  # those of TLS come first
            raise ValueError(f"'{address}' is a Unix socket, which has no TLS")
        return address

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> Any:
        return handler(self) if self.engine or self.role or self.tls else self.address

    def __str__(self) -> str:
        return self.address

    def listener(
        self, engine: EngineName, tls: TlsFiles | None, *, shared: bool = False
    ) -> Listener:
        """With the engine and TLS given, where it has none of its own."""
        return parse(
            self.address,
            self.engine or engine,
            shared=shared,
            tls=self.tls or tls,
            role=self.role,
        )


class AuditSettings(BaseModel):
    """Where the audit goes, and what becomes of what can't be recorded there."""

    model_config = ConfigDict(extra="forbid")

    file: FilePath | Literal["-"]
    """`-` is standard output."""
    on_failure: OnFailure | None = None
    """By default writes are denied, and reads aren't."""

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> Any:
        return handler(self) if self.on_failure else str(self.file)

    @property
    def path(self) -> Path | None:
        return None if self.file == "-" else self.file


class S3Settings(BaseModel):
    """One bucket, or a prefix in one. Without a region, AWS's own default chain names it."""

    model_config = ConfigDict(extra="forbid")

    bucket: str = Field(pattern=r"^[a-zA-Z0-9._-]{3,255}$")
    prefix: Annotated[Expanded, AfterValidator(clean_prefix)] = ""
    region: Expanded | None = None
    endpoint: Endpoint | None = None
    addressing_style: AddressingStyle | None = None

    def __str__(self) -> str:
        return f"{self.bucket}/{self.prefix}"


def _protected(listen: ListenSettings, info: ValidationInfo) -> ListenSettings:
    if not TlsSettings.model_fields.keys() <= info.data.keys():  # that is told already
        return listen
    tls = TlsSettings(**{it: info.data[it] for it in TlsSettings.model_fields}).tls
    if problem := insecurity_reason(listen.listener("auto", tls)):
        raise PydanticCustomError(INCOMPLETE, "{problem}", {"problem": problem})
    return listen


def _audit(value: object) -> object:
    """A file, in the place of a mapping."""
    return {"file": value} if isinstance(value, str) else value


Audit = Annotated[AuditSettings, BeforeValidator(_audit)]
Listen = Annotated[ListenSettings, BeforeValidator(_listen), AfterValidator(_protected)]
Bucket = Annotated[S3Settings, BeforeValidator(_bucket)]


class Settings(TlsSettings):
    """What the daemon runs with. Each field is a flag, a KEKD_ variable and a key of the file."""

    model_config = ConfigDict(extra="forbid", validate_default=True)

    listen: Several[Listen] = Field(
        default_factory=lambda: [
            ListenSettings(address=address)
            for address in (f"unix:{default_socket()}", f"127.0.0.1:{DEFAULT_TCP_PORT}")
        ],
        min_length=1,
    )
    engine: EngineName = "auto"
    """For every address that names none of its own."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that serve the TCP addresses; the first alone serves the sockets."""
    disk: Several[FilePath] = Field(default_factory=list)
    create_stores: bool = False
    """At a start, where there is no keystore, which may as well be a volume that isn't mounted. By
    default only the store that a daemon without any in its settings has.
    """
    memory: bool = False
    s3: Several[Bucket] = Field(default_factory=list)
    s3_region: Expanded | None = None
    """For every bucket that names no region of its own; likewise the endpoint."""
    s3_endpoint: Endpoint | None = None
    s3_addressing_style: AddressingStyle = "auto"
    """Where requests name the bucket, for every bucket that has no style of its own."""
    s3_poll: Annotated[float, Field(gt=0, le=86400)] = 30.0
    """Seconds from one look for others' changes to the next, while somebody watches for them."""
    policy: Policy | None = None
    """Without one, callers of local listeners may do anything and others nothing."""
    audit: Audit | None = None
    max_calls: Annotated[int, Field(ge=1)] = 1000
    """At once, in each process; likewise of watches."""
    max_rate: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Calls a second of one identity."""
    max_burst: Annotated[int, Field(ge=1)] = 100
    """Calls that an identity may make at once before that."""
    max_connection_age: Annotated[float, Field(ge=1, le=1e6)] | None = None
    """Seconds."""
    keepalive: Annotated[float, Field(ge=1, le=1e6)] | None = None
    """Seconds."""
    metrics: Port | None = None
    """Where Prometheus scrapes."""
    take_over: bool = False
    """Whether to end the daemon that serves one of the sockets, and to take its place."""
    log_format: Literal["text", "json"] = "text"
    shutdown_grace: Annotated[float, Field(ge=0, le=3600)] = 10.0
    """Seconds that calls in flight are given to finish."""

    # Each on a field, as those after are told together with whatever else is wrong.
    @field_validator("listen")
    @classmethod
    def _has_a_port_for_tls(
        cls, listen: list[ListenSettings], info: ValidationInfo
    ) -> list[ListenSettings]:
        if info.data.get("tls_cert") and all(it.address.startswith("unix:") for it in listen):
            raise ValueError("no HOST:PORT to speak TLS on: a Unix socket has none")
        return listen

    @field_validator("workers")
    @classmethod
    def _has_a_port(cls, workers: int, info: ValidationInfo) -> int:
        listen: list[ListenSettings] = info.data.get("listen", [])
        if workers > 1 and listen and all(it.address.startswith("unix:") for it in listen):
            raise ValueError("a Unix socket is served by one: listen on HOST:PORT as well")
        return workers

    @field_validator("memory")
    @classmethod
    def _is_one_memory(cls, memory: bool, info: ValidationInfo) -> bool:  # noqa: FBT001  (pydantic's)
        if memory and info.data.get("workers", 1) > 1:
            raise ValueError(
                "each worker would have a memory of its own: take one worker, or another store"
            )
        return memory

    @field_validator("audit")
    @classmethod
    def _has_an_output(
        cls, audit: AuditSettings | None, info: ValidationInfo
    ) -> AuditSettings | None:
        if audit and not audit.path and info.data.get("workers", 1) > 1:
            raise ValueError("workers have no standard output of their own: write it to a file")
        return audit

    @field_validator("max_connection_age", "keepalive")
    @classmethod
    def _can_be_kept(cls, seconds: float | None, info: ValidationInfo) -> float | None:
        listen: list[ListenSettings] = info.data.get("listen", [])
        if seconds and any((it.engine or info.data.get("engine")) == "native" for it in listen):
            raise ValueError("engine native can't: leave the engine to be chosen")
        return seconds

    @field_validator("take_over")
    @classmethod
    def _can_take_over(cls, take_over: bool, info: ValidationInfo) -> bool:  # noqa: FBT001  (pydantic's)
        if take_over and info.data.get("workers", 1) > 1:
            raise ValueError("workers start only when the addresses are free: take one worker")
        listen: list[ListenSettings] = info.data.get("listen", [])
        if take_over and listen and not any(one.address.startswith("unix:") for one in listen):
            raise ValueError(
                "no Unix socket to find the other daemon by: listen on the unix:PATH that it serves"
                " as well"
            )
        return take_over

    @field_validator("disk")
    @classmethod
    def _is_a_folder_each(cls, disk: list[Path]) -> list[Path]:
        folders: dict[str, Path] = {}
        for path in disk:
            if (other := folders.setdefault(os.path.realpath(path), path)) != path:
                raise ValueError(f"given twice: {path} leads to the same folder as {other}")
        return disk

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not (self.disk or self.memory or self.s3):
            self.disk = [state_folder() / "keystore"]
            # One to try kekd with. It is on no volume of its own, and nobody chose its place.
            if "create_stores" not in self.model_fields_set:
                self.create_stores = True
        for bucket in self.s3:
            bucket.region = bucket.region or self.s3_region
            bucket.endpoint = bucket.endpoint or self.s3_endpoint
        return self

    @property
    def listeners(self) -> list[Listener]:
        shared = self.workers > 1
        return [it.listener(self.engine, self.tls, shared=shared) for it in self.listen]

    @property
    def metrics_listener(self) -> TcpListener | None:
        listener = parse(self.metrics) if self.metrics else None
        return listener if isinstance(listener, TcpListener) else None

    @property
    def locations(self) -> list[Location]:
        """Of the stores, the default one first: disk before S3 before memory, each as given."""
        return [
            *(DiskLocation(str(path), os.path.realpath(path)) for path in self.disk),
            *(self._s3_location(s3) for s3 in self.s3),
            *([MemoryLocation()] if self.memory else []),
        ]

    def _s3_location(self, s3: S3Settings) -> S3Location:
        style = s3.addressing_style or self.s3_addressing_style
        return S3Location(s3.bucket, s3.prefix, s3.region, s3.endpoint, style)


_JSON_VARIABLES: Final = {"policy", "audit"}


class Loaded(NamedTuple):
    settings: Settings
    policy_file: Path | None
    """Where the policy is read anew, if it may come from there."""
    origins: Mapping[str, str]
    """For each setting, where its value is from: `--listen`, `KEKD_LISTEN`, a file, `default`."""

    def __str__(self) -> str:
        """YAML that `--config` takes back."""
        import yaml  # noqa: PLC0415  (rarely needed)

        values = self.settings.model_dump(mode="json", exclude_none=True)
        return "".join(
            f"# {self.origins[name]}\n{yaml.safe_dump({name: value}, allow_unicode=True)}"
            for name, value in values.items()
        )


def load(flags: Mapping[str, Any], file: Path | None) -> Loaded:
    """Raises `SettingsError` with all that is wrong, wherever it was set."""
    variables = _variables(os.environ)
    written: dict[str, Any] = {}
    problems = []
    try:
        written = load_yaml(file) if file else {}
    except DocumentError as error:
        problems.append(str(error))
    origins = dict.fromkeys(Settings.model_fields, "default")
    origins |= {name: str(file) for name in written}
    origins |= {name: f"KEKD_{name.upper()}" for name in variables}
    origins |= {name: f"--{name.replace('_', '-')}" for name in flags}
    try:
        settings = Settings(**{**written, **variables, **flags})
    except ValidationError as error:
        # What one setting lacks may be in the file, if that couldn't be read.
        told = [it for it in error.errors() if not problems or it["type"] != INCOMPLETE]
        problems += [_problem(origins, *it["loc"], text=it["msg"]) for it in told]
    except ValueError as error:  # of the default address, for a user without a home folder
        problems.append(str(error))
    if problems:
        raise SettingsError(problems)
    return Loaded(settings, None if "policy" in variables else file, origins)


def _variables(environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings among the variables, whose case doesn't matter. An empty one is as none."""
    given = {name.upper(): value for name, value in environment.items() if value}
    names = {name: f"KEKD_{name.upper()}" for name in Settings.model_fields}
    return {name: _decoded(name, given[it]) for name, it in names.items() if it in given}


def _decoded(name: str, value: str) -> Any:
    """Rules and mappings may be written as JSON."""
    if name not in _JSON_VARIABLES:
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _problem(origins: Mapping[str, str], *where: int | str, text: str) -> str:
    text = text.removeprefix("Value error, ").replace(
        "Extra inputs are not permitted", "there is no such setting"
    )
    if not where:
        return text
    name, *rest = (str(part) for part in where if part != "address")
    return f"{'.'.join([name, *rest])} (from {origins.get(name, 'default')}): {text}"
