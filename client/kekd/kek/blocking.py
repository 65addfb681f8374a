"""Which clients can be called by what blocks."""

from inspect import iscoroutinefunction


def require_blocking(client: object) -> None:
    """Raises TypeError for an `AsyncClient`, whose answers would have to be awaited."""
    if iscoroutinefunction(getattr(client, "get_index_kms", None)):
        raise TypeError(
            f"client must be a kekd.Client, not {type(client).__name__}: its calls block, and an"
            " AsyncKeyring makes them in threads of its own. Pass kekd.Client(...)"
        )
