"""Numbers that are counted on a row: taken and known in one statement."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.db.models import F, QuerySet
from django.db.models.sql import UpdateQuery


def take(rows: QuerySet[Any], counter: str, **changes: Any) -> int | None:
    """Raise a row's counter by one, change other columns with it, and return its new value.

    None, and nothing done, where ``rows`` holds no row; it may hold one at most. The row is ours
    until the transaction ends.
    """
    query: UpdateQuery = rows.query.chain(UpdateQuery)  # type: ignore[assignment]  # the stubs forget that a class may be asked for
    query.add_update_values({counter: F(counter) + 1, **changes})
    statement, parameters = query.get_compiler(connection.alias).as_sql()
    column = connection.ops.quote_name(rows.model._meta.get_field(counter).column)
    with connection.cursor() as cursor:
        # Both databases know it; the ORM has no word for it.
        cursor.execute(f"{statement} RETURNING {column}", parameters)
        row = cursor.fetchone()
    return row[0] if row else None
