"""Who opened which camera last when: what makes a page that reconnects go on with the opening it had."""

import threading
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

_SAME_OPENING_S = 60.0
_MOST_OPENINGS = 5_000
_Key = tuple[UUID, str]  # person, code of the camera


class Openings:
    """The openings of the last minute, for any thread."""

    def __init__(self) -> None:
        self._last: dict[_Key, datetime] = {}
        self._guard = threading.Lock()
        # Held over the writing: of two openings at one moment the second goes on with the first. Several, so that a
        # database that is slow for one does not hold up everybody's.
        self._writing = tuple(threading.Lock() for _ in range(64))

    def note(self, key: _Key, now: datetime, write: Callable[[], None]) -> None:
        """Call `write` unless the same person opened the same camera within the last minute. What it raises is raised: then nobody has opened anything."""
        with self._writing[hash(key) % len(self._writing)]:
            with self._guard:
                last_at = self._last.get(key)
            if last_at is None or (now - last_at).total_seconds() >= _SAME_OPENING_S:
                write()
            with self._guard:
                self._last.pop(key, None)  # the newest last
                self._last[key] = now
                while len(self._last) > _MOST_OPENINGS:
                    del self._last[next(iter(self._last))]
