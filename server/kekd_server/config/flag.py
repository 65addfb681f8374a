"""The metadata by which a setting becomes a flag, a variable and a row of the documentation."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flag:
    """Annotates a setting. Help and documentation are made of this."""

    help: str
    metavar: str = ""
    """Only for a setting that isn't one of a few words."""
    default: str = ""
    """Describes a default that isn't a plain value."""


def flag_name(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"


def variable_name(setting: str) -> str:
    return f"KEKD_{setting.upper()}"
