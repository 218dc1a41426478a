"""`gridwarden device certify`: an acceptance test of a real device, watched from the broker as the platform sees it.

While it runs the platform withholds the first receipt of every message of the device (`device.certify_until`), so that the
device has to show that it repeats. Judging is pure; watching is one MQTT client with the platform's log-in, and a second
one that takes the device's connection away by using its client id, which MQTT gives to the newest comer (MQTT 3.1.1, 3.1.4-2).
"""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise
from typing import Any

import paho.mqtt.client as mqtt

from devices.alarms import read_settings
from devices.model import Device, TopicKind
from devices.registry import KINDS
from ingest.client import make_client
from ingest.decode import Decoded, Raw, decode
from kernel.settings import Settings

REPEAT_WITHIN_S = 30.0
"""A device repeats after 1, 2, 4 … 30 s (docs/devices.md): the first repeat comes well within this."""
LATE_REPEAT_S = 2.0
"""A repeat may cross its receipt on the way; after this long it may not."""
CLOCK_LIMIT_S = 5.0
KICK_WAIT_S = 60.0


class Result(StrEnum):
    """What a check found. `not_shown`: nothing happened in the time that could show it."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_SHOWN = "not_shown"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One line of the acceptance report."""

    name: str
    title_zh: str
    title_en: str
    result: Result
    detail: str


@dataclass(frozen=True, slots=True)
class Heard:
    """A message on one of the device's topics, `at_s` seconds after the watch began."""

    at_s: float
    topic: str
    payload: bytes
    received_at: datetime


@dataclass(slots=True)
class Watch:
    """What was seen: messages of the device, receipts of the platform, and how it took the loss of its connection."""

    heard: list[Heard] = field(default_factory=list)
    receipts: list[tuple[float, str]] = field(default_factory=list)  # (second, message id)
    duration_s: float = 0.0
    kicked_s: float | None = None  # when its client id was taken
    returned_s: float | None = None  # when it took it back


def judge(watch: Watch, device: Device, settings: Settings) -> list[Check]:
    """The checks in the order of the report. Pure."""
    decoded: list[tuple[Heard, Decoded]] = []
    refused: list[str] = []
    for heard in watch.heard:
        raw = Raw(heard.topic, heard.payload, len(heard.payload), heard.received_at)
        result = decode(raw, settings.ingest)
        if isinstance(result, Decoded) and result.kind.name == device.kind:
            decoded.append((heard, result))
        else:
            refused.append("kind_mismatch" if isinstance(result, Decoded) else f"{result.reason}: {result.detail}")
    by_id: dict[str, list[tuple[Heard, Decoded]]] = defaultdict(list)
    for heard, one in decoded:
        by_id[one.message.id].append((heard, one))
    receipted = {message_id: at_s for at_s, message_id in reversed(watch.receipts)}  # the first one of each
    wanted = {i: h for i, h in by_id.items() if h[0][1].address.topic_kind is not TopicKind.TELEMETRY}
    return [
        _judge_messages(decoded, refused),
        _judge_ids(by_id),
        _judge_repeats(wanted, watch.duration_s),
        _judge_receipts(wanted, receipted),
        _judge_sequence(by_id),
        _judge_clock([first for (first, *_) in by_id.values()]),
        _judge_heartbeat(watch, device),
        _judge_reconnect(watch),
    ]


def _check(name: str, title_zh: str, title_en: str, result: Result, detail: str) -> Check:
    return Check(name=name, title_zh=title_zh, title_en=title_en, result=result, detail=detail)


def _judge_messages(decoded: Sequence[object], refused: Sequence[str]) -> Check:
    result = Result.FAILED if refused else Result.PASSED if decoded else Result.NOT_SHOWN
    detail = f"{len(decoded)} messages understood, {len(refused)} refused" + (f": {refused[0]}" if refused else "")
    return _check("messages", "报文能解析", "Every message is understood", result, detail)


def _judge_ids(by_id: dict[str, list[tuple[Heard, Decoded]]]) -> Check:
    changed = [i for i, comings in by_id.items() if len({heard.payload for heard, _ in comings}) > 1]
    result = Result.FAILED if changed else Result.PASSED if by_id else Result.NOT_SHOWN
    detail = f"{changed[0]} came with different contents" if changed else f"{len(by_id)} different ids"
    return _check("ids", "消息号唯一", "A message keeps its id, and no other has it", result, detail)


def _judge_repeats(wanted: dict[str, list[tuple[Heard, Decoded]]], duration_s: float) -> Check:
    judged = {i: c for i, c in wanted.items() if duration_s - c[0][0].at_s > REPEAT_WITHIN_S or len(c) > 1}
    silent = [i for i, comings in judged.items() if len(comings) == 1]
    if not judged:
        return _check("repeats", "未收回执会重发", "Repeats until the receipt", Result.NOT_SHOWN,
                      "no event, state or reply came early enough: press its test button")  # fmt: skip
    waits = [comings[1][0].at_s - comings[0][0].at_s for comings in judged.values() if len(comings) > 1]
    detail = f"{len(judged) - len(silent)} of {len(judged)} were repeated"
    if waits:
        detail += f", the first time after {min(waits):.1f} to {max(waits):.1f} s"
    result = Result.FAILED if silent or max(waits, default=0.0) > REPEAT_WITHIN_S else Result.PASSED
    return _check("repeats", "未收回执会重发", "Repeats until the receipt", result, detail)


def _judge_receipts(wanted: dict[str, list[tuple[Heard, Decoded]]], receipted: dict[str, float]) -> Check:
    answered = {i: comings for i, comings in wanted.items() if i in receipted}
    deaf = [i for i, comings in answered.items() if comings[-1][0].at_s > receipted[i] + LATE_REPEAT_S]
    result = Result.FAILED if deaf else Result.PASSED if answered else Result.NOT_SHOWN
    detail = f"{len(deaf)} of {len(answered)} were repeated after their receipt" if answered else "no receipt was due"
    return _check("receipts", "收到回执即停发", "Stops at the receipt", result, detail)


def _judge_sequence(by_id: dict[str, list[tuple[Heard, Decoded]]]) -> Check:
    numbers = [c[0][1].message.seq for c in by_id.values()]
    counted = [n for n in numbers if n is not None]
    if not counted:
        return _check("sequence", "序号递增", "Numbers count up", Result.NOT_SHOWN, "it sends no `seq`; it may")
    doubled = len(counted) - len(set(counted))
    falls = sum(b < a for a, b in pairwise(counted))
    result = (
        Result.FAILED if doubled or falls > 1 else Result.PASSED
    )  # it may begin anew once: it was made to reconnect
    return _check("sequence", "序号递增", "Numbers count up", result, f"{doubled} doubled, {falls} steps back")


def _judge_clock(firsts: Sequence[tuple[Heard, Decoded]]) -> Check:
    title = ("clock", "时钟准确", "Its clock is right")
    if not firsts:
        return _check(*title, Result.NOT_SHOWN, "no message")
    lags = [(heard.received_at - one.message.payload.at).total_seconds() for heard, one in firsts]
    offset_s = min(lags)  # what came straight away
    half = len(lags) // 2
    drift_s = min(lags[half:]) - min(lags[:half]) if half else 0.0
    result = Result.PASSED if abs(offset_s) <= CLOCK_LIMIT_S else Result.FAILED
    return _check(
        *title,
        result,
        f"{offset_s:+.1f} s behind ours (limit {CLOCK_LIMIT_S:g}), {drift_s:+.1f} s from first to second half",
    )


def _judge_heartbeat(watch: Watch, device: Device) -> Check:
    limit_s = read_settings(KINDS[device.kind], device).offline_after_s
    moments = [0.0, *(heard.at_s for heard in watch.heard), watch.duration_s]
    pause_s = max(b - a for a, b in pairwise(moments))
    detail = f"longest pause {pause_s:.0f} s, it counts as offline after {limit_s:.0f} s"
    if not watch.heard or watch.duration_s < limit_s:
        enough = bool(watch.heard) and pause_s < watch.duration_s / 2
        result = Result.PASSED if enough else Result.FAILED if not watch.heard else Result.NOT_SHOWN
        detail += "" if enough else "; watch longer (--minutes)"
    else:
        result = Result.PASSED if pause_s <= limit_s else Result.FAILED
    return _check("heartbeat", "心跳按时", "Reports often enough", result, detail)


def _judge_reconnect(watch: Watch) -> Check:
    title = ("reconnect", "断线自动重连", "Comes back when its connection is lost")
    if watch.kicked_s is None:
        return _check(*title, Result.NOT_SHOWN, "its connection was not taken away")
    if watch.returned_s is None:
        later = [heard.at_s for heard in watch.heard if heard.at_s > watch.kicked_s + 1]
        if later:  # its client id is not its code, so nothing was taken away
            return _check(*title, Result.NOT_SHOWN, "its client id is not its code: switch it off and on to see")
        return _check(*title, Result.FAILED, f"not back {watch.duration_s - watch.kicked_s:.0f} s after")
    return _check(*title, Result.PASSED, f"back after {watch.returned_s - watch.kicked_s:.1f} s")


def observe(device: Device, settings: Settings, duration_s: float, say: Callable[[str], None]) -> Watch:
    """Watch the device for so long; in the middle its connection is taken away once.

    Raises ConnectionError when the broker does not let the platform in.
    """
    watch, lock, began_s = Watch(), threading.Lock(), time.monotonic()

    def take(_client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        at_s = time.monotonic() - began_s
        with lock:
            if message.topic.endswith("/receipt"):
                receipt = json.loads(message.payload)
                watch.receipts.append((at_s, str(receipt.get("id"))))
            elif not message.topic.endswith("/command"):
                watch.heard.append(Heard(at_s, message.topic, bytes(message.payload), datetime.now(UTC)))

    client = _connect(settings, f"gridwarden-certify-{device.code}", clean=True)
    client.on_message = take
    client.subscribe(f"gridwarden/+/{device.code}/#", qos=1)
    try:
        say(f"watching {device.code} for {duration_s:.0f} s: let it send events (its test button), more than once")
        _wait(lambda: time.monotonic() - began_s >= duration_s / 2)
        watch.kicked_s = time.monotonic() - began_s
        say("its connection is taken away now; it should come back by itself")
        watch.returned_s = _kick(device, settings, began_s, min(KICK_WAIT_S, duration_s / 2))
        _wait(lambda: time.monotonic() - began_s >= duration_s)
    finally:
        watch.duration_s = time.monotonic() - began_s
        client.disconnect()
        client.loop_stop()
    return watch


def _connect(settings: Settings, client_id: str, *, clean: bool) -> mqtt.Client:
    client = make_client(settings, client_id, keeps_session=not clean, manual_ack=not clean)
    answered: list[Any] = []
    client.on_connect = lambda _c, _u, _f, reason, _p: answered.append(reason)
    client.connect(settings.mqtt.host, settings.mqtt.port)
    client.loop_start()
    _wait(lambda: bool(answered), 10)
    if not answered or answered[0].is_failure:
        client.loop_stop()
        raise ConnectionError(f"the broker does not let the platform in: {answered[0] if answered else 'no answer'}")
    return client


def _kick(device: Device, settings: Settings, began_s: float, patience_s: float) -> float | None:
    """Take the device's client id, and see whether somebody takes it back; the second of that, or None."""
    # Not a clean session: what waits for the device goes on waiting for it.
    client = _connect(settings, device.code, clean=False)
    back: list[float] = []
    client.on_connect = None
    client.on_disconnect = lambda *_: back.append(time.monotonic() - began_s)
    client.reconnect_delay_set(3600, 3600)
    _wait(lambda: bool(back), patience_s)
    client.on_disconnect = None
    client.disconnect()
    client.loop_stop()
    return back[0] if back else None


def _wait(done: Callable[[], bool], timeout_s: float = 24 * 3600.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not done() and time.monotonic() < deadline_s:
        time.sleep(0.05)


def write_report(device: Device, checks: Sequence[Check], watch: Watch, now: datetime) -> str:
    """The acceptance report as Markdown, Chinese and English."""
    failed = [check for check in checks if check.result is Result.FAILED]
    open_ = [check for check in checks if check.result is Result.NOT_SHOWN]
    verdict = "不合格 / failed" if failed else "未完成 / incomplete" if open_ else "合格 / passed"
    words = {Result.PASSED: "合格 / passed", Result.FAILED: "不合格 / failed", Result.NOT_SHOWN: "未见 / not shown"}
    kind = KINDS[device.kind]
    rows = [f"| {c.title_zh} / {c.title_en} | {words[c.result]} | {c.detail} |" for c in checks]
    return "\n".join(
        [
            f"# 设备验收报告 / Acceptance report: {device.code}",
            "",
            f"{kind.title_zh} / {kind.title_en}, {device.name}, {now:%Y-%m-%d %H:%M} UTC,"
            f" {watch.duration_s:.0f} s, {len(watch.heard)} messages. **{verdict}**",
            "",
            "| 检查 / check | 结果 / result | 说明 / detail |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )
