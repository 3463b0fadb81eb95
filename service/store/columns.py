"""Types of columns, and questions about them, that SQLAlchemy does not have."""

from collections.abc import Collection

from sqlalchemy import Column, ColumnElement, Text, any_, cast, literal
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.types import UserDefinedType


class Xid8(UserDefinedType[str]):
    """A transaction's number, which never wraps."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """The type's name in SQL."""
        return "xid8"


# So that alembic, which asks the database for its tables, knows it too.
PGDialect.ischema_names["xid8"] = Xid8


class JsonText(UserDefinedType[str]):
    """A `json` column whose text is neither read nor spelt anew."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """The type's name in SQL."""
        return "json"

    def column_expression(self, column: ColumnElement[str]) -> ColumnElement[str]:
        """Selected as text: `json` would be read by the connection."""
        return cast(column, Text)


def is_one_of(column: Column[str], texts: Collection[str]) -> ColumnElement[bool]:
    """Whether `column` is one of `texts`, however many: `in_` makes a parameter of each, of which a
    statement may have 32,767, and another statement of each number of them."""
    return column == any_(literal(list(texts), ARRAY(Text)))
