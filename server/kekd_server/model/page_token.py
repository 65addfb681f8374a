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
"""Short, as stores use it as the key of a cache."""


@dataclass(frozen=True, slots=True)
class PageToken:
    """Where a page ended, so that any daemon on the store can continue the listing."""

    prefix: str
    listing: str
    """Random; the same for all pages of one listing."""
    after: IndexName | None

    @classmethod
    def first(cls, prefix: str) -> Self:
        """Returns the position before the first page."""
        return cls(prefix, secrets.token_hex(_LISTING_BYTES), None)

    def __str__(self) -> str:
        after = self.after.value if self.after else None
        position = json.dumps([self.prefix, self.listing, after]).encode()
        return base64.urlsafe_b64encode(position).decode()

    @classmethod
    def ending_at(cls, name: IndexName, token: str, prefix: str) -> str:
        """Returns the token after a page that ends at `name`. `token` is the one of that page."""
        listing = cls.parse(token, prefix) if token else cls.first(prefix)
        return str(replace(listing, after=name))

    @classmethod
    def parse(cls, token: str, prefix: str) -> Self:
        """Raises `InvalidRequestError` if the token is invalid or has another prefix."""
        try:
            match json.loads(base64.b64decode(token, altchars=b"-_", validate=True)):
                case [str(of_prefix), str(listing), str(after)] if len(listing) <= _MAX_LISTING:
                    parsed = cls(of_prefix, listing, IndexName(after))
                case _:
                    raise ValueError("another shape")  # noqa: TRY301
        except (ValueError, RecursionError, KekdError):
            raise InvalidRequestError(
                "invalid page_token: it is not from an earlier page; list again without it"
            ) from None
        if parsed.prefix != prefix:
            raise InvalidRequestError(
                "invalid page_token: its listing has another prefix; list again without it"
            )
        return parsed
