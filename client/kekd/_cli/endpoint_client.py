"""The client of a daemon that kekctl has selected."""

import kekd
from kekd._transport.caller import Caller
from kekd._transport.channel import Connector
from kekd._transport.endpoint import Endpoint


class EndpointClient(kekd.Client):
    """Has no cache, and ignores the environment: kekctl has resolved options, variables and
    contexts.
    """

    def __init__(self, endpoint: Endpoint, *, timeout: float) -> None:
        # Not Client's, which reads the environment.
        self._caller = Caller(Connector(endpoint), timeout)
