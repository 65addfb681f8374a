"""The error of a listener."""


class ListenError(Exception):
    """The daemon can't listen on an address. The text says why and what to do."""
