"""The statements that are files: each begins with what it is for and why it is right."""

from importlib.resources import files

from sqlalchemy import TextClause, text


def statement(name: str, **parts: str) -> TextClause:
    """The statement in `sql/{name}.sql`, `{parts}` filled in."""
    source = files("service.store").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    # Without its prose: a colon in it would be taken for a parameter.
    lines = [line for line in source.splitlines() if not line.lstrip().startswith("--")]
    return text("\n".join(lines).format(**parts))
