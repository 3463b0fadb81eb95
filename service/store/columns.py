"""Types of columns that SQLAlchemy does not have."""

from sqlalchemy import ColumnElement, Text, cast
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
