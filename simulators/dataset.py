"""Rendered street scenes with labels, written out in the YOLO layout to train and to judge a detector.

Streets of the training part, of the validation part and of the demo never meet: their seeds come from ranges of
their own (TRAIN_SEEDS, VAL_SEEDS; the demo uses seeds below DEMO_SEEDS_END).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from simulators.street import (
    Actor,
    Bin,
    Garbage,
    HandBag,
    Light,
    Person,
    Street,
    TruthBox,
    TwoWheeler,
    Vehicle,
    VehicleKind,
    Weather,
)

CLASSES = ("person", "vehicle", "two_wheeler", "bin", "bin_overflow", "garbage")
DEMO_SEEDS_END = 1_000_000_000
TRAIN_SEEDS = range(1_000_000_000, 2_000_000_000)
VAL_SEEDS = range(2_000_000_000, 2_100_000_000)
SCENES_PER_STREET = 4
LEAST_VISIBLE = 0.3
LEAST_SIDE_PX = 4.0
LEAST_LONG_SIDE_PX = 8.0
"""Of the longer side at a picture 640 pixels wide; smaller things and those hidden more are not labelled."""


@dataclass(slots=True)
class Scene:
    """One random scene being composed: where things already stand keeps others at a distance."""

    street: Street
    rng: np.random.Generator
    taken: list[tuple[float, float, float]] = field(default_factory=list)

    def put(self, kind: str, actor: Actor, reach_m: float) -> bool:
        """Puts an actor unless another stands within both their reaches; says whether it did."""
        for x, y, other in self.taken:
            if math.hypot(actor.x_m - x, actor.y_m - y) < reach_m + other:
                return False
        self.taken.append((actor.x_m, actor.y_m, reach_m))
        self.street.put(f"{kind}-{len(self.street.actors)}", actor)
        return True

    def look(self) -> int:
        """A fresh appearance."""
        return int(self.rng.integers(1 << 30))

    def road(self, u_m: float, v_m: float) -> tuple[float, float]:
        """World place of a road place."""
        x, y = self.street.layout.to_world(np.array([[u_m, v_m]]))[0]
        return float(x), float(y)

    def pavement(self) -> tuple[float, float]:
        """A random place on a pavement, half of them on the near one."""
        layout, uniform = self.street.layout, self.rng.uniform
        if self.rng.random() < 0.5:
            return self.road(uniform(-7, 7), -layout.half_road_m - uniform(0.3, layout.near_pavement_m))
        return self.road(uniform(-14, 14), layout.half_road_m + uniform(0.4, layout.far_pavement_m - 0.2))

    def anywhere(self) -> tuple[float, float]:
        """A random place on pavement or road."""
        if self.rng.random() < 0.72:
            return self.pavement()
        layout, uniform = self.street.layout, self.rng.uniform
        return self.road(uniform(-9, 9), uniform(-layout.half_road_m, layout.half_road_m))


def compose(street: Street, rng: np.random.Generator) -> None:
    """Fills a street with a random scene, replacing what stood there."""
    street.actors.clear()
    if rng.random() < 0.06:
        return
    scene = Scene(street, rng)
    busy = rng.random()
    for _ in range(int(rng.choice(4, p=[0.25, 0.42, 0.23, 0.1]))):
        _put_bin(scene)
    for _ in range(int(rng.choice(4, p=[0.3, 0.4, 0.2, 0.1]))):
        _put_garbage(scene)
    _put_vehicles(scene, busy)
    for _ in range(int(rng.integers(0, 1 + int(2 + 5 * busy)))):
        _put_bike(scene)
    if rng.random() < 0.15:
        _put_rank(scene)
    for _ in range(int(rng.integers(0, 3 + int(6 * busy)))):
        _put_person(scene, *scene.anywhere())
    if rng.random() < 0.35:
        _put_crowd(scene)
    if rng.random() < 0.3:
        x, y = scene.pavement()
        scene.put("hand_bag", HandBag(x_m=x, y_m=y, heading_rad=float(rng.uniform(0, 6.3)), look=scene.look()), 0.3)


def _put_bike(scene: Scene) -> None:
    rng = scene.rng
    x, y = scene.pavement() if rng.random() < 0.6 else scene.anywhere()
    heading = scene.street.layout.heading(1 if rng.random() < 0.5 else -1) + float(rng.normal(0, 0.4))
    ridden = bool(rng.random() < 0.45)
    scene.put("two_wheeler", TwoWheeler(x_m=x, y_m=y, heading_rad=heading, look=scene.look(), ridden=ridden), 0.5)


def _put_person(scene: Scene, x_m: float, y_m: float, gap_m: float = 0.22) -> None:
    rng = scene.rng
    speed = float(rng.choice([0.0, 1.2]))
    heading = float(rng.uniform(0, 2 * math.pi))
    person = Person(x_m=x_m, y_m=y_m, heading_rad=heading, look=scene.look(), speed_mps=speed)
    if scene.put("person", person, gap_m) and rng.random() < 0.06:
        bag = HandBag(x_m=x_m + 0.45, y_m=y_m - 0.15, heading_rad=heading, look=scene.look())
        scene.put("hand_bag", bag, 0.15)


def _put_crowd(scene: Scene) -> None:
    rng = scene.rng
    if rng.random() < 0.6:
        place = scene.street.places["square"]
        x, y = place.x_m, place.y_m
    else:
        x, y = scene.pavement()
    spread = float(rng.uniform(0.7, 2.2))
    for _ in range(int(rng.integers(4, 16))):
        _put_person(scene, x + float(rng.normal(0, spread)), y + float(rng.normal(0, 0.7 * spread)), 0.2)


def _bin_fill(rng: np.random.Generator) -> float:
    """Clearly not full, or clearly full: what lies between is nobody's label."""
    return float(rng.uniform(0.0, 0.75)) if rng.random() < 0.5 else float(rng.uniform(0.95, 1.35))


def _put_bin(scene: Scene) -> None:
    rng = scene.rng
    place = scene.street.places["bin"]
    near = rng.random() < 0.35
    x, y = (place.x_m + float(rng.normal(0, 0.5)), place.y_m + float(rng.normal(0, 0.3))) if near else scene.pavement()
    toward = -math.pi / 2 if rng.random() < 0.7 else float(rng.uniform(0, 2 * math.pi))
    heading = toward + float(rng.normal(0, 0.35))
    fill = _bin_fill(rng)
    spill = bool(fill > 0.9 and rng.random() < 0.3)
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        actor = Bin(x_m=x, y_m=y, heading_rad=heading, look=scene.look(), fill=fill, spill=spill)
        if not scene.put("bin", actor, 0.65 if not spill else 1.1):
            return
        x, y, fill, spill = x + 1.35, y + float(rng.normal(0, 0.1)), _bin_fill(rng), False


def _put_garbage(scene: Scene) -> None:
    rng = scene.rng
    place = scene.street.places["litter_spot"]
    chance = rng.random()
    if chance < 0.35:
        x, y = place.x_m + float(rng.normal(0, 0.6)), place.y_m + float(rng.normal(0, 0.4))
    else:
        x, y = scene.pavement() if chance < 0.85 else scene.anywhere()
    size = float(rng.uniform(0.7, 1.9))
    garbage = Garbage(x_m=x, y_m=y, heading_rad=float(rng.uniform(0, 6.3)), look=scene.look(), size_m=size)
    scene.put("garbage", garbage, 0.5 + size / 2)


def _put_vehicles(scene: Scene, busy: float) -> None:
    rng, layout = scene.rng, scene.street.layout
    dark = scene.street.light in (Light.NIGHT, Light.DUSK)
    lanes = [(layout.near_lane_v_m, 1), (layout.far_lane_v_m, -1)]
    for v, along in lanes:
        queue = rng.random() < 0.3
        u = float(rng.uniform(-24, -10)) if not queue else float(layout.stop_u_m - rng.uniform(16, 30))
        while u < 24:
            if rng.random() < (0.85 if queue else 0.12 + 0.4 * busy):
                _put_vehicle(scene, u, v + float(rng.normal(0, 0.15)), along, dark, braking=queue)
            u += float(rng.uniform(5.6, 7.5)) if queue else float(rng.uniform(6, 14))
    u = float(rng.uniform(-24, -14))
    parked_v = layout.half_road_m - layout.kerb_lane_m / 2
    while u < 24:
        if rng.random() < 0.4:
            _put_vehicle(scene, u, parked_v + float(rng.normal(0, 0.2)), -1, dark and rng.random() < 0.3, braking=False)
        u += float(rng.uniform(5.4, 9))
    if rng.random() < 0.12:  # one that stands where none should, at any angle
        x, y = scene.anywhere()
        heading = float(rng.uniform(0, 2 * math.pi))
        kind = VehicleKind.HATCHBACK if rng.random() < 0.5 else VehicleKind.SEDAN
        scene.put("vehicle", Vehicle(x_m=x, y_m=y, heading_rad=heading, look=scene.look(), kind=kind), 2.2)


def _put_vehicle(scene: Scene, u: float, v: float, along: int, lights: bool, *, braking: bool) -> None:
    x, y = scene.road(u, v)
    heading = scene.street.layout.heading(along) + float(scene.rng.normal(0, 0.04))
    actor = Vehicle(
        x_m=x,
        y_m=y,
        heading_rad=heading,
        look=scene.look(),
        lights_on=lights,
        braking=bool(braking and scene.rng.random() < 0.6),
    )
    if actor.y_m > 3.0:
        scene.put("vehicle", actor, 2.3)


def _put_rank(scene: Scene) -> None:
    """A row of parked two-wheelers."""
    rng, (x, y) = scene.rng, scene.pavement()
    turn = scene.street.layout.turn_rad
    across = turn + math.pi / 2 + float(rng.normal(0, 0.15))
    for i in range(int(rng.integers(3, 9))):
        bike = TwoWheeler(
            x_m=x + 0.7 * i * math.cos(turn),
            y_m=y + 0.7 * i * math.sin(turn),
            look=scene.look(),
            heading_rad=across + float(rng.normal(0, 0.1)),
        )
        scene.put("two_wheeler", bike, 0.3)


def label_lines(boxes: Sequence[TruthBox], width: int, height: int) -> list[str]:
    """YOLO lines (class, centre x, centre y, width, height; 0 to 1) of what can fairly be asked for."""
    lines = []
    zoom = width / 640
    for box in boxes:
        wide, high = box.x2 - box.x1, box.y2 - box.y1
        if box.label not in CLASSES or box.visible_fraction < LEAST_VISIBLE:
            continue
        if min(wide, high) < LEAST_SIDE_PX * zoom or max(wide, high) < LEAST_LONG_SIDE_PX * zoom:
            continue
        centre_x, centre_y = (box.x1 + box.x2) / 2 / width, (box.y1 + box.y2) / 2 / height
        index = CLASSES.index(box.label)
        lines.append(f"{index} {centre_x:.6f} {centre_y:.6f} {wide / width:.6f} {high / height:.6f}")
    return lines


def write_dataset(
    out: Path,
    *,
    seed: int,
    count: int,
    size: tuple[int, int] = (640, 360),
    val_fraction: float = 0.1,
    photos: Path | None = None,
    workers: int = 1,
) -> None:
    """Writes `count` scenes under `out` (images/train, labels/train, images/val, labels/val, data.yaml), and in
    conditions.csv the street seed, light and weather of each.

    `photos` names a folder with {train,valid}/{images,labels} of real pictures with the one class garbage; they
    become images/train/photo-* and, kept apart, images/photos_val. The same arguments write the same files.
    """
    if count < 1 or not 0.0 <= val_fraction < 1.0:
        raise ValueError("count must be at least 1 and val_fraction in [0, 1)")
    val_count = round(count * val_fraction)
    for part in ("train", "val"):
        (out / "images" / part).mkdir(parents=True, exist_ok=True)
        (out / "labels" / part).mkdir(parents=True, exist_ok=True)
    jobs = _jobs(out, seed, "train", TRAIN_SEEDS, count - val_count, size)
    jobs += _jobs(out, seed, "val", VAL_SEEDS, val_count, size)
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            rows = [row for part in pool.map(write_street, jobs, chunksize=4) for row in part]
    else:
        rows = [row for job in jobs for row in write_street(job)]
    text = "".join(",".join(row) + "\n" for row in [("picture", "street_seed", "light", "weather"), *rows])
    (out / "conditions.csv").write_text(text, encoding="utf-8")
    if photos is not None:
        _write_photos(photos / "train", out, "train")
        _write_photos(photos / "valid", out, "photos_val")
    names = "".join(f"  {index}: {name}\n" for index, name in enumerate(CLASSES))
    (out / "data.yaml").write_text(f"path: .\ntrain: images/train\nval: images/val\nnames:\n{names}", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Job:
    """The scenes of one street: which seed, which part, which picture numbers."""

    out: Path
    street_seed: int
    part: str
    first: int
    count: int
    size: tuple[int, int]


def street_seeds(seed: int, part: str, count: int) -> list[int]:
    """Seeds of the streets of a part, all within its range."""
    span = TRAIN_SEEDS if part == "train" else VAL_SEEDS
    rng = np.random.default_rng([seed, 0 if part == "train" else 1])
    return [int(value) for value in rng.integers(span.start, span.stop, count)]


def _jobs(out: Path, seed: int, part: str, span: range, count: int, size: tuple[int, int]) -> list[Job]:
    streets = math.ceil(count / SCENES_PER_STREET)
    seeds = street_seeds(seed, part, streets)
    assert all(each in span for each in seeds)
    return [
        Job(out, street_seed, part, i * SCENES_PER_STREET, min(SCENES_PER_STREET, count - i * SCENES_PER_STREET), size)
        for i, street_seed in enumerate(seeds)
    ]


def write_street(job: Job) -> list[tuple[str, str, str, str]]:
    """Writes the scenes of one street; returns a row of conditions.csv for each."""
    rows = []
    rng = np.random.default_rng([job.street_seed, 100])
    width, height = job.size
    grow = 1.5 if rng.random() < 0.25 else 1.0
    street = Street(job.street_seed, width=round(width * grow), height=round(height * grow))
    for i in range(job.count):
        street.set_weather(Weather(str(rng.choice([str(w) for w in Weather], p=[0.62, 0.2, 0.08, 0.1]))))
        street.set_light(Light(str(rng.choice([str(x) for x in Light], p=[0.4, 0.18, 0.14, 0.28]))))
        compose(street, rng)
        now_s = float(rng.uniform(0, 1000))
        picture = _degrade(street.render(now_s), (width, height), rng)
        lines = label_lines(street.truth(now_s), street.width, street.height)
        stem = f"{job.part}-{job.first + i:06d}"
        quality = int(rng.integers(38, 96))
        cv2.imwrite(str(job.out / "images" / job.part / f"{stem}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        text = "".join(line + "\n" for line in lines)
        (job.out / "labels" / job.part / f"{stem}.txt").write_text(text, encoding="utf-8")
        rows.append((stem, str(job.street_seed), str(street.light), str(street.weather)))
    return rows


def _degrade(picture: NDArray[np.uint8], size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Brings a picture to its size; now and then with the softness of a smaller sensor."""
    out: NDArray[np.uint8] = picture
    if (out.shape[1], out.shape[0]) != size:
        out = np.asarray(cv2.resize(out, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if rng.random() < 0.15:
        share = float(rng.uniform(0.55, 0.85))
        small = cv2.resize(out, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
        out = np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    return out


def _write_photos(source: Path, out: Path, part: str) -> None:
    """Copies real pictures and writes their labels with the class index of garbage."""
    if not (source / "images").is_dir():
        raise FileNotFoundError(f"no folder images under {source}")
    for kind in ("images", "labels"):
        (out / kind / part).mkdir(parents=True, exist_ok=True)
    garbage = CLASSES.index("garbage")
    for image in sorted((source / "images").iterdir()):
        label = source / "labels" / f"{image.stem}.txt"
        rows = label.read_text(encoding="utf-8").splitlines() if label.exists() else []
        text = "".join(f"{garbage} {' '.join(row.split()[1:5])}\n" for row in rows if row.strip())
        (out / "images" / part / f"photo-{image.name}").write_bytes(image.read_bytes())
        (out / "labels" / part / f"photo-{image.stem}.txt").write_text(text, encoding="utf-8")
