"""What engineers and a second operator do with devices, told against the running demo in real Chromium."""

import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, StorageState, expect

from tests.web.conftest import Demo
from tests.web.visit import PHONE_SIZE, UNTRANSLATED, WALL_SIZE, Visit, count_colours, open_page, sign_in

pytestmark = [pytest.mark.web, pytest.mark.slow]

PAGES = ["", "/import", "/letters", "/rules", "/rules/new", "/mappings/new", "/maintenance", "/parking", "/findings"]
TABS = ["", "/water", "/commands", "/console", "/check", "/registry", "/keys", "/shelf"]


def read_devices(page: Page, kind: str) -> list[dict[str, Any]]:
    found = page.evaluate(
        "kind => fetch('/api/v1/devices?kind=' + kind, {headers: {'X-Seat': 'wall'}}).then(a => a.json())", kind
    )
    assert isinstance(found, list)
    assert found
    return found


@pytest.fixture(scope="module")
def engineer(chromium: Browser, demo: Demo) -> StorageState:
    """An engineer's session."""
    return sign_in(chromium, demo.add_person("eva", "engineer"))


@pytest.fixture(scope="module")
def first_operator(chromium: Browser, demo: Demo) -> StorageState:
    """Whoever asks for a command."""
    return sign_in(chromium, demo.add_person("lin", "operator"))


@pytest.fixture(scope="module")
def second_operator(chromium: Browser, demo: Demo) -> StorageState:
    """Whoever approves it."""
    return sign_in(chromium, demo.add_person("zhou", "operator"))


@pytest.fixture
def desk(chromium: Browser, demo: Demo, engineer: StorageState) -> Iterator[Visit]:
    """The list of devices, in Chinese and dark."""
    visit = open_page(chromium, f"{demo.base_url}/devices", engineer)
    expect(visit.page.locator("[data-device]").first).to_be_visible(timeout=20_000)
    yield visit
    visit.context.close()
    assert visit.complaints == []


def test_a_device_is_found_by_its_code_and_shows_its_values_as_a_curve(desk: Visit) -> None:
    page = desk.page
    page.keyboard.press("/")
    page.keyboard.type("RIV-01")
    expect(page.locator("[data-device]")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("闸站")
    page.locator("[data-metric=level_m]").click()
    canvas = page.locator(".curve canvas")
    expect(canvas).to_be_visible(timeout=20_000)
    assert count_colours(page.locator(".curve").screenshot()) > 3
    with page.expect_download() as download:
        page.locator("[data-test=csv]").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8-sig").splitlines()
    assert lines[0].startswith("at_utc,河道水位")
    assert len(lines) > 2


def test_the_console_shows_a_test_message_and_its_receipt(desk: Visit, demo: Demo) -> None:
    page = desk.page
    device = read_devices(page, "smoke_alarm")[0]
    page.goto(f"{demo.base_url}/devices/{device['id']}/console")
    expect(page.locator("[data-test=console-link]")).to_have_text("正在监听", timeout=20_000)
    page.locator("[data-test=send-test]").click()
    sent = page.locator("[data-test=console-line]", has_text=re.compile(rf"{device['code']}/(telemetry|event|state)"))
    receipt = page.locator("[data-test=console-line]", has_text=f"{device['code']}/receipt")
    expect(sent.first).to_be_visible(timeout=20_000)
    expect(receipt.first).to_be_visible(timeout=20_000)
    receipt.first.locator(".head").click()
    expect(receipt.first.locator("pre").first).to_contain_text('"test": true')


def test_a_list_is_judged_row_by_row_and_changes_nothing_until_it_is_applied(desk: Visit, demo: Demo) -> None:
    page = desk.page
    near = read_devices(page, "smoke_alarm")[0]
    code = f"NEW-{uuid.uuid4().hex[:6]}"
    good = f"{code},smoke_alarm,新装烟感,{near['lon']},{near['lat']}\n"

    def upload(rows: str) -> None:
        file = {"name": "list.csv", "mimeType": "text/csv", "buffer": f"code,kind,name,lon,lat\n{rows}".encode()}
        page.locator("[data-test=import-file]").set_input_files(file)  # type: ignore[arg-type]

    page.goto(f"{demo.base_url}/devices/import")
    upload(f"{good}{code}B,toaster,不存在的类型,{near['lon']},{near['lat']}\n")
    report = page.locator("[data-test=import-report]")
    expect(report).to_contain_text("1 行可导入，1 行有问题", timeout=20_000)
    expect(page.locator("[data-ok=false]")).to_contain_text("没有这类设备")
    expect(page.locator("[data-test=import-apply]")).to_be_disabled()

    upload(good)
    expect(report).to_contain_text("1 行可导入，0 行有问题", timeout=20_000)
    assert code not in {device["code"] for device in read_devices(page, "smoke_alarm")}
    page.locator("[data-test=import-apply]").click()
    expect(report).to_contain_text("已导入 1 行", timeout=20_000)
    assert code in {device["code"] for device in read_devices(page, "smoke_alarm")}


def test_a_rule_is_tried_on_stored_data_then_monitored_and_only_then_live(desk: Visit, demo: Demo) -> None:
    page = desk.page
    name = f"high_{uuid.uuid4().hex[:6]}"
    page.goto(f"{demo.base_url}/devices/rules")
    page.locator("[data-test=new-rule]").click()
    page.locator("[name=title_zh]").fill("水位偏高")
    page.locator("[name=title_en]").fill("High level")
    page.locator("[name=name]").fill(name)
    page.locator("[name=kind]").select_option("river_sluice")
    page.locator("[name=type]").select_option("threshold")
    page.locator("[name=metric]").fill("level_m")
    page.locator("[name=limit]").fill("0.5")
    page.locator("[data-test=run-back-test]").click()
    picture = page.locator("[data-test=back-test]")
    expect(picture).to_contain_text("次报警", timeout=30_000)
    expect(picture.locator(".devices li").first).to_contain_text("RIV-")

    page.locator("[name=reason]").fill("试验")
    page.locator("[data-test=save-rule]").click()
    live = page.locator("[data-mode=live]")
    expect(live).to_be_disabled(timeout=20_000)
    page.locator("[data-mode=monitor]").click()
    page.locator("[name=mode_reason]").fill("先看看")
    page.locator("[data-test=set-mode]").click()
    expect(page.locator("[data-mode=monitor]")).to_have_attribute("aria-pressed", "true", timeout=20_000)
    expect(live).to_be_enabled()
    page.goto(f"{demo.base_url}/devices/rules")
    expect(page.locator(f"[data-rule={name}]")).to_contain_text("观察")


def test_a_key_is_shown_once(desk: Visit, demo: Demo) -> None:
    page = desk.page
    device = read_devices(page, "smoke_alarm")[1]
    page.goto(f"{demo.base_url}/devices/{device['id']}/keys")
    page.locator("[data-test=rotate]").click()
    key = page.locator("[data-test=key]")
    expect(key).to_have_text(re.compile(r"\S{20,}"), timeout=20_000)
    secret = key.inner_text()
    page.reload()
    expect(page.locator("[data-test=rotate]")).to_be_visible(timeout=20_000)
    assert secret not in page.content()


def test_a_mapping_shows_what_it_makes_of_a_payload_while_it_is_written(desk: Visit, demo: Demo) -> None:
    page = desk.page
    page.goto(f"{demo.base_url}/devices/mappings/new")
    preview = page.locator("[data-test=preview]")
    expect(preview).to_contain_text('"temperature_c": 21.5', timeout=20_000)
    page.locator("[data-test=payload]").fill(
        '{"ts": 1763625600000, "data": {"temp": "warm", "battery": 5, "state": 1}}'
    )
    expect(preview.locator("li")).to_contain_text("不是数字", timeout=20_000)


def test_a_gate_moves_only_after_a_second_person_has_approved_on_the_wall(
    chromium: Browser, demo: Demo, first_operator: StorageState, second_operator: StorageState
) -> None:
    asking = open_page(chromium, f"{demo.base_url}/devices", first_operator)
    device = read_devices(asking.page, "river_sluice")[1]
    approving = open_page(chromium, f"{demo.base_url}/wall", second_operator)
    expect(approving.page.locator(".link.live")).to_be_visible(timeout=20_000)

    page = asking.page
    page.goto(f"{demo.base_url}/devices/{device['id']}/commands")
    page.locator("[data-offer=set_gate_opening]").click()
    page.locator("[name=opening_m]").fill("0.6")
    page.locator("[name=reason]").fill("防汛预降")
    page.locator("[data-test=request-command]").click()
    card = page.locator("[data-command]").first
    expect(card).to_have_attribute("data-state", "requested", timeout=20_000)
    expect(card.locator("[data-test=needs-second]")).to_be_visible()
    expect(card.locator("[data-test=approve]")).to_have_count(0)

    wall = approving.page
    strip = wall.locator("[data-test=command-strip]")
    expect(strip).to_contain_text("等您批准", timeout=20_000)
    strip.locator("button").click()
    leaf = wall.locator("[data-test=leaf]")
    expect(leaf).to_be_visible(timeout=20_000)
    before = leaf.get_attribute("style")
    wall.locator("[data-test=approve]").click()
    there = wall.locator("[data-command]").first
    expect(there).to_have_attribute("data-state", "verified", timeout=60_000)
    expect(there).to_contain_text("已完成，回读一致")
    expect(card).to_have_attribute("data-state", "verified", timeout=20_000)
    assert leaf.get_attribute("style") != before
    for visit in (asking, approving):
        visit.context.close()
        assert visit.complaints == []


def test_the_label_of_a_device_leads_a_phone_to_its_state_and_takes_a_report(
    chromium: Browser, demo: Demo, first_operator: StorageState
) -> None:
    visit = open_page(chromium, f"{demo.base_url}/devices", first_operator, PHONE_SIZE)
    device = read_devices(visit.page, "smoke_alarm")[2]
    page = visit.page
    page.goto(f"{demo.base_url}/device/{device['code']}")
    expect(page.locator("h1")).to_have_text(str(device["name"]), timeout=20_000)
    expect(page.locator("[data-test=status]")).not_to_be_empty()
    page.locator("[data-test=report]").click()
    page.locator("[data-test=category]").select_option(index=1)
    page.locator("[type=submit]").click()
    expect(page.locator("[data-test=sent]")).to_be_visible(timeout=20_000)
    visit.context.close()
    assert visit.complaints == []


def test_a_label_asks_a_stranger_to_log_in_and_comes_back(chromium: Browser, demo: Demo) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(f"{demo.base_url}/device/SMK-01")
    page.wait_for_url(re.compile(r"/login\?seat=phone&next=%2Fdevice%2FSMK-01$"))
    context.close()


def test_an_operator_may_look_and_not_change(chromium: Browser, demo: Demo, first_operator: StorageState) -> None:
    visit = open_page(chromium, f"{demo.base_url}/devices", first_operator)
    page = visit.page
    device = read_devices(page, "smoke_alarm")[0]
    expect(page.get_by_text("只读")).to_be_visible(timeout=20_000)
    page.goto(f"{demo.base_url}/devices/{device['id']}/registry")
    expect(page.locator("dl.facts")).to_be_visible(timeout=20_000)
    expect(page.locator("[data-test=edit]")).to_have_count(0)
    expect(page.locator("[data-tab=console]")).to_have_count(0)
    visit.context.close()
    assert visit.complaints == []


@pytest.mark.parametrize(
    ("language", "theme", "size"),
    [("zh-CN", "dark", WALL_SIZE), ("en", "light", WALL_SIZE), ("en", "dark", PHONE_SIZE)],
)
def test_every_view_is_whole_in_both_languages_and_sizes(
    chromium: Browser, demo: Demo, engineer: StorageState, language: str, theme: str, size: tuple[int, int]
) -> None:
    visit = open_page(chromium, f"{demo.base_url}/devices", engineer, size, language, theme)
    page = visit.page
    device = read_devices(page, "river_sluice")[0]
    addresses = [f"/devices{one}" for one in PAGES] + [f"/devices/{device['id']}{tab}" for tab in TABS]
    for address in addresses:
        page.goto(demo.base_url + address)
        expect(page.locator("main")).not_to_be_empty(timeout=20_000)
        page.wait_for_timeout(700)
        text = page.locator("body").inner_text()
        assert not UNTRANSLATED.findall(text), address
        assert page.locator(".load-state.failed").count() == 0, address
        widths = "() => [document.scrollingElement.scrollWidth, document.querySelector('main').scrollWidth, innerWidth]"
        document, main, inner = page.evaluate(widths)
        assert document <= inner, address
        assert main <= inner, address
    visit.context.close()
    assert visit.complaints == []
