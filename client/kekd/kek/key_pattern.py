"""Compares keys with patterns for their ARNs, also where only AWS knows a key's ARN."""

import re
import string
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Final

_SERVICES: Final = {"aws": "secretsmanager", "aws-kms": "kms"}
_PIECE: Final = re.compile(r"\[!?\]?[^\]]*\]|.", re.DOTALL)
"""Of a pattern of fnmatch."""

_ALPHABET: Final = frozenset(string.ascii_letters + string.digits + "-")
_ACCOUNT: Final = frozenset(string.digits)

PartialArn = Sequence[str | frozenset[str]]
"""The parts of an ARN, in their order; the characters of those that aren't known."""


def is_arn(key_id: str) -> bool:
    """arn:partition:service:region:account:resource
    (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html)
    """
    return key_id.startswith("arn:") and key_id.count(":") > 4  # noqa: PLR2004


def is_key_arn(key_id: str) -> bool:
    """Whether it is the ARN of a key or secret, and not of an alias, which can stand for any."""
    return is_arn(key_id) and ":alias/" not in key_id


def partial_arn(provider: str, key_id: str, region: str) -> PartialArn:
    """What is known of the ARN behind an alias, an id, or the name of a secret."""
    account, name = "", key_id
    if is_arn(key_id):
        _, _, _, region, account, name = key_id.split(":", 5)
    service = f":{_SERVICES[provider]}:"
    where: list[str | frozenset[str]] = ["arn:", _ALPHABET, service]
    where += [region or _ALPHABET, ":", account or _ACCOUNT]
    if provider == "aws":
        return [*where, f":secret:{name}-", _ALPHABET]
    return [*where, ":key/", _ALPHABET] if name.startswith("alias/") else [*where, f":key/{name}"]


def may_match(arn: PartialArn, pattern: str) -> bool:
    """Whether a pattern can match an ARN of which no more is known."""
    pieces: list[str] = _PIECE.findall(pattern)
    reached = _behind({0}, pieces)
    for part in arn:
        if isinstance(part, frozenset):
            reached = _behind(reached, pieces, part)
            continue
        for character in part:
            steps = (_step(at, character, pieces) for at in reached)
            reached = _behind({at for at in steps if at is not None}, pieces)
    return len(pieces) in reached


def _step(at: int, character: str, pieces: Sequence[str]) -> int | None:
    """Where in the pattern a character leads from there."""
    if at == len(pieces) or not fnmatchcase(character, pieces[at]):
        return None
    return at if pieces[at] == "*" else at + 1


def _behind(reached: set[int], pieces: Sequence[str], characters: Iterable[str] = ()) -> set[int]:
    """The positions in the pattern that any number of these characters can lead to from `reached`;
    with no characters, those past stars.
    """
    found = set(reached)
    for at, piece in enumerate(pieces):
        if at in found and (
            piece == "*" or any(fnmatchcase(character, piece) for character in characters)
        ):
            found.add(at + 1)
    return found
