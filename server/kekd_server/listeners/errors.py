"""The error of an address that can't be listened on."""


class ListenError(Exception):
    """The address can't be listened on; the text says why and what to do."""
