"""Values as JSON has them: the same everywhere."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

Row = dict[str, Any]


def text_of(value: Any) -> Any:
    """Instants as ISO 8601 in UTC with milliseconds, ids as text, the rest as it is."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, UUID):
        return str(value)
    return value


def person_of(user_id: UUID | None, name: str | None) -> Row | None:
    """Somebody, or None."""
    return None if user_id is None else {"id": str(user_id), "name": name or ""}
