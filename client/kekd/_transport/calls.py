"""A call that runs while its caller does something else."""

from typing import Generic, TypeVar

import grpc

from kekd._transport import status
from kekd._transport.channel import Connection
from kekd._transport.operation import Operation
from kekd.errors import UnavailableError

Result = TypeVar("Result")


class PendingCall(Generic[Result]):
    """Starts a call. Raises `UnavailableError` if the channel was closed."""

    def __init__(
        self, connection: Connection, operation: Operation[Result], timeout: float
    ) -> None:
        self._connection = connection  # keeps it open until the call has ended
        self._operation = operation
        try:
            self._call = connection.method(operation).future(operation.request, timeout=timeout)
        except ValueError:
            raise UnavailableError(status.CLIENT_CLOSED) from None

    def result_or_none(self) -> Result | None:
        """Waits for the result. Returns None if the call failed."""
        try:
            return self._operation.decode_response(self._call.result())
        except grpc.RpcError:
            return None

    def cancel(self) -> None:
        self._call.cancel()
