"""The token that continues a listing."""

import base64
import json
from dataclasses import dataclass

from kekd_server.errors import InvalidRequestError, KekdError
from kekd_server.names import IndexName


@dataclass(frozen=True, slots=True)
class PageToken:
    """Where a page ended: nothing is kept in the daemon, so any daemon on the store can go on."""

    prefix: str
    after: IndexName

    def __str__(self) -> str:
        position = json.dumps([self.prefix, self.after.value]).encode()
        return base64.urlsafe_b64encode(position).decode()

    @classmethod
    def parse(cls, token: str, prefix: str) -> "PageToken":
        """Raises `InvalidRequestError` if the token isn't one of ours, or of another prefix."""
        try:
            token_prefix, after = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
            parsed = cls(token_prefix, IndexName(after))
        except (ValueError, TypeError, KekdError) as error:
            raise InvalidRequestError(
                "page_token is not one that a page was answered with: start again without it."
            ) from error
        if parsed.prefix != prefix:
            raise InvalidRequestError(
                "page_token belongs to a listing of another prefix: start again without it."
            )
        return parsed
