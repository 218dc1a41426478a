"""What a rule is shown in one look: the tracks, and the picture for the questions that tracks can't answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from vision.model import Track
from vision.view import View


@dataclass(frozen=True, kw_only=True, slots=True)
class Sight:
    """One look at a picture that can be judged.

    `at`: when its frame was received; `timezone`: the city's, for rules with hours; `view`: None where there is no
    picture to ask (a rule must then do with the tracks).
    """

    at: datetime
    tracks: Sequence[Track]
    timezone: str = "UTC"
    view: View | None = None
