"""Matches keys with ARN patterns, also if only parts of an ARN are known."""

import re
import string
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Final

_SERVICES: Final = {"aws": "secretsmanager", "aws-kms": "kms"}
_PIECE: Final = re.compile(r"\[!?\]?[^\]]*\]|.", re.DOTALL)
"""Matches a piece of an fnmatch pattern: a set, or one character."""

_ALPHABET: Final = frozenset(string.ascii_letters + string.digits + "-")
_ACCOUNT: Final = frozenset(string.digits)

PartialArn = Sequence[str | frozenset[str]]
"""The parts of an ARN, in order. An unknown part is the set of its possible characters."""


def is_arn(key_id: str) -> bool:
    """Whether it has the form arn:partition:service:region:account:resource
    (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html)
    """
    return key_id.startswith("arn:") and key_id.count(":") > 4  # noqa: PLR2004


def is_key_arn(key_id: str) -> bool:
    """Whether it is the ARN of a key or secret. An alias isn't: it can point to any key."""
    return is_arn(key_id) and ":alias/" not in key_id


def partial_arn(provider: str, key_id: str, region: str) -> PartialArn:
    """Returns the known parts of the ARN for an alias, an id, or the name of a secret."""
    account, name = "", key_id
    if is_arn(key_id):
        _, _, _, region, account, name = key_id.split(":", 5)
    service = f":{_SERVICES[provider]}:"
    start: list[str | frozenset[str]] = ["arn:", _ALPHABET, service]
    start += [region or _ALPHABET, ":", account or _ACCOUNT]
    if provider == "aws":
        return [*start, f":secret:{name}-", _ALPHABET]
    return [*start, ":key/", _ALPHABET] if name.startswith("alias/") else [*start, f":key/{name}"]


def may_match(arn: PartialArn, pattern: str) -> bool:
    """Whether a pattern matches at least one of the ARNs that have these parts."""
    pieces: list[str] = _PIECE.findall(pattern)
    reached = _closure({0}, pieces)
    for part in arn:
        if isinstance(part, frozenset):
            reached = _closure(reached, pieces, part)
            continue
        for character in part:
            steps = (_step(at, character, pieces) for at in reached)
            reached = _closure({at for at in steps if at is not None}, pieces)
    return len(pieces) in reached


def _step(at: int, character: str, pieces: Sequence[str]) -> int | None:
    """Returns the position in the pattern after matching a character, or None."""
    if at == len(pieces) or not fnmatchcase(character, pieces[at]):
        return None
    return at if pieces[at] == "*" else at + 1


def _closure(reached: set[int], pieces: Sequence[str], characters: Iterable[str] = ()) -> set[int]:
    """Returns the positions in the pattern that any number of these characters can reach.

    Without characters, adds only the positions after stars.
    """
    found = set(reached)
    for at, piece in enumerate(pieces):
        if at in found and (
            piece == "*" or any(fnmatchcase(character, piece) for character in characters)
        ):
            found.add(at + 1)
    return found
