"""Loads YAML, and rejects duplicate keys and alias bombs."""

from typing import Any, Final

import yaml

MAX_ALIASED_VALUES: Final = 100_000
"""The number of values that all aliases together may expand to. Aliases can be nested: ten lines
can expand to more than fits into memory.
"""
_MERGE: Final = "tag:yaml.org,2002:merge"


class YamlError(Exception):
    """The text isn't valid YAML. `problem` may quote values."""

    def __init__(self, problem: str, line: int | None) -> None:
        super().__init__(f"line {line}: {problem}" if line else problem)
        self.problem = problem
        self.line = line


class StrictYamlError(YamlError):
    """YAML allows the text, but kekd doesn't. `problem` quotes keys only, and no values."""


def load(text: str | bytes) -> Any:
    """Raises `YamlError`."""
    try:
        return yaml.load(text, _StrictLoader)  # noqa: S506  (a SafeLoader)
    except _ForbiddenError as caught:
        error: YamlError = StrictYamlError(str(caught.problem), _line(caught))
    except yaml.YAMLError as caught:
        error = YamlError(str(getattr(caught, "problem", None) or caught), _line(caught))
    # PyYAML passes on what its constructors raise: for bytes that aren't UTF-8, a date that isn't
    # in the calendar, or an invalid number.
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as caught:
        error = YamlError(str(caught), None)
    # Raised here, without a context, because PyYAML's own error quotes a line that may be a secret.
    raise error


def dump(value: object) -> str:
    text: str = yaml.safe_dump(value, allow_unicode=True)
    return text


class _ForbiddenError(yaml.constructor.ConstructorError):
    pass


class _StrictLoader(yaml.SafeLoader):
    """Rejects duplicate keys, of which PyYAML takes the last, and aliases that contain themselves
    or expand to more than `MAX_ALIASED_VALUES`.
    """

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            sizes: dict[yaml.Node, int] = {}
            if self._check(node, sizes) > len(sizes) + MAX_ALIASED_VALUES:
                raise _forbidden("its aliases expand to too many values; write them out", node)
        return node

    def _check(self, node: yaml.Node, sizes: dict[yaml.Node, int]) -> int:
        """Returns the number of values that the node expands to. `sizes` caches it by node."""
        if node not in sizes:
            sizes[node] = 0  # marks a node whose children are being counted
            sizes[node] = 1 + sum(self._check(child, sizes) for child in self._children(node))
        elif not sizes[node]:
            raise _forbidden("an alias contains itself; write its value out", node)
        return sizes[node]

    def _children(self, node: yaml.Node) -> list[yaml.Node]:
        match node:
            case yaml.SequenceNode():
                return list(node.value)
            case yaml.MappingNode():
                self._check_keys(node)
                return [part for pair in node.value for part in pair]
        return []

    def _check_keys(self, node: yaml.MappingNode) -> None:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            value = key.value if key.tag == _MERGE else self.construct_object(key)
            if value in seen:
                raise _forbidden(f"duplicate key '{key.value}'; remove one", node)
            seen.add(value)


def _forbidden(problem: str, node: yaml.Node) -> _ForbiddenError:
    return _ForbiddenError(None, None, problem, node.start_mark)


def _line(error: yaml.YAMLError) -> int | None:
    mark = getattr(error, "problem_mark", None)
    return mark.line + 1 if mark else None
