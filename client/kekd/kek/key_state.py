"""Checks the keys that envelopes need."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import kekd.kek
from kekd._models import EnvelopeLike
from kekd.kek.errors import (
    AccessDeniedError,
    CredentialsError,
    KekError,
    KeyNotFoundError,
    ProviderUnavailableError,
    SecretNotFoundError,
)
from kekd.kek.provider import KeyDescription, RotatedKey
from kekd.kek.slot import Slot
from kekd.kek.slot_lookup import slot_for_wrapping_key

UNREACHABLE_ERRORS: Final = (CredentialsError, ProviderUnavailableError)

_NO_DESCRIPTION: Final = {
    "aws": (
        "cannot check whether secrets are pending deletion: AWS refuses it for {keys}; allow"
        " secretsmanager:DescribeSecret"
    ),
    "aws-kms": (
        "cannot check whether keys are disabled, pending deletion or rotated: AWS refuses it for"
        " {keys}; allow kms:DescribeKey"
    ),
}
_NO_ROTATIONS: Final = (
    "cannot check when keys were rotated: AWS refuses it for {keys}; allow kms:ListKeyRotations"
)


@dataclass(frozen=True, slots=True)
class KeyState:
    """A key, and its problem."""

    arn: str
    problem: str = ""
    """Empty for a usable key, and for one that can't be checked."""
    rotated_at: int | None = None
    """When it last got new material, in seconds since the Unix epoch. None if never or unknown."""


class KeyStates:
    """Checks each key once, even if many envelopes need it."""

    def __init__(self, registry: "kekd.kek.Registry") -> None:
        self._registry = registry
        self._states: dict[Slot, KeyState] = {}
        self._unchecked: dict[str, set[str]] = {}
        """The keys that can't be checked, by what is missing."""

    @property
    def missing_permissions(self) -> list[str]:
        """Returns a line for each missing permission, with the keys that can't be checked."""
        return [text.format(keys=", ".join(sorted(keys))) for text, keys in self._unchecked.items()]

    def problems(self, envelope: EnvelopeLike, slot: str | None = None) -> list[str]:
        """Returns the problems of the key that wrapped an envelope's KEK, and of its slot's key.

        Each is a line for a human. There are none for provider `none`. Checks the key of `slot` if
        given. Raises `KekError` if AWS can't be reached or the slot doesn't allow the key.
        """
        if envelope.provider == "none":
            return []
        own = self._state_of(slot_for_wrapping_key(self._registry.slots, envelope))
        found = [own.problem and f"its key {own.problem}", _outdated(envelope, own)]
        target = self._state_of(self._registry.slot(slot or envelope.kms_name))
        if target.arn != own.arn:
            found.append(target.problem and f"its slot's key {target.problem}")
        return [line for line in found if line]

    def _state_of(self, key: Slot) -> KeyState:
        if key not in self._states:
            self._states[key] = self._check(key)
        return self._states[key]

    def _check(self, key: Slot) -> KeyState:
        provider = self._registry.provider(key)
        try:
            description = provider.describe()
        except (KeyNotFoundError, SecretNotFoundError):
            return KeyState(key.key_id, f"{key.key_id} doesn't exist any more; check its id")
        except AccessDeniedError:
            self._add_unchecked(_NO_DESCRIPTION[key.provider], key.key_id)
            return KeyState(key.key_id)
        rotated_at = None
        if isinstance(provider, RotatedKey):
            try:
                rotated_at = provider.last_rotation(description.arn)
            except UNREACHABLE_ERRORS:
                raise
            except KekError:  # including keys of other accounts, for which AWS refuses it
                self._add_unchecked(_NO_ROTATIONS, description.arn)
        return KeyState(description.arn, _problem(description), rotated_at)

    def _add_unchecked(self, text: str, key: str) -> None:
        self._unchecked.setdefault(text, set()).add(key)


def _problem(key: KeyDescription) -> str:
    if key.deletion_time is not None:
        day = _date(key.deletion_time)
        return (
            f"{key.arn} is pending deletion ({day}); cancel the deletion, or rotate to another key"
        )
    if not key.enabled:
        state = "disabled" if key.state in {"", "Disabled"} else f"in state {key.state}"
        return f"{key.arn} is {state}: it cannot unwrap KEKs; enable it"
    return ""


def _outdated(envelope: EnvelopeLike, key: KeyState) -> str:
    """Returns the problem of a KEK that an older material of its key wrapped, or empty."""
    if key.rotated_at is None or envelope.created_at >= key.rotated_at:
        return ""
    wrapped = f"on {_date(envelope.created_at)}" if envelope.created_at else "at an unknown time"
    return (
        f"was wrapped {wrapped}, before its key {key.arn} was rotated on {_date(key.rotated_at)};"
        " rotate it with --older-than or --force"
    )


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
