"""Loads the daemon's configuration file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import yaml


class DocumentError(Exception):
    """The file can't be read. The message names the file and the cause."""


def load_yaml(path: Path) -> dict[str, Any]:
    """Raises `DocumentError`."""
    # Imported here, so that a daemon without a file starts without YAML.
    import yaml  # noqa: PLC0415

    from kekd_common.yaml_loader import StrictLoader  # noqa: PLC0415

    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), StrictLoader)  # noqa: S506  (a SafeLoader)
    except OSError as error:
        raise DocumentError(f"{path}: can't be read: {error.strerror}") from error
    # PyYAML passes on what its constructors raise: for bytes that aren't UTF-8, a date that isn't
    # in the calendar, or an invalid number.
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise DocumentError(f"{path}: can't be read as YAML: {error}") from error
    except yaml.YAMLError as error:
        raise DocumentError(f"{path}: can't be read as YAML: {_summary(error)}") from error
    if loaded is None:  # nothing but comments
        return {}
    if not isinstance(loaded, dict):
        raise DocumentError(f"{path}: must be a mapping of settings, such as 'memory: true'")
    if loaded.get("policy", ()) is None:
        raise DocumentError(
            f"{path}: policy: it has no rules: add rules, or write [] to deny every call"
        )
    return {str(name): value for name, value in loaded.items()}


def _summary(error: "yaml.YAMLError") -> str:
    """Returns one line. The error's own text draws an excerpt of the file."""
    if mark := getattr(error, "problem_mark", None):
        return f"line {mark.line + 1}: {error.problem}"  # type: ignore[attr-defined]
    return str(error)
