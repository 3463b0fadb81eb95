"""What may be written to a terminal."""


def harmless(text: str) -> str:
    """`text` with each character that is not seen, but moves the cursor or changes what is seen,
    as Python would write it."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
