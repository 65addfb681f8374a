"""The settings of one address."""

from typing import Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from kekd_server.config.tls import TlsSettings, missing_files
from kekd_server.config.types import Address, address_or_mapping
from kekd_server.listeners.engine import EngineName
from kekd_server.listeners.listener import Listener, parse
from kekd_server.listeners.tcp import TlsFiles


class ListenSettings(TlsSettings):
    """One address, and where it differs from the others."""

    address: Address
    engine: EngineName | None = None
    role: Annotated[str, Field(min_length=1)] | None = None
    """The policy's name for clients without a certificate."""

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        files = self.tls_cert, self.tls_key, self.tls_client_ca
        if self.is_socket and any(files):
            raise ValueError(
                f"'{self.address}' is a Unix socket, which has no TLS; remove its tls keys"
            )
        for setting, problem in missing_files(*files):
            raise ValueError(f"{setting} {problem}")
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> Any:
        return handler(self) if self.engine or self.role or self.tls else self.address

    def __str__(self) -> str:
        return self.address

    @property
    def is_socket(self) -> bool:
        return self.address.startswith("unix:")

    def listener(
        self, engine: EngineName, tls: TlsFiles | None, *, shared: bool = False
    ) -> Listener:
        """Uses `engine` and `tls` unless the address has its own."""
        return parse(
            self.address,
            self.engine or engine,
            shared=shared,
            tls=self.tls or tls,
            role=self.role,
        )


Listen = Annotated[ListenSettings, BeforeValidator(address_or_mapping)]
