"""The token that continues a listing."""

import base64
import json
import secrets
from dataclasses import dataclass, replace
from typing import Final, Self

from kekd_server.model.errors import InvalidRequestError, KekdError
from kekd_server.model.index_name import IndexName

_LISTING_BYTES: Final = 8
_MAX_LISTING: Final = 2 * _LISTING_BYTES
"""Stores keep what they read for a listing by this, so that it has to be short."""


@dataclass(frozen=True, slots=True)
class PageToken:
    """Where a page ended, so that any daemon on the store can go on from there."""

    prefix: str
    listing: str
    """Random; the same for all pages of one listing."""
    after: IndexName | None

    @classmethod
    def first(cls, prefix: str) -> Self:
        """Before the first page."""
        return cls(prefix, secrets.token_hex(_LISTING_BYTES), None)

    def __str__(self) -> str:
        after = self.after.value if self.after else None
        position = json.dumps([self.prefix, self.listing, after]).encode()
        return base64.urlsafe_b64encode(position).decode()

    @classmethod
    def ending_at(cls, name: IndexName, token: str, prefix: str) -> str:
        """For a page that ends there already, of the listing of `token` if there is one."""
        listing = cls.parse(token, prefix) if token else cls.first(prefix)
        return str(replace(listing, after=name))

    @classmethod
    def parse(cls, token: str, prefix: str) -> Self:
        """Raises `InvalidRequestError` if the token isn't one of ours, or of another prefix."""
        try:
            match json.loads(base64.b64decode(token, altchars=b"-_", validate=True)):
                case [str(of_prefix), str(listing), str(after)] if len(listing) <= _MAX_LISTING:
                    parsed = cls(of_prefix, listing, IndexName(after))
                case _:
                    raise ValueError("another shape")  # noqa: TRY301
        except (ValueError, RecursionError, KekdError):
            raise InvalidRequestError(
                "page_token is not one that a page was answered with: start again without it."
            ) from None
        if parsed.prefix != prefix:
            raise InvalidRequestError(
                "page_token belongs to a listing of another prefix: start again without it."
            )
        return parsed
