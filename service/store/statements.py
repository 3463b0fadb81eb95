"""The statements that are files: each begins with what it is for and why it is right."""

from functools import cache
from importlib.resources import files

from sqlalchemy import TextClause, text


@cache
def statement(name: str) -> TextClause:
    """The statement in `sql/{name}.sql`."""
    source = files("service.store").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    # Without its prose: a colon in it would be taken for a parameter.
    lines = [line for line in source.splitlines() if not line.lstrip().startswith("--")]
    return text("\n".join(lines))
