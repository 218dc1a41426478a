"""A street corner under a camera: its street, what goes on in it, and what a worker can put right there."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from simulators.choreography import Act, Ambience, ParkedCar, Queue, fill_bin, is_bin_full, put_bin
from simulators.street import Light, Street, Weather

A = TypeVar("A", bound=Act)
FRAME_SIZE = (640, 360)


class Corner:
    """One camera's street. Pictures are drawn by the camera's thread, acts come from others: one lock guards both."""

    def __init__(
        self, seed: int, *, light: Light = Light.DAY, weather: Weather = Weather.CLEAR, alive: bool = True
    ) -> None:
        self.street = Street(seed, width=FRAME_SIZE[0], height=FRAME_SIZE[1], light=light, weather=weather)
        self._rng = random.Random(f"{seed}/corner")
        put_bin(self.street, self._rng)
        self._ambience = Ambience(random.Random(f"{seed}/ambience")) if alive else None
        self._acts: dict[str, tuple[str, Act]] = {}  # by name: the place it takes and itself
        self._count = 0
        self._lock = threading.RLock()

    def frame(self, now_s: float) -> NDArray[np.uint8]:
        """The picture at that Unix time, (360, 640, 3) BGR; what goes on is brought up to it."""
        with self._lock:
            self._advance(now_s)
            return self.street.render(now_s)

    def play(self, place: str, make: Callable[[str, Street, random.Random], A]) -> A:
        """Begin an act that takes a place. `make` gets the act's name, the street and a source of chance.

        Raises ValueError when the place is taken.
        """
        with self._lock:
            if place and self.is_taken(place):
                raise ValueError(f"{place} is taken")
            self._count += 1
            name = f"act-{self._count}"
            act = make(name, self.street, random.Random(self._rng.getrandbits(64)))
            self._acts[name] = (place, act)
            return act

    def is_taken(self, place: str) -> bool:
        """Whether something goes on at a place, or a full bin waits there, or the lens is covered."""
        with self._lock:
            full = place == "bin" and is_bin_full(self.street)
            return full or self.street.blackout or any(taken == place for taken, _ in self._acts.values())

    def tidy(self, place: str, now_s: float) -> None:
        """Put a place right: the car is sent away, the crowd home, the bin emptied, the garbage taken."""
        with self._lock:
            for taken, act in self._acts.values():
                if taken == place:
                    act.end(now_s)
            if place == "bin":
                fill_bin(self.street, 0.1)

    def black_out(self, covered: bool) -> None:
        """Cover the lens or clean it."""
        with self._lock:
            self.street.blackout = covered

    def set_sky(self, light: Light, weather: Weather) -> None:
        """Change light and weather."""
        with self._lock:
            self.street.set_light(light)
            self.street.set_weather(weather)

    def photograph(self, place: str, now_s: float) -> NDArray[np.uint8]:
        """What a worker's phone sees of a place: the picture around it, enlarged, upright (3:4), held by hand: never twice
        from quite the same spot."""
        with self._lock:
            self._advance(now_s)
            covered, self.street.blackout = self.street.blackout, False
            picture = self.street.render(now_s)
            self.street.blackout = covered
            spot = self.street.places.get(place) or self.street.places["pavement_path"]
            x, y = self.street.project(np.array([[spot.x_m, spot.y_m]]))[0]
        hand = np.random.default_rng(int(now_s * 1000))
        height = int(hand.integers(250, 301))
        width = height * 3 // 4
        left = int(np.clip(x - width / 2 + hand.uniform(-0.15, 0.15) * width, 0, FRAME_SIZE[0] - width))
        top = int(np.clip(y - height * 0.6 + hand.uniform(-0.1, 0.1) * height, 0, FRAME_SIZE[1] - height))
        part = picture[top : top + height, left : left + width]
        return np.asarray(cv2.resize(part, (900, 1200), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)

    def _advance(self, now_s: float) -> None:
        if self._ambience is not None:
            lane_free = not any(
                isinstance(act, (ParkedCar, Queue)) and act.began_s > now_s - 8 for _, act in self._acts.values()
            )
            for act in self._ambience.draw(self.street, now_s, lane_free=lane_free):
                self._acts[act.name] = ("", act)
        for name, (_, act) in list(self._acts.items()):
            if act.began_s <= now_s and not act.step(self.street, now_s):
                act.drop(self.street)
                del self._acts[name]
