"""The settings of the metrics address."""

from typing import Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from kekd_server.config.errors import SettingsError
from kekd_server.config.tls import TlsSettings, missing_files
from kekd_server.config.types import Port, address_or_mapping
from kekd_server.listeners.listener import parse
from kekd_server.listeners.tcp import TcpListener
from kekd_server.observability.metrics_tls import MetricsTls


class MetricsSettings(TlsSettings):
    """The address, and its TLS files, which it shares with no other address."""

    address: Port

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        for setting, problem in missing_files(self.tls_cert, self.tls_key, self.tls_client_ca):
            raise ValueError(f"{setting} {problem}")
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> Any:
        return handler(self) if self.tls else self.address

    @property
    def listener(self) -> TcpListener | None:
        listener = parse(self.address, tls=self.tls)
        return listener if isinstance(listener, TcpListener) else None


Metrics = Annotated[MetricsSettings, BeforeValidator(address_or_mapping)]


def load_metrics_tls(listener: TcpListener | None) -> MetricsTls | None:
    """Raises `SettingsError`."""
    if not (listener and listener.tls):
        return None
    # Imported here, because cryptography is slow to import.
    from kekd_server.listeners.certificates import TlsError  # noqa: PLC0415

    try:
        return MetricsTls(listener.tls)
    except TlsError as error:
        raise SettingsError([str(error)]) from error
