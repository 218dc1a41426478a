"""Trains the detector on data sets in YOLO layout (`gridwarden vision train`).

Stopping it loses at most one epoch: start it again with the same folder and it goes on from its last checkpoint.
Needs the extra `train`; ultralytics is AGPL-3.0 and the weights are treated as such.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vision.training.dataset import DataSet
from vision.training.network import build_network
from vision.training.pictures import Pictures, Teacher, change, load_pictures

INPUT_WIDTH, INPUT_HEIGHT = 512, 288
WARM_UP_STEPS = 250
CHECKPOINT = "last.pt"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a training run does.

    `start`: a checkpoint of an earlier run to begin from; `minutes`: the schedule ends after that long at the latest;
    `photos_per_epoch`: how many of the pictures called photo-*, drawn anew each epoch; `pictures_per_epoch`: a random
    part of all, to save more often; `width`, `height`: of the input in pixels, multiples of 32.
    """

    data: tuple[DataSet, ...]
    out: Path
    epochs: int = 30
    batch: int = 16
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.01
    threads: int = 2
    seed: int = 0
    limit: int | None = None
    minutes: float | None = None
    photos_per_epoch: int = 500
    pictures_per_epoch: int | None = None
    start: Path | None = None
    teacher: Teacher | None = None
    width: int = INPUT_WIDTH
    height: int = INPUT_HEIGHT


Batch = dict[str, torch.Tensor]


def say(text: str) -> None:
    """One line of the log, written at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def batches(pictures: Pictures, plan: Plan, epoch: int) -> Iterator[Batch]:
    """Shuffled, changed batches of one epoch, prepared one ahead in a thread."""
    rng = np.random.default_rng([plan.seed, epoch])
    photos = np.flatnonzero(pictures.real)
    chosen = rng.choice(photos, min(len(photos), plan.photos_per_epoch), replace=False)
    order = rng.permutation(np.concatenate([np.flatnonzero(~pictures.real), chosen]))[: plan.pictures_per_epoch]
    chunks = [order[i : i + plan.batch] for i in range(0, len(order) - plan.batch + 1, plan.batch)]
    ready: Queue[Batch | None] = Queue(maxsize=3)

    def prepare() -> None:
        for chunk in chunks:
            ready.put(_batch(pictures, chunk, rng))
        ready.put(None)

    Thread(target=prepare, daemon=True).start()
    while (batch := ready.get()) is not None:
        yield batch


def _batch(pictures: Pictures, chunk: NDArray[np.int64], rng: np.random.Generator) -> Batch:
    height, width = pictures.pixels.shape[1:3]
    images, rows, owners = [], [], []
    for place, index in enumerate(chunk):
        picture, boxes = change(pictures.pixels[index], pictures.boxes[index], rng)
        images.append(picture)
        rows.append(boxes)
        owners.append(np.full(len(boxes), place, np.float32))
    stacked = np.ascontiguousarray(np.stack(images)[..., ::-1].transpose(0, 3, 1, 2))
    boxes = np.concatenate(rows)
    centres = (boxes[:, 1:3] + boxes[:, 3:5]) / 2 / [width, height]
    sizes = (boxes[:, 3:5] - boxes[:, 1:3]) / [width, height]
    return {
        "img": torch.from_numpy(stacked).float().div_(255).to(memory_format=torch.channels_last),
        "cls": torch.from_numpy(boxes[:, :1].copy()),
        "bboxes": torch.from_numpy(np.concatenate([centres, sizes], axis=1).astype(np.float32)),
        "batch_idx": torch.from_numpy(np.concatenate(owners)),
    }


def _as_float(value: Any) -> Any:
    """The loss is counted in full precision whatever the network ran in."""
    if isinstance(value, torch.Tensor):
        return value.float()
    if isinstance(value, dict):
        return {key: _as_float(each) for key, each in value.items()}
    return [_as_float(each) for each in value]


def _optimizer(network: Any, plan: Plan) -> torch.optim.AdamW:
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": plan.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=plan.learning_rate, betas=(0.9, 0.99))


def _learning_rate(plan: Plan, step: int, progress: float) -> float:
    """A linear warm-up; over the whole run (progress 0 to 1) half a cosine down to a hundredth."""
    warm = min(1.0, (step + 1) / WARM_UP_STEPS)
    return plan.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


@dataclass(slots=True)
class Progress:
    """How far a run is: steps done, time spent in earlier starts, and when this one began."""

    steps: int = 0
    spent_s: float = 0.0
    began_s: float = 0.0

    def elapsed_s(self) -> float:
        """Time spent training, over all starts."""
        return self.spent_s + time.monotonic() - self.began_s

    def share(self, plan: Plan, steps: int) -> float:
        """0 at the start, 1 when the epochs or the minutes are used up."""
        by_time = 0.0 if plan.minutes is None else self.elapsed_s() / (plan.minutes * 60)
        return max(self.steps / max(1, steps), by_time)


def _follow(average: Any, network: Any, step: int) -> None:
    """Moves the running average of the weights, which is what is exported."""
    keep = 0.9995 * (1 - math.exp(-(step + 1) / 400))
    values = network.state_dict()
    with torch.no_grad():
        for key, mean in average.state_dict().items():
            if mean.dtype.is_floating_point:
                mean.mul_(keep).add_(values[key].detach(), alpha=1 - keep)
            else:
                mean.copy_(values[key])


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes beside and renames, so that a stop never leaves half a file."""
    beside = path.with_suffix(".part")
    torch.save(state, beside)
    beside.replace(path)


def train(plan: Plan) -> Path:
    """Runs or resumes a training; returns the checkpoint, whose `average` holds the weights to export."""
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    plan.out.mkdir(parents=True, exist_ok=True)
    checkpoint = plan.out / CHECKPOINT
    network = build_network(plan.epochs).to(memory_format=torch.channels_last)
    average = build_network(plan.epochs)
    average.load_state_dict(network.state_dict())
    optimizer = _optimizer(network, plan)
    first, progress = 0, Progress()
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        first = int(state["epoch"]) + 1
        progress = Progress(steps=int(state["steps"]), spent_s=float(state["spent_s"]))
        say(f"resumed after epoch {first}")
    elif plan.start is not None:
        weights = torch.load(plan.start, weights_only=True)["average"]
        network.load_state_dict(weights)
        average.load_state_dict(weights)
        say(f"started from {plan.start.name}")
    pictures = load_pictures(plan.data, plan.width, plan.height, limit=plan.limit, teacher=plan.teacher)
    say(f"{len(pictures)} pictures, {int(pictures.real.sum())} of them photographs")
    progress.began_s = time.monotonic()
    for epoch in range(first, plan.epochs):
        if plan.minutes is not None and progress.elapsed_s() >= plan.minutes * 60:
            break
        _run_epoch(plan, epoch, pictures, network, average, optimizer, progress)
        save_checkpoint(
            checkpoint,
            {
                "epoch": epoch,
                "steps": progress.steps,
                "spent_s": progress.elapsed_s(),
                "network": network.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "size": [plan.width, plan.height],
            },
        )
    return checkpoint


def steps_per_epoch(pictures: Pictures, plan: Plan) -> int:
    """How many batches an epoch has."""
    photos = int(pictures.real.sum())
    most = len(pictures) - photos + min(plan.photos_per_epoch, photos)
    return min(most, plan.pictures_per_epoch or most) // plan.batch


def _run_epoch(
    plan: Plan,
    epoch: int,
    pictures: Pictures,
    network: Any,
    average: Any,
    optimizer: torch.optim.AdamW,
    progress: Progress,
) -> None:
    network.train()
    per_epoch = steps_per_epoch(pictures, plan)
    steps = plan.epochs * per_epoch
    started_s, total, done = time.monotonic(), np.zeros(3), 0
    for batch in batches(pictures, plan, epoch):
        share = progress.share(plan, steps)
        if share >= 1.0:
            break
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(plan, progress.steps, share)
        total += _step(batch, epoch, network, optimizer)
        _follow(average, network, progress.steps)
        progress.steps, done = progress.steps + 1, done + 1
        if progress.steps % 50 == 0:
            say(f"  step {progress.steps}, {share:.0%}, {progress.elapsed_s():.0f} s")
    box, cls, l1 = total / max(1, done)
    spent_s = time.monotonic() - started_s
    say(f"epoch {epoch + 1}/{plan.epochs} box {box:.3f} cls {cls:.3f} l1 {l1:.3f} {spent_s:.0f} s")


def _step(batch: Batch, epoch: int, network: Any, optimizer: torch.optim.AdamW) -> NDArray[np.float64]:
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(batch["img"])
    losses, items = network.loss(batch, _as_float(outputs))
    loss = losses.sum()
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the loss is {float(loss)} in epoch {epoch + 1}")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
    optimizer.step()
    values = items.values() if isinstance(items, dict) else items
    return np.array([float(value) for value in values][:3])
