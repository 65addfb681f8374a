"""The error of settings."""


class SettingsError(Exception):
    """The settings are invalid. `problems` holds every problem, one line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
