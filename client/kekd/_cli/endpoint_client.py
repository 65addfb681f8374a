"""The client of a daemon that kekctl has selected."""

import kekd
from kekd._transport.caller import Caller
from kekd._transport.channel import Connector
from kekd._transport.endpoint import Endpoint


class EndpointClient(kekd.Client):
    """Reads no variables, which `--context` and empty options override. Has no cache."""

    def __init__(self, endpoint: Endpoint, *, timeout: float) -> None:
        self._caller = Caller(Connector(endpoint), timeout)
