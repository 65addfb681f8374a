"""Reads the registry from YAML, in the format of CyborgDB Service 0.18.

    kms:
      registry:
        prod:
          provider: aws-kms
          key_id: alias/${STAGE:-prod}
          region: us-east-1

`${VAR}` and `${VAR:-default}` are replaced from the environment. As in CyborgDB Service, an empty
variable counts as unset (`cyborgdb_service/core/config_file.py`).
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from kekd.kek.errors import RegistryError
from kekd.kek.slot import ProviderName, Slot, region_of
from kekd_common.validation_error import describe
from kekd_common.yaml_loader import YamlError, load

_VARIABLE: Final = re.compile(r"\$\{([A-Z_][A-Z0-9_]*)(?::-([^}]*))?\}")


Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
"""A key without a value, which is null in YAML, counts as absent."""


def _not_empty(patterns: tuple[str, ...]) -> tuple[str, ...]:
    if not patterns:
        raise ValueError("allows no key; omit it to allow any")
    return patterns


class _Entry(BaseModel):
    """A slot in the file."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    provider: ProviderName
    key_id: Text = Field(min_length=1)
    region: Text = ""
    role_arn: Text = ""
    external_id: Text = ""
    role_session_name: Text = Field("", pattern=r"^([\w+=,.@-]{2,64})?$")
    endpoint_url: Text = Field("", pattern=r"^(https?://.+)?$")
    encryption_context: bool = False
    allowed_key_arns: Annotated[tuple[str, ...], AfterValidator(_not_empty)] = ()

    @field_validator("role_arn")
    @classmethod
    def _is_role(cls, value: str) -> str:
        if value and not re.fullmatch(r"arn:[\w-]+:iam::\d{12}:role/.+", value):
            raise ValueError("not a role; use arn:aws:iam::ACCOUNT:role/NAME")
        return value

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.external_id and not self.role_arn:
            raise ValueError("external_id requires role_arn; set both or neither")
        if self.region and region_of(self.key_id) not in {"", self.region}:
            raise ValueError(
                f"key_id is in {region_of(self.key_id)}, but region is {self.region}; make them"
                " agree"
            )
        slot = Slot("", "aws", self.key_id, allowed_key_arns=self.allowed_key_arns)
        if region_of(self.key_id) and ":alias/" not in self.key_id and not slot.allows(self.key_id):
            raise ValueError("key_id isn't in allowed_key_arns; add it")
        return self


def read(path: Path) -> dict[str, Slot]:
    """Raises `RegistryError`, which lists every problem of the file with its slot."""
    slots: dict[str, Slot] = {}
    problems: list[str] = []
    for name, content in _entries(path).items():
        if not isinstance(name, str) or not name:
            problems.append(f"slot {name!r}: the name isn't a string; quote it")
            continue
        unset: list[str] = []
        expanded = _expanded(content, unset)
        problems += [
            f"slot '{name}': variable {variable} is not set; set it, or use"
            f" ${{{variable}:-default}}"
            for variable in unset
        ]
        try:
            entry = _Entry.model_validate(expanded)
        except ValidationError as error:
            problems += [f"slot '{name}': {problem}" for problem in _problems(error, expanded)]
        else:
            slots[name] = Slot(name, **entry.model_dump())
    if problems:
        raise _error(path, problems)
    return slots


def _entries(path: Path) -> dict[Any, Any]:
    problem = "no slots found; add a mapping of slots under kms.registry"
    try:
        match load(path.read_bytes()):
            case {"kms": {"registry": dict(entries)}}:
                return entries
    except OSError as error:
        raise _error(
            path, [f"cannot read the file: {error.strerror}; check its path and mode"]
        ) from error
    except YamlError as error:
        problem = str(error)
    raise _error(path, [problem])


def _error(path: Path, problems: Sequence[str]) -> RegistryError:
    return RegistryError("\n".join(f"{path}: {problem}" for problem in problems))


def _expanded(node: Any, unset: list[str]) -> Any:
    def replacement(match: re.Match[str]) -> str:
        name, default = match.groups()
        found = os.environ.get(name) or default
        if found is None:
            unset.append(name)
            return match[0]  # any value will do: the problem is already recorded
        return found

    match node:
        case str():
            return _VARIABLE.sub(replacement, node)
        case dict():
            return {key: _expanded(value, unset) for key, value in node.items()}
        case list():
            return [_expanded(item, unset) for item in node]
    return node


def _problems(error: ValidationError, entry: Any) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield "not a mapping; use keys such as provider and key_id"
        return
    for problem in error.errors(include_url=False, include_input=False):
        key = ".".join(str(part) for part in problem["loc"])
        text = describe(problem)
        if problem["type"] == "extra_forbidden":
            text = f"unknown key; use {', '.join(_Entry.model_fields)}"
        yield f"{key}: {text}" if key else text
