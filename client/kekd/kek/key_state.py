"""What the provider says of the keys that envelopes need."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

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

if TYPE_CHECKING:
    from kekd._models import EnvelopeLike
    from kekd.kek.registry import Registry

UNREACHABLE_ERRORS: Final = (CredentialsError, ProviderUnavailableError)

_NO_DESCRIPTION: Final = {
    "aws": (
        "can't see whether these secrets are pending deletion: allow secretsmanager:DescribeSecret"
    ),
    "aws-kms": (
        "can't see whether these keys are disabled, pending deletion or rotated: allow"
        " kms:DescribeKey"
    ),
}
_NO_ROTATIONS: Final = "can't see when these keys were rotated: allow kms:ListKeyRotations"


@dataclass(frozen=True, slots=True)
class KeyState:
    """A key, and what is wrong with it."""

    arn: str
    problem: str = ""
    """Empty for a key that is fit for use, and for one of which nothing can be seen."""
    rotated_at: int | None = None
    """When it got new material, in seconds since 1970."""


class KeyStates:
    """Looks at each key once, however many envelopes need it."""

    def __init__(self, registry: "Registry") -> None:
        self._registry = registry
        self._states: dict[Slot, KeyState] = {}
        self._hidden: dict[str, set[str]] = {}
        """What can't be seen, as it isn't permitted, and of which keys."""

    @property
    def unseen(self) -> list[str]:
        """What can't be seen of keys, and what would permit it: a line for each permission."""
        return [f"{text}: {', '.join(sorted(keys))}" for text, keys in self._hidden.items()]

    def problems(self, envelope: "EnvelopeLike", slot: str | None = None) -> list[str]:
        """What is wrong with the key that wrapped an envelope's KEK, and with that of its slot, or
        of the one named. Each is a line to read; none for provider `none`.

        Raises `KekError` if AWS can't be asked, or must not be.
        """
        if envelope.provider == "none":
            return []
        own = self._state_of(self._registry.key_slot(envelope))
        found = [own.problem and f"its key {own.problem}", _age(envelope, own)]
        target = self._state_of(self._registry.slot(slot or envelope.kms_name))
        if target.arn != own.arn:
            found.append(target.problem and f"its slot's key {target.problem}")
        return [line for line in found if line]

    def _state_of(self, key: Slot) -> KeyState:
        if key not in self._states:
            self._states[key] = self._ask(key)
        return self._states[key]

    def _ask(self, key: Slot) -> KeyState:
        provider = self._registry.provider(key)
        try:
            description = provider.describe()
        except (KeyNotFoundError, SecretNotFoundError):
            return KeyState(key.key_id, f"{key.key_id} isn't there any more")
        except AccessDeniedError:
            self._hide(_NO_DESCRIPTION[key.provider], key.key_id)
            return KeyState(key.key_id)
        rotated_at = None
        if isinstance(provider, RotatedKey):
            try:
                rotated_at = provider.last_rotation(description.arn)
            except UNREACHABLE_ERRORS:
                raise
            except KekError:  # also of a key in another account, where it isn't possible
                self._hide(_NO_ROTATIONS, description.arn)
        return KeyState(description.arn, _problem(description), rotated_at)

    def _hide(self, text: str, key: str) -> None:
        self._hidden.setdefault(text, set()).add(key)


def _problem(key: KeyDescription) -> str:
    if key.deletion_time is not None:
        day = _date(key.deletion_time)
        return f"{key.arn} is pending deletion ({day}): cancel that, or rotate to another key"
    if not key.enabled:
        state = "disabled" if key.state in {"", "Disabled"} else f"in state {key.state}"
        return f"{key.arn} is {state}: KEKs don't open until it is enabled"
    return ""


def _age(envelope: "EnvelopeLike", key: KeyState) -> str:
    if key.rotated_at is None or envelope.created_at >= key.rotated_at:
        return ""
    wrapped = f"on {_date(envelope.created_at)}" if envelope.created_at else "at an unknown time"
    return (
        f"was wrapped {wrapped}, before its key {key.arn} was rotated on {_date(key.rotated_at)}:"
        " rotate it with --older-than or --force"
    )


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
