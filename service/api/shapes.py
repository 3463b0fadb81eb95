"""What parts of a path have to look like."""

import re

_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def is_uuid(text: str) -> bool:
    """Whether `text` is a UUID in its usual spelling."""
    return _UUID.fullmatch(text) is not None
