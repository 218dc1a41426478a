"""What is missing for a device that does not appear: one question after the other, each with how to mend it."""

import difflib
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta

from devices.credential import Credential, read_credentials
from devices.model import Device, DeviceState, DeviceStatus
from devices.registry import KINDS
from devices.store import is_device_code, read_devices_by_code, read_state
from kernel.db import Connection
from kernel.settings import MqttSettings

_LOOK_BACK = timedelta(hours=24)
_MOST_LETTERS = 5_000
_MOST_CODES = 10_000  # comparing a code with these takes a tenth of a second
_CLOCK_OFF_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckItem:
    """One answer. `ok` None: nothing is known, or it does not matter for this device. `mend_*` empty when all is well."""

    check: str
    ok: bool | None
    text_zh: str
    text_en: str
    mend_zh: str = ""
    mend_en: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Letter:
    """Refused messages of one reason under one code."""

    code: str
    kind: str
    reason: str
    detail: str
    count: int
    newest_at: datetime


def check_device(connection: Connection, code: str, mqtt: MqttSettings, now: datetime) -> list[CheckItem]:
    """Every question about the device `code`, registered or not, in the order in which a person would mend things."""
    device = read_devices_by_code(connection, [code]).get(code)
    letters = _read_letters(connection, now)
    broker = check_broker(mqtt)
    if device is None:
        return [_ask_registered(connection, code, letters), broker, _ask_letters(code, letters)]
    state = read_state(connection, device.id)
    row = connection.execute("SELECT code, id FROM device WHERE id = %s", (device.parent_id,)).fetchone()
    gateway = read_devices_by_code(connection, [row[0]]).get(row[0]) if row else None
    items = [
        CheckItem(check="registered", ok=True, text_zh=f"已登记:{device.name}", text_en=f"registered: {device.name}"),
        _ask_enabled(device),
        _ask_cell(device),
    ]
    if device.kind == "camera":
        return [*items, _ask_seen(device, state, now), *_ask_consent(device, now)]
    items += [_ask_key(device, gateway, *_find_keys(connection, device, gateway), now), broker]
    if gateway is not None:
        items.append(_ask_gateway(gateway, read_state(connection, gateway.id)))
    items += [_ask_letters(code, letters), *_ask_near(code, letters), _ask_seen(device, state, now), _ask_clock(state)]
    return [*items, *_ask_consent(device, now)]


def check_broker(mqtt: MqttSettings, timeout_s: float = 2.0) -> CheckItem:
    """Does the broker's port answer?"""
    address = f"{mqtt.host}:{mqtt.port}"
    try:
        socket.create_connection((mqtt.host, mqtt.port), timeout=timeout_s).close()
    except OSError as error:
        return CheckItem(
            check="broker", ok=False, text_zh=f"消息服务器 {address} 没有应答:{error}",
            text_en=f"the broker at {address} does not answer: {error}",
            mend_zh="启动系统(gridwarden up),或改正 mqtt.host、mqtt.port", mend_en="start it (`gridwarden up`), or correct mqtt.host and mqtt.port",
        )  # fmt: skip
    return CheckItem(
        check="broker", ok=True, text_zh=f"消息服务器 {address} 有应答", text_en=f"the broker answers at {address}"
    )


def _read_letters(connection: Connection, now: datetime) -> list[Letter]:
    """Refused messages of the last day by code, kind and reason: of the newest 5,000."""
    rows = connection.execute(
        """
        SELECT split_part(topic, '/', 3), split_part(topic, '/', 2), reason, (array_agg(detail ORDER BY received_at DESC))[1],
               count(*), max(received_at)
        FROM (SELECT topic, reason, detail, received_at FROM dead_letter WHERE received_at > %s
              ORDER BY received_at DESC LIMIT %s) AS newest
        GROUP BY 1, 2, 3 ORDER BY 6 DESC
        """,
        (now - _LOOK_BACK, _MOST_LETTERS),
    ).fetchall()
    return [
        Letter(code=code, kind=kind, reason=reason, detail=detail, count=count, newest_at=newest_at)
        for code, kind, reason, detail, count, newest_at in rows
    ]


def _ask_registered(connection: Connection, code: str, letters: list[Letter]) -> CheckItem:
    if not is_device_code(code):
        return CheckItem(
            check="registered", ok=False, text_zh=f"{code!r} 不能作设备编码", text_en=f"{code!r} cannot be a device's code",
            mend_zh="编码为 1–64 个字符:A-Z a-z 0-9 _ . -", mend_en="a code is 1 to 64 of A-Z a-z 0-9 _ . -",
        )  # fmt: skip
    rows = connection.execute(
        "SELECT code FROM device WHERE abs(length(code) - %(length)s) <= 2"
        " ORDER BY lower(translate(code, '_.', '--')) = %(shape)s DESC, code LIMIT %(most)s",
        {"length": len(code), "shape": _shape(code), "most": _MOST_CODES},
    ).fetchall()
    near = find_near(code, [row[0] for row in rows])
    hint_zh = f";相近的编码:{'、'.join(near)}" if near else ""
    hint_en = f"; similar codes: {', '.join(near)}" if near else ""
    return CheckItem(
        check="registered", ok=False, text_zh=f"没有登记 {code}{hint_zh}", text_en=f"{code} is not registered{hint_en}",
        mend_zh=f"登记它:gridwarden device add {code} 类型 --lon … --lat …", mend_en=f"register it: gridwarden device add {code} KIND --lon … --lat …",
    )  # fmt: skip


def find_near(code: str, codes: list[str]) -> list[str]:
    """Codes that a typing error away could be `code`; at most three."""
    by_shape: dict[str, str] = {_shape(other): other for other in codes if other != code}
    found = difflib.get_close_matches(_shape(code), list(by_shape), n=3, cutoff=0.8)
    return [by_shape[shape] for shape in found]


def _shape(code: str) -> str:
    """What remains when capitals and separators do not count."""
    return code.lower().replace("_", "-").replace(".", "-")


def _ask_enabled(device: Device) -> CheckItem:
    if device.enabled:
        return CheckItem(check="enabled", ok=True, text_zh="已启用", text_en="switched on")
    return CheckItem(
        check="enabled", ok=False, text_zh="设备已停用:不能登录,报文被拒收", text_en="switched off: it cannot log in, its messages are refused",
        mend_zh="在设备登记中启用", mend_en="switch it on in the register",
    )  # fmt: skip


def _ask_cell(device: Device) -> CheckItem:
    if device.cell_code:
        return CheckItem(
            check="cell", ok=True, text_zh=f"位于单元网格 {device.cell_code}", text_en=f"in cell {device.cell_code}"
        )
    return CheckItem(
        check="cell", ok=False, text_zh="位置不在任何单元网格内:按辖区查看的人看不到它", text_en="its position lies in no cell: people with an area of their own don't see it",
        mend_zh="检查经纬度与坐标系(高德、腾讯为 gcj02,百度为 bd09)", mend_en="check the position and its coordinate system (Amap, Tencent: gcj02; Baidu: bd09)",
    )  # fmt: skip


def _find_keys(
    connection: Connection, device: Device, gateway: Device | None
) -> tuple[list[Credential], list[Credential]]:
    own = read_credentials(connection, device.id)
    return own, read_credentials(connection, gateway.id) if gateway else []


def _ask_key(
    device: Device, gateway: Device | None, own: list[Credential], of_gateway: list[Credential], now: datetime
) -> CheckItem:
    keys = own + of_gateway
    good = [key for key in keys if key.is_valid(now)]
    if good:
        names = ", ".join(key.username for key in good)
        ending = [key for key in own if key.is_valid(now) and key.valid_until is not None]
        if len(ending) == len(good) and ending:
            until = max(key.valid_until for key in ending if key.valid_until is not None)
            return CheckItem(
                check="key", ok=False, text_zh=f"密钥 {names} 将于 {until:%Y-%m-%d %H:%M} UTC 失效", text_en=f"the key of {names} ends at {until:%Y-%m-%d %H:%M} UTC",
                mend_zh="发放新密钥:gridwarden device rotate-key", mend_en="issue a new one: gridwarden device rotate-key",
            )  # fmt: skip
        return CheckItem(check="key", ok=True, text_zh=f"可用的登录名:{names}", text_en=f"may log in as {names}")
    mend_zh, mend_en = f"gridwarden device rotate-key {device.code}", f"gridwarden device rotate-key {device.code}"
    if not keys:
        text_zh, text_en = "从未发放密钥", "no key was ever issued"
        if gateway is not None:
            mend_zh, mend_en = (f"{text} 或 {gateway.code}" for text in (mend_zh, mend_en))
    elif all(key.revoked_at for key in keys):
        text_zh, text_en = "所有密钥均已吊销", "every key was revoked"
    else:
        text_zh, text_en = "密钥已过期", "the key has ended"
    return CheckItem(check="key", ok=False, text_zh=text_zh, text_en=text_en, mend_zh=mend_zh, mend_en=mend_en)


def _ask_gateway(gateway: Device, state: DeviceState) -> CheckItem:
    silent = state.status in (DeviceStatus.OFFLINE, DeviceStatus.UNKNOWN)
    if gateway.enabled and not silent:
        return CheckItem(
            check="gateway",
            ok=True,
            text_zh=f"网关 {gateway.code} 在线",
            text_en=f"its gateway {gateway.code} is heard",
        )
    if state.last_seen_at is None and gateway.enabled:
        return CheckItem(
            check="gateway", ok=None, text_zh=f"网关 {gateway.code} 自身从未上报", text_en=f"its gateway {gateway.code} never reported about itself",
            mend_zh="检查网关的电源、网络与密钥", mend_en="check the gateway's power, network and key",
        )  # fmt: skip
    return CheckItem(
        check="gateway", ok=False, text_zh=f"网关 {gateway.code} {'离线' if gateway.enabled else '已停用'}", text_en=f"its gateway {gateway.code} is {'offline' if gateway.enabled else 'switched off'}",
        mend_zh=f"先处理网关:gridwarden device check {gateway.code}", mend_en=f"mend the gateway first: gridwarden device check {gateway.code}",
    )  # fmt: skip


def _ask_letters(code: str, letters: list[Letter]) -> CheckItem:
    mine = [letter for letter in letters if letter.code == code]
    if not mine:
        return CheckItem(
            check="refused", ok=None, text_zh="一天内没有被拒收的报文", text_en="no message was refused within a day"
        )
    newest = mine[0]
    count = sum(letter.count for letter in mine)
    reasons = ", ".join(dict.fromkeys(letter.reason for letter in mine))
    return CheckItem(
        check="refused", ok=False,
        text_zh=f"一天内拒收 {count} 条:{reasons};最近一条 {newest.newest_at:%m-%d %H:%M:%S} UTC,{newest.detail}",
        text_en=f"{count} refused within a day: {reasons}; the newest at {newest.newest_at:%m-%d %H:%M:%S} UTC, {newest.detail}",
        mend_zh="按原因改正报文(docs/devices.md),再在死信中重放", mend_en="correct the message by its reason (docs/devices.md), then replay the dead letters",
    )  # fmt: skip


def _ask_near(code: str, letters: list[Letter]) -> list[CheckItem]:
    """Messages under a code that nobody registered and that looks like a slip of this one."""
    strangers = [letter.code for letter in letters if letter.reason == "unknown_device" and letter.code != code]
    near = find_near(code, list(dict.fromkeys(strangers)))
    if not near:
        return []
    return [
        CheckItem(
            check="near_miss",
            ok=False,
            text_zh=f"有未登记的相近编码在上报:{'、'.join(near)}",
            text_en=f"a code nobody registered reports, which looks like this one: {', '.join(near)}",
            mend_zh="核对设备里填写的编码(区分大小写)",
            mend_en="compare the code set in the device (capitals count)",
        )
    ]


def _ask_seen(device: Device, state: DeviceState, now: datetime) -> CheckItem:
    if state.last_seen_at is None:
        return CheckItem(
            check="seen", ok=False, text_zh="从未收到它的报文", text_en="it was never heard",
            mend_zh=f"检查供电、网络、地址与主题 gridwarden/{device.kind}/{device.code}/telemetry", mend_en=f"check power, network, address and the topic gridwarden/{device.kind}/{device.code}/telemetry",
        )  # fmt: skip
    ago_s = (now - state.last_seen_at).total_seconds()
    text_zh, text_en = f"{ago_s:.0f} 秒前收到过", f"heard {ago_s:.0f} s ago"
    patience_s = (
        KINDS[device.kind].settings.model_validate(device.settings).offline_after_s if device.kind in KINDS else 300.0
    )
    if ago_s <= patience_s:
        return CheckItem(check="seen", ok=True, text_zh=text_zh, text_en=text_en)
    return CheckItem(
        check="seen", ok=False, text_zh=f"{text_zh},超过 {patience_s:.0f} 秒", text_en=f"{text_en}, more than {patience_s:.0f} s",
        mend_zh="检查供电与网络;休眠设备请设 offline_after_s", mend_en="check power and network; for a sleeping device set offline_after_s",
    )  # fmt: skip


def _ask_clock(state: DeviceState) -> CheckItem:
    offset_s = state.clock_offset_s
    if offset_s is None:
        return CheckItem(check="clock", ok=None, text_zh="设备时钟尚未测得", text_en="its clock was not measured yet")
    if abs(offset_s) <= _CLOCK_OFF_S:
        return CheckItem(
            check="clock",
            ok=True,
            text_zh=f"设备时钟偏差 {offset_s:.0f} 秒",
            text_en=f"its clock is off by {offset_s:.0f} s",
        )
    return CheckItem(
        check="clock", ok=False, text_zh=f"设备时钟{'慢' if offset_s > 0 else '快'} {abs(offset_s):.0f} 秒", text_en=f"its clock is {abs(offset_s):.0f} s {'behind' if offset_s > 0 else 'ahead'}",
        mend_zh="给设备校时(NTP)", mend_en="set its clock (NTP)",
    )  # fmt: skip


def _ask_consent(device: Device, now: datetime) -> list[CheckItem]:
    if not device.in_home:
        return []
    if device.consent_until is not None and now < device.consent_until:
        until = f"{device.consent_until:%Y-%m-%d}"
        return [CheckItem(check="consent", ok=True, text_zh=f"住户同意至 {until}", text_en=f"consent until {until}")]
    return [
        CheckItem(
            check="consent",
            ok=False,
            text_zh="住户内设备没有有效的同意书:关怀类规则不判断",
            text_en="in a home without valid consent on record: rules about persons are not judged",
            mend_zh="登记同意书",
            mend_en="record the consent",
        )
    ]
