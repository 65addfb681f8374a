"""The exceptions and objects that an exception keeps alive."""

import traceback
from collections.abc import Iterator

from kekd.kek.errors import KekError


def chain(error: BaseException) -> Iterator[BaseException]:
    """Returns the error and all its causes and contexts, also suppressed ones."""
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        this = left.pop()
        if this is not None and id(this) not in seen:
            seen.add(id(this))
            yield this
            left += [this.__cause__, this.__context__]


def held_by(error: KekError) -> str:
    """Returns their messages, attributes and variables of frames, except of the tests' frames."""
    texts: list[str] = []
    for this in chain(error):
        texts += [str(this), repr(this), repr(vars(this))]
        for frame, _ in traceback.walk_tb(this.__traceback__):
            if "/tests/" not in frame.f_code.co_filename:
                texts += [f"{name}={value!r}" for name, value in frame.f_locals.items()]
    return "\n".join(texts)
