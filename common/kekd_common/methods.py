"""The methods that a policy allows. They have no dependencies, so that kekctl starts fast."""

from typing import Final, Literal, TypeAlias, get_args

Method: TypeAlias = Literal[
    "read",
    "list",
    "create",
    "push",
    "delete",
    "delete-if-match",
    "watch",
    "hold",
    "release",
    "destroy",
    "import-history",
]
"""`delete` removes an envelope unconditionally, `delete-if-match` only the one with the etag that
the caller names. `delete` includes `delete-if-match`. `read` and `push` include the versions of an
envelope: `push` restores one, and `create` undeletes the last. `import-history` adds versions of a
backup."""

METHODS: Final[tuple[Method, ...]] = get_args(Method)
