"""The daemon's settings."""

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from kekd_common.address import DEFAULT_TCP_PORT, default_socket, state_folder
from kekd_common.policy import Policy
from kekd_server.config.audit import Audit
from kekd_server.config.disk import DiskSettings, Folders
from kekd_server.config.flag import Flag
from kekd_server.config.history import Days, HistoryFailure, HistorySettings, Versions
from kekd_server.config.listen import Listen, ListenSettings
from kekd_server.config.metrics import Metrics
from kekd_server.config.s3 import Bucket, S3Settings
from kekd_server.config.tls import TlsSettings
from kekd_server.config.types import Endpoint, Expanded, Seconds, Several, lower
from kekd_server.listeners.engine import EngineName
from kekd_server.listeners.listener import Listener
from kekd_server.listeners.tcp import TcpListener
from kekd_server.storage.history.retention import Retention
from kekd_server.storage.location import (
    AddressingStyle,
    DiskLocation,
    Location,
    MemoryLocation,
    S3Location,
)


def _default_addresses() -> list[ListenSettings]:
    addresses = f"unix:{default_socket()}", f"127.0.0.1:{DEFAULT_TCP_PORT}"
    return [ListenSettings(address=address) for address in addresses]


class Settings(TlsSettings):
    """Each field is a key of the file and a KEKD_ variable, and with a `Flag` also a flag.

    `config.loader` checks the rules for combinations of settings.
    """

    model_config = ConfigDict(extra="forbid", defer_build=True, validate_default=True)

    listen: Annotated[
        Several[Listen],
        Field(min_length=1),
        Flag(
            "Address to serve: unix:PATH or HOST:PORT. Outside loopback, all three --tls flags are"
            " required",
            "ADDRESS",
            f"the user's socket, and 127.0.0.1:{DEFAULT_TCP_PORT}",
        ),
    ] = Field(default_factory=_default_addresses)
    engine: Annotated[EngineName, Flag("gRPC server implementation. auto selects grpcio")] = "auto"
    workers: Annotated[
        int, Field(ge=1, le=64), Flag("Number of processes that serve the TCP addresses", "N")
    ] = 1
    disk: Annotated[
        Folders,
        Flag(
            "CyborgDB keystore folder. The first is the default store",
            "PATH",
            "~/.local/state/kekd/keystore, if there is no other store",
        ),
    ] = Field(default_factory=list)
    create_stores: Annotated[
        bool,
        Flag(
            "Create missing keystores at startup. See also 'kekd init'",
            default="no, except for the default keystore",
        ),
    ] = False
    memory: Annotated[bool, Flag("Add a store in memory, which is lost when the daemon ends")] = (
        False
    )
    s3: Annotated[
        Several[Bucket],
        Flag("S3 bucket. Buckets with different endpoints require --config", "BUCKET[/PREFIX]"),
    ] = Field(default_factory=list)
    s3_region: Annotated[
        Expanded | None,
        Flag("Region of buckets that have none of their own", "REGION", "AWS's own chain"),
    ] = None
    s3_endpoint: Annotated[
        Endpoint | None,
        Flag("Endpoint of an S3-compatible server, for buckets that have none", "URL", "AWS"),
    ] = None
    s3_addressing_style: Annotated[
        AddressingStyle,
        Flag(
            "Whether requests name the bucket in the path or in the host. auto selects the path"
            " for a custom endpoint"
        ),
    ] = "auto"
    s3_poll: Annotated[
        Seconds,
        Field(gt=0, le=86400),
        Flag(
            "Time between listings of a bucket while a client watches it, to notice the writes of"
            " other programs. Those of other daemons are usually noticed within 2 s",
            "DURATION",
            "5m",
        ),
    ] = 300.0
    history_versions: Annotated[
        Versions,
        Flag(
            "Versions of each envelope to keep, the current one included, for stores that don't"
            " set it themselves. 0 keeps no history",
            "N",
        ),
    ] = 10
    history_days: Annotated[
        Days,
        Flag(
            "Days to keep a version after another one replaced it, or after its envelope was"
            " deleted. 0 keeps no history",
            "DAYS",
        ),
    ] = 30.0
    history_on_failure: Annotated[
        HistoryFailure,
        Flag("Whether to deny or allow a write whose version can't be kept"),
    ] = "deny"
    policy: Policy | None = None
    """Without a policy, calls on local listeners are allowed and all others denied."""
    audit: Annotated[Audit | None, Flag("File for the audit log. - is standard output", "FILE")] = (
        None
    )
    max_calls: Annotated[
        int, Field(ge=1), Flag("Maximum number of concurrent calls in each process", "N")
    ] = 1000
    """The same number of watches is allowed."""
    max_rate: Annotated[
        float | None,
        Field(gt=0, le=1e6),
        Flag("Maximum calls per second of each identity", "N", "no limit"),
    ] = None
    max_burst: Annotated[
        int,
        Field(ge=1),
        Flag("Calls that each identity may make at once before --max-rate applies", "N"),
    ] = 100
    max_connection_age: Annotated[
        Seconds | None,
        Field(ge=1, le=1e6),
        Flag("Close connections after this time", "DURATION", "never"),
    ] = None
    keepalive: Annotated[
        Seconds | None,
        Field(ge=1, le=1e6),
        Flag("Ping idle connections after this time", "DURATION", "2h"),
    ] = None
    ready_answers: Annotated[
        bool,
        Flag("Keep the answers of gets in memory, and send one again if nothing has changed since"),
    ] = True
    metrics: Annotated[
        Metrics | None,
        Flag("Address of /metrics for Prometheus, and of /livez and /readyz", "HOST:PORT"),
    ] = None
    take_over: Annotated[
        bool, Flag("Replace the daemon that serves the socket, once this one is ready")
    ] = False
    log_format: Annotated[Literal["text", "json"], Flag("Format of log lines")] = "text"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        BeforeValidator(lower),
        Flag("Least severe lines to log"),
    ] = "info"
    shutdown_grace: Annotated[
        Seconds,
        Field(ge=0, le=3600),
        Flag("Time that calls in flight have to finish at shutdown", "DURATION", "10s"),
    ] = 10.0

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not (self.disk or self.memory or self.s3):
            self.disk = [DiskSettings(path=state_folder() / "keystore")]
            # The default store is for trying kekd. It is on no volume that could be unmounted.
            if "create_stores" not in self.model_fields_set:
                self.create_stores = True
        for bucket in self.s3:
            bucket.region = bucket.region or self.s3_region
            bucket.endpoint = bucket.endpoint or self.s3_endpoint
        return self

    @property
    def listeners(self) -> list[Listener]:
        shared = self.workers > 1
        return [listen.listener(self.engine, self.tls, shared=shared) for listen in self.listen]

    @property
    def metrics_listener(self) -> TcpListener | None:
        return self.metrics.listener if self.metrics else None

    @property
    def stores(self) -> list[tuple[Location, Retention]]:
        """The stores and their history, disk before S3 before memory. The first is the default."""
        return [
            *((_disk_location(disk.path), self._retention(disk.history)) for disk in self.disk),
            *((self._s3_location(s3), self._retention(s3.history)) for s3 in self.s3),
            *([(MemoryLocation(), self._retention(None))] if self.memory else []),
        ]

    def _retention(self, history: HistorySettings | None) -> Retention:
        own = history or HistorySettings()
        return Retention(
            self.history_versions if own.versions is None else own.versions,
            self.history_days if own.days is None else own.days,
            is_required=(own.on_failure or self.history_on_failure) == "deny",
        )

    def _s3_location(self, s3: S3Settings) -> S3Location:
        style = s3.addressing_style or self.s3_addressing_style
        return S3Location(s3.bucket, s3.prefix, s3.region, s3.endpoint, style)


def _disk_location(path: Path) -> DiskLocation:
    return DiskLocation(str(path), os.path.realpath(path))
