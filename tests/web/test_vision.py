"""What operators and engineers do with cameras, told against the running demo in real Chromium."""

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, StorageState, WebSocketRoute, expect

from tests.waiting import wait_until
from tests.web.conftest import Demo
from tests.web.visit import PHONE_SIZE, UNTRANSLATED, WALL_SIZE, Visit, open_page, prefer, sign_in

pytestmark = [pytest.mark.web, pytest.mark.slow]


@pytest.fixture(scope="module")
def keeper(chromium: Browser, demo: Demo) -> StorageState:
    """Somebody who watches, judges, draws zones and may look behind masks."""
    return sign_in(chromium, demo.add_person("vera", "operator", "engineer", "unmask"))


@pytest.fixture
def visit(chromium: Browser, demo: Demo, keeper: StorageState) -> Iterator[Visit]:
    """The cameras' page, in Chinese and dark."""
    opened = open_page(chromium, f"{demo.base_url}/cameras", keeper)
    yield opened
    opened.context.close()
    assert opened.complaints == []


def ask(page: Page, path: str) -> Any:
    """The answer of a route to whoever is signed in."""
    return page.evaluate("path => fetch('/api/v1' + path, {headers: {'X-Seat': 'wall'}}).then(a => a.json())", path)


LIVE = "count => document.querySelectorAll('.live-video[data-mode=live]').length >= count"


def test_all_cameras_are_live_on_one_page_and_one_is_enlarged_by_keys(
    visit: Visit, record_property: Callable[[str, object], None]
) -> None:
    page = visit.page
    count = len(ask(page, "/cameras"))
    page.wait_for_function(LIVE, arg=count, timeout=30_000)
    first_ms = [
        int(text) for text in page.locator("[data-camera]").evaluate_all("all => all.map(e => e.dataset.firstMs)")
    ]
    record_property("first_picture_ms", first_ms)
    print(f"first picture after {min(first_ms)} to {max(first_ms)} ms, {count} cameras opened at once")  # noqa: T201
    # Never shown as new what is old, and boxes come beside the video.
    ages = "() => [...document.querySelectorAll('.live-video')].every(e => Number(e.dataset.ageMs) < 3000)"
    page.wait_for_function(ages, timeout=20_000)
    page.wait_for_function(
        "() => [...document.querySelectorAll('.live-video')].some(e => e.dataset.tracks > 0)", timeout=20_000
    )
    assert not UNTRANSLATED.findall(page.locator("body").inner_text())

    page.keyboard.press("2")
    expect(page.locator("[data-camera]")).to_have_count(min(4, count))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("[data-camera]")).to_have_count(1)
    page.wait_for_function(LIVE, arg=1, timeout=20_000)
    page.keyboard.press("Escape")
    expect(page.locator("[data-camera]")).to_have_count(min(4, count))
    page.keyboard.press("4")


def test_a_picture_that_gets_old_is_greyed_and_says_its_age(
    chromium: Browser, demo: Demo, keeper: StorageState
) -> None:
    held = False

    def pass_on(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        server.on_message(lambda message: None if held else socket.send(message))

    context = chromium.new_context(storage_state=keeper)
    prefer(context, "zh-CN", "dark")
    context.route_web_socket(re.compile(r"/cameras/.+/live"), pass_on)
    page = Visit(context, f"{demo.base_url}/cameras").page
    page.wait_for_function(LIVE, arg=1, timeout=30_000)
    held = True
    expect(page.locator("[data-test=old]").first).to_contain_text("前的画面", timeout=10_000)
    assert page.locator(".live-video.old").count() > 0
    held = False
    expect(page.locator("[data-test=old]")).to_have_count(0, timeout=30_000)
    context.close()


def test_a_zone_is_drawn_by_keys_refused_while_it_is_wrong_and_put_live(visit: Visit, demo: Demo) -> None:
    page = visit.page
    camera = ask(page, "/cameras")[-1]
    page.goto(f"{demo.base_url}/devices/{camera['id']}/scene")
    before = ask(page, f"/cameras/{camera['id']}/scene")
    page.locator("[data-test=new-zone]").click()
    page.keyboard.press("Enter")
    corners = page.locator("[data-corner]")
    expect(corners).to_have_count(4)
    # A corner dragged over the opposite side makes a bow: said at the zone, and nothing can be put live.
    corners.nth(0).focus()
    for _ in range(30):
        page.keyboard.press("Shift+ArrowRight")
    expect(page.locator("[data-test=zone-fault]")).to_have_text("边线自相交叉")
    expect(page.locator("[data-test=put-live]")).to_be_disabled()
    page.locator("[data-test=undo-step]").click()
    expect(page.locator("[data-test=zone-fault]")).to_have_count(0)
    page.locator("[name=zone-rule]").select_option("crowding")
    page.locator("[name=limit]").fill("500")
    page.locator("[name=zone-name]").fill("试验区")
    page.locator("[data-test=put-live]").click()
    expect(page.get_by_text(f"正在使用的是第 {before['version'] + 1} 版")).to_be_visible(timeout=10_000)
    after = ask(page, f"/cameras/{camera['id']}/scene")
    assert [zone["name"] for zone in after["scene"]["zones"]][-1] == "试验区"
    page.locator("[data-test=undo]").click()
    wait_until(
        lambda: ask(page, f"/cameras/{camera['id']}/scene")["scene"] == before["scene"], "the zone is taken back", 30
    )


def test_a_zone_is_drawn_and_mended_by_touch_and_a_refusal_is_said_at_it(
    chromium: Browser, demo: Demo, keeper: StorageState
) -> None:
    opened = open_page(chromium, f"{demo.base_url}/devices", keeper, PHONE_SIZE)
    page = opened.page
    camera = ask(page, "/cameras")[-1]
    before = ask(page, f"/cameras/{camera['id']}/scene")
    page.goto(f"{demo.base_url}/devices/{camera['id']}/scene")
    canvas = page.locator(".zone-canvas")

    def tap(x: float, y: float) -> None:
        box = canvas.bounding_box()
        assert box is not None
        page.touchscreen.tap(box["x"] + x * box["width"], box["y"] + y * box["height"])

    page.locator("[data-test=new-zone]").tap()
    canvas.scroll_into_view_if_needed()
    for place in ((0.1, 0.7), (0.5, 0.7), (0.5, 0.95), (0.1, 0.95)):
        tap(*place)
    page.locator("[data-test=finish]").tap()
    corners = page.locator("[data-corner]")
    expect(corners).to_have_count(4)
    tap(0.5, 0.95)
    page.locator("[data-test=drop-corner]").tap()
    expect(corners).to_have_count(3)
    page.locator("[data-test=undo-step]").tap()
    expect(corners).to_have_count(4)
    # A list is filled in as a form; what the server refuses is said at the zone, in the reader's language.
    page.locator("[name=zone-rule]").select_option("illegal_parking")
    page.locator("[data-list=hours] [data-test=add-row]").tap()
    page.locator("[name=begins]").fill("07:30")
    page.locator("[name=ends]").fill("09:00")
    page.locator("[data-test=put-live]").tap()
    expect(page.locator("[data-test=zone-fault]")).to_have_text("时段里要么允许停放，要么写停留时限", timeout=20_000)
    page.locator("[name=allow]").check()
    page.locator("[data-test=put-live]").tap()
    expect(page.get_by_text(f"正在使用的是第 {before['version'] + 1} 版")).to_be_visible(timeout=20_000)
    zone = ask(page, f"/cameras/{camera['id']}/scene")["scene"]["zones"][-1]
    assert len(zone["polygon"]) == 4 and zone["parameters"]["hours"][0]["begins"] == "07:30"
    page.locator("[data-test=undo]").tap()
    wait_until(lambda: ask(page, f"/cameras/{camera['id']}/scene")["scene"] == before["scene"], "it is taken back")
    opened.context.close()
    assert all("422" in complaint for complaint in opened.complaints)  # of the refusal


def test_a_finding_shows_its_evidence_and_is_judged_with_one_key(visit: Visit, demo: Demo) -> None:
    page = visit.page
    found = ask(page, "/findings?limit=1")["items"]
    if not found:
        demo.act("park_here")
        wait_until(lambda: bool(ask(page, "/findings?limit=1")["items"]), "a camera finds the parked car", 60)
        found = ask(page, "/findings?limit=1")["items"]
    report = found[0]["report_id"]
    page.goto(f"{demo.base_url}/devices/findings?which=all")
    row = page.locator(f"[data-finding='{report}']")
    expect(row).to_be_visible(timeout=20_000)
    page.keyboard.press("n")
    page.keyboard.press("1")
    expect(row.locator("[data-test=judgement]")).to_contain_text("什么也没有")
    page.keyboard.press("u")
    expect(row.locator("[data-test=judgement]")).to_have_count(0)
    page.keyboard.press("k")
    page.keyboard.press("y")
    deadline_s = time.monotonic() + 15
    while (judged := ask(page, f"/findings/{report}")["judgement"]) is None and time.monotonic() < deadline_s:
        page.wait_for_timeout(250)
    assert judged is not None
    assert judged["right"] is True


@pytest.mark.parametrize(("language", "theme", "size"), [("en", "light", WALL_SIZE), ("zh-CN", "dark", PHONE_SIZE)])
def test_the_cameras_page_fits_in_both_languages_and_sizes(
    chromium: Browser, demo: Demo, keeper: StorageState, language: str, theme: str, size: tuple[int, int]
) -> None:
    opened = open_page(chromium, f"{demo.base_url}/cameras", keeper, size, language, theme)
    page = opened.page
    page.wait_for_function(LIVE, arg=1, timeout=30_000)
    assert not UNTRANSLATED.findall(page.locator("body").inner_text())
    assert page.evaluate("() => document.scrollingElement.scrollWidth <= innerWidth")
    opened.context.close()
    assert opened.complaints == []
