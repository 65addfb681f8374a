"""Makes untrusted text safe for a terminal or a log."""


def printable(text: str) -> str:
    """Escapes the characters that aren't printable, which could forge lines or steer a terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
