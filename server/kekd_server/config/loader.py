"""Loads the settings: a flag overrides a variable, which overrides the file and the default."""

import json
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import TypeAdapter, ValidationError

from kekd_common.policy import DocumentError, Rule, load_yaml
from kekd_common.validation_error import describe
from kekd_server.config import validation
from kekd_server.config.audit import AuditSettings
from kekd_server.config.disk import DiskSettings
from kekd_server.config.errors import SettingsError
from kekd_server.config.flag import flag_name, variable_name
from kekd_server.config.history import HistorySettings
from kekd_server.config.listen import Listen, ListenSettings
from kekd_server.config.metrics import MetricsSettings
from kekd_server.config.s3 import S3Settings
from kekd_server.config.settings import Settings
from kekd_server.config.types import split
from kekd_server.config.variables import unknown_variables

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_JSON_VARIABLES: Final = {"policy", "audit", "metrics"}
_KEYS: Final[Mapping[str, Collection[str]]] = {
    "listen": ListenSettings.model_fields,
    "disk": DiskSettings.model_fields,
    "s3": S3Settings.model_fields,
    "history": HistorySettings.model_fields,
    "metrics": MetricsSettings.model_fields,
    "audit": AuditSettings.model_fields,
    "policy": Rule.model_fields,
}
"""The keys of the settings that are mappings, and of the mappings in them."""


class Loaded(NamedTuple):
    settings: Settings
    config_file: Path | None
    """The daemon reloads the policy from it. None if the policy comes from a variable."""
    origins: Mapping[str, str]
    """The origin of each setting: `--listen`, `KEKD_LISTEN`, a file, or `default`."""

    def __str__(self) -> str:
        """Returns a valid YAML file for `--config`. A setting without a value is a comment."""
        from kekd_common.yaml_loader import dump  # noqa: PLC0415  (rarely needed)

        values = self.settings.model_dump(mode="json", exclude_none=True)
        return "".join(
            f"# {self.origins[name]}\n"
            + (dump({name: values[name]}) if name in values else f"# {name}: null\n")
            for name in Settings.model_fields
        )


def load(flags: Mapping[str, Any], file: Path | None) -> Loaded:
    """Raises `SettingsError` with every problem, whatever its origin."""
    variables = _variables(os.environ)
    try:
        document, problems = load_yaml(file) if file else {}, []
    except DocumentError as error:
        document, problems = {}, [str(error)]
    is_complete = not problems
    problems += unknown_variables(os.environ)
    origins = (
        dict.fromkeys(Settings.model_fields, "default")
        | dict.fromkeys(document, str(file))
        | {name: variable_name(name) for name in variables}
        | {name: flag_name(name) for name in flags}
    )
    try:
        settings, found = _validated({**document, **variables, **flags}, is_complete=is_complete)
    except ValueError as error:  # no default address, for a user without a home folder
        raise SettingsError([*problems, str(error)]) from error
    problems += [_text(origins, place, problem) for place, problem in found]
    if problems or not settings:
        raise SettingsError(problems)
    return Loaded(settings, None if "policy" in variables else file, origins)


def _variables(environment: Mapping[str, str]) -> dict[str, Any]:
    """Returns the settings among the variables. Ignores case and empty values."""
    values = {name.upper(): value for name, value in environment.items() if value}
    return {
        name: _decode(name, values[variable])
        for name in Settings.model_fields
        if (variable := variable_name(name)) in values
    }


def _decode(name: str, value: str) -> Any:
    """Rules and mappings may be written as JSON."""
    if name not in _JSON_VARIABLES:
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _validated(
    values: Mapping[str, Any], *, is_complete: bool
) -> tuple[Settings | None, list[tuple[validation.Place, str]]]:
    """Returns the settings, and every problem in the order of the settings.

    If the values aren't complete, settings that weren't given are unknown, so no rule reads them.
    """
    settings, errors = None, []
    try:
        settings = Settings(**values)
        valid, addresses = dict(settings), dict(enumerate(settings.listen))
    except ValidationError as error:
        errors = error.errors()
        valid, addresses = _valid_part(values, errors), _valid_addresses(values.get("listen"))
    if not is_complete:
        valid = {name: value for name, value in valid.items() if name in values}
    problems = [
        *((_place(error), describe(error, _keys(error))) for error in errors),
        *validation.check(valid | {"addresses": addresses}),
    ]
    return settings, sorted(problems, key=_position)


def _valid_part(values: Mapping[str, Any], errors: "list[ErrorDetails]") -> dict[str, Any]:
    invalid = {error["loc"][0] for error in errors if error["loc"]}
    try:
        settings = Settings(**{name: values[name] for name in values.keys() - invalid})
    except ValueError:  # no default address or store, for a user without a home folder
        return {}
    return {name: value for name, value in settings if name not in invalid}


def _valid_addresses(listen: object) -> dict[int, ListenSettings]:
    adapter: TypeAdapter[ListenSettings] = TypeAdapter(Listen)
    addresses = split(listen)
    valid = {}
    for index, address in enumerate(addresses if isinstance(addresses, (list, tuple)) else ()):
        with suppress(ValidationError):
            valid[index] = adapter.validate_python(address)
    return valid


def _place(error: "ErrorDetails") -> validation.Place:
    """Returns where the error is. An address may be written without its key."""
    place = error["loc"]
    is_address = (
        place[:1] in (("listen",), ("metrics",))
        and place[-1:] == ("address",)
        and error["type"] != "missing"
    )
    return place[:-1] if is_address else place


def _keys(error: "ErrorDetails") -> Collection[str]:
    """Returns the keys of the mapping that the error is in."""
    mappings = [part for part in error["loc"][:-1] if isinstance(part, str)]
    return _KEYS.get(mappings[-1], ()) if mappings else Settings.model_fields


def _position(problem: tuple[validation.Place, str]) -> tuple[int, int]:
    """Orders problems like the settings, and in a list by index."""
    place, names = problem[0], list(Settings.model_fields)
    return (
        names.index(str(place[0])) if place and place[0] in names else len(names),
        next((part for part in place if isinstance(part, int)), -1),
    )


def _text(origins: Mapping[str, str], place: validation.Place, problem: str) -> str:
    if not place:
        return problem
    name, *rest = map(str, place)
    return f"{'.'.join([name, *rest])} (from {origins.get(name, 'default')}): {problem}"
