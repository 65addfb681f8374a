"""The daemon's flags, made of the metadata of the settings."""

from collections.abc import Callable
from typing import Any, Final, Literal, TypeVar, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from kekd_server.config.flag import Flag, flag_name
from kekd_server.config.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])

FLAGS: Final[dict[str, Flag]] = {
    name: metadata
    # What a daemon listens on is the first thing that a reader looks for.
    for name in sorted(Settings.model_fields, key=lambda name: name != "listen")
    for metadata in Settings.model_fields[name].metadata
    if isinstance(metadata, Flag)
}
"""By the name of the setting, in the order of the help."""


def settings_options(*names: str) -> Callable[[Command], Command]:
    """Adds the flags of these settings to a command; without names, all flags."""

    def add(command: Command) -> Command:
        for name in reversed(names or list(FLAGS)):
            command = _option(name)(command)
        return command

    return add


def default_of(name: str) -> str:
    """Describes the default of a setting, for help and documentation."""
    if FLAGS[name].default:
        return FLAGS[name].default
    match Settings.model_fields[name].get_default(call_default_factory=True):
        case None | []:
            return "none"
        case bool(is_on):
            return "yes" if is_on else "no"
        case float(number):
            return f"{number:g}"
        case value:
            return str(value)


def _option(name: str) -> Callable[[Command], Command]:
    field, flag = Settings.model_fields[name], flag_name(name)
    if field.annotation is bool:
        negation = flag_name(f"no_{name}")
        return click.option(f"{flag}/{negation}", default=None, help=_help(name))
    return click.option(
        flag,
        metavar=FLAGS[name].metavar or "|".join(_words(field)),
        multiple=_is_list(field),
        help=_help(name),
    )


def _help(name: str) -> str:
    notes = ["repeatable"] if _is_list(Settings.model_fields[name]) else []
    if (default := default_of(name)) != "none":
        notes.append(f"default: {default}")
    return f"{FLAGS[name].help} ({'; '.join(notes)})." if notes else f"{FLAGS[name].help}."


def _is_list(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is list


def _words(field: FieldInfo) -> tuple[str, ...]:
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
