"""`kekctl drift`: compares an envelope with its slot."""

from dataclasses import dataclass, field

import kekd
from kekd.kek import KeyStates, Registry
from kekd.kek.errors import KekError
from kekd.kek.key_state import UNREACHABLE_ERRORS


@dataclass(frozen=True, slots=True)
class DriftReport:
    drift: list[str] = field(default_factory=list)
    """How the envelope differs from its slot."""
    key: list[str] = field(default_factory=list)
    """Problems of the keys that the envelope needs."""
    error: str = ""
    """Why the index can't be checked."""

    @property
    def is_failing(self) -> bool:
        return bool(self.key or self.error)

    @property
    def lines(self) -> list[str]:
        return [f"cannot be checked: {self.error}"] if self.error else [*self.drift, *self.key]

    def as_text(self, index_name: str) -> str:
        return f"{index_name}: {'; '.join(self.lines)}"

    def as_content(self, index_name: str) -> dict[str, object]:
        fields = {"drift": self.drift, "key": self.key, "error": self.error}
        present = {name: value for name, value in fields.items() if value}
        return {"index_name": index_name, **present}


class DriftChecker:
    """Compares envelopes with their slots, or with one given slot, and checks their keys."""

    def __init__(self, registry: Registry, slot: str | None) -> None:
        self._registry = registry
        self._slot = slot
        self._keys = KeyStates(registry)
        self._down: dict[str, KekError] = {}
        """Errors of slots whose AWS endpoint is unreachable, which takes long to find out."""

    @property
    def missing_permissions(self) -> list[str]:
        return self._keys.missing_permissions

    def check(self, index_name: str, found: kekd.KMSBlob | kekd.EnvelopeError) -> DriftReport:
        if isinstance(found, kekd.EnvelopeError):
            return DriftReport(error=str(found))
        name = self._slot or found.kms_name
        if name in self._down and found.provider != "none":
            return DriftReport(error=str(self._down[name]))
        drift: list[str] = []
        try:
            drift = self._registry.drift(index_name, found, self._slot)
            return DriftReport(drift, self._keys.problems(found, self._slot))
        except UNREACHABLE_ERRORS as error:
            self._down[name] = error
            return DriftReport(error=str(error))
        except KekError as error:
            if drift:  # found before the key was checked
                return DriftReport(drift, [f"the key cannot be checked: {error}"])
            return DriftReport(error=str(error))
