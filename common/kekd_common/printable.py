"""Text of others' choosing, for a line of a terminal or a log."""


def printable(text: str) -> str:
    """The text with each character that isn't printable by its escape: so none makes a line of its
    own, or steers a terminal.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
