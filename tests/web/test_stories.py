"""What people do with wall and phone, told against the running demo in real Chromium."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, StorageState, expect

from tests.web.conftest import Demo
from tests.web.visit import PHONE_SIZE, UNTRANSLATED, WALL_SIZE, Visit, count_colours, prefer, sign_in

pytestmark = [pytest.mark.web, pytest.mark.slow]


@pytest.fixture(scope="module")
def operator(chromium: Browser, operator_link: str) -> StorageState:
    """An operator's session at the wall."""
    return sign_in(chromium, operator_link)


@pytest.fixture(scope="module")
def worker(chromium: Browser, worker_link: str) -> StorageState:
    """A grid worker's session on the phone."""
    return sign_in(chromium, worker_link)


def open_wall(
    chromium: Browser, demo: Demo, state: StorageState, language: str = "zh-CN", theme: str = "dark"
) -> Visit:
    context = chromium.new_context(storage_state=state, viewport={"width": WALL_SIZE[0], "height": WALL_SIZE[1]})
    prefer(context, language, theme)
    visit = Visit(context, f"{demo.base_url}/wall")
    expect(visit.page.locator(".link.live")).to_be_visible(timeout=20_000)
    return visit


def open_phone(
    chromium: Browser, demo: Demo, state: StorageState, language: str = "zh-CN", theme: str = "dark"
) -> Visit:
    context = chromium.new_context(
        storage_state=state,
        viewport={"width": PHONE_SIZE[0], "height": PHONE_SIZE[1]},
        is_mobile=True,
        has_touch=True,
        permissions=["geolocation"],
        geolocation=_some_place(context_of=chromium, demo=demo, state=state),
    )
    prefer(context, language, theme)
    visit = Visit(context, f"{demo.base_url}/phone")
    expect(visit.page.get_by_text("已连接" if language == "zh-CN" else "Connected")).to_be_visible(timeout=20_000)
    return visit


def _some_place(context_of: Browser, demo: Demo, state: StorageState) -> dict[str, float]:
    """A place inside the district: where one of its devices stands."""
    context = context_of.new_context(storage_state=state, base_url=demo.base_url)
    answer = context.request.get("/api/v1/devices", headers={"X-Seat": "phone"})
    device = next(one for one in answer.json() if one["kind"] == "parking_gate")
    context.close()
    return {"longitude": device["lon"], "latitude": device["lat"], "accuracy": 6.0}


@pytest.fixture
def wall(chromium: Browser, demo: Demo, operator: StorageState) -> Iterator[Visit]:
    """The wall, in Chinese and dark."""
    visit = open_wall(chromium, demo, operator)
    yield visit
    visit.context.close()
    assert visit.complaints == []


@pytest.fixture
def phone(chromium: Browser, demo: Demo, worker: StorageState) -> Iterator[Visit]:
    """The phone page, in Chinese and dark, with a position."""
    visit = open_phone(chromium, demo, worker)
    yield visit
    visit.context.close()
    assert visit.complaints == []


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture as a phone's camera gives it: large, with something on it."""
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    image = Image.new("RGB", (3000, 2000), "#7a8a80")
    draw = ImageDraw.Draw(image)
    for step in range(0, 2000, 50):
        draw.line((0, step, 3000, step + 300), fill=(90 + step // 20, 110, 90), width=8)
    image.save(path)
    return path


def test_a_report_from_the_street_is_handled_and_closed_after_the_check(
    wall: Visit, phone: Visit, photograph: Path
) -> None:
    desk, pocket = wall.page, phone.page
    name = pocket.evaluate("() => fetch('/api/v1/me', {headers: {'X-Seat': 'phone'}}).then(a => a.json())")[
        "display_name"
    ]

    # The worker sees something and reports it in four taps; it appears on the wall by itself.
    pocket.locator("[data-test=report]").click()
    pocket.locator("[data-category=heaped_junk]").click()
    pocket.locator("[data-test=send-report]").click()
    row = desk.locator("[data-incident]", has_text="乱堆杂物")
    expect(row).to_be_visible(timeout=30_000)
    row.click()
    panel = desk.locator("aside.panel")
    expect(panel.locator("[data-test=cell]")).to_have_text(re.compile(r"^\d{15}$"))

    # The operator sends it to that worker, whoever the system had in mind.
    desk.keyboard.press("d")
    desk.locator(".candidates label", has_text=name).locator("input").check()
    desk.keyboard.press("Enter")
    task = pocket.locator("article", has_text="乱堆杂物")
    offer = pocket.locator(".offer", has_text="乱堆杂物")
    expect(task.or_(offer).first).to_be_visible(timeout=10_000)
    if offer.is_visible():
        offer.click()
    expect(task).to_have_attribute("data-state", re.compile("dispatched|accepted"))

    # One big action at a time; the last one without a network.
    pocket.locator("[data-step=accept]").click()
    expect(panel.locator("[data-test=state]")).to_have_text("已接单", timeout=10_000)
    pocket.locator("[data-step=arrive], [data-test=arrive-now]").first.click()
    if pocket.locator("[data-step=arrive]").is_visible():
        pocket.locator("[data-step=arrive]").click()
    expect(pocket.locator("[data-step=photograph]")).to_be_visible()
    pocket.locator("[data-test=photo]").set_input_files(photograph)
    phone.cut()
    pocket.locator("[data-step=done]").click()
    expect(pocket.locator("[data-test=band]")).to_contain_text("1 件", timeout=20_000)
    expect(panel.locator("[data-test=state]")).to_have_text("已到场")
    phone.mend()
    expect(panel.locator("[data-test=state]")).to_have_text("已处置，待核查", timeout=40_000)
    expect(panel.locator("figure", has_text="处置照片").locator("img")).to_be_visible()

    # Another person checks; for five seconds it can be undone.
    expect(panel.locator("[data-test=needs]")).to_have_text("请核查处置结果", timeout=20_000)
    desk.keyboard.press("c")
    desk.keyboard.press("1")
    desk.keyboard.press("Enter")
    expect(desk.locator("[data-test=undo]")).to_be_visible()
    expect(panel.locator("[data-test=state]")).to_have_text("已结案", timeout=15_000)
    expect(pocket.locator(".recent [data-state=closed]", has_text="乱堆杂物")).to_be_visible(timeout=10_000)


def test_a_smoke_alarm_appears_by_itself_and_stops_blinking_once_somebody_has_seen_it(wall: Visit, demo: Demo) -> None:
    demo.act("light_smoke")
    row = wall.page.locator("[data-incident]", has_text="烟感报警").first
    expect(row).to_be_visible(timeout=30_000)
    expect(row).to_have_class(re.compile("urgent"))
    row.click()
    wall.page.keyboard.press("a")
    expect(row).not_to_have_class(re.compile("urgent"), timeout=10_000)


def test_a_void_can_be_undone_before_it_is_sent(wall: Visit, demo: Demo) -> None:
    demo.act("raise_river")
    page = wall.page
    row = page.locator("[data-incident]", has_text="水位超限").first
    expect(row).to_be_visible(timeout=30_000)
    row.click()
    expect(page.locator("[data-action=void]")).to_be_visible()
    page.keyboard.press("x")
    page.locator("form textarea").fill("试验")
    page.keyboard.press("Enter")
    page.locator("[data-test=undo]").click()
    page.wait_for_timeout(6_000)
    expect(page.locator("[data-test=state]")).not_to_have_text("已作废")
    expect(row).to_be_visible()


def test_the_live_picture_of_the_camera_that_saw_it_is_one_key_away(wall: Visit, demo: Demo) -> None:
    demo.act("park_here")
    page = wall.page
    row = page.locator("[data-incident]", has_text="机动车乱停放").first
    expect(row).to_be_visible(timeout=60_000)
    row.click()
    expect(page.locator("figure", has_text="发现时").locator("img")).to_be_visible(timeout=10_000)
    page.keyboard.press("v")
    live = page.locator(".live video")
    expect(live).to_be_visible(timeout=20_000)
    page.wait_for_function("() => document.querySelector('.live video')?.videoWidth > 100", timeout=20_000)
    begun_s = page.evaluate("() => document.querySelector('.live video').currentTime")
    page.wait_for_function("begun => document.querySelector('.live video').currentTime > begun + 1", arg=begun_s)


def test_the_map_is_drawn(wall: Visit) -> None:
    page = wall.page
    box = page.locator(".map canvas")
    expect(box).to_be_visible(timeout=20_000)
    expect(page.locator(".legend")).to_be_visible(timeout=30_000)
    page.wait_for_timeout(8_000)
    assert count_colours(page.locator(".map").screenshot()) > 8


def test_a_lost_connection_greys_the_wall_and_comes_back_by_itself(wall: Visit) -> None:
    page = wall.page
    expect(page.locator(".legend")).to_be_visible(timeout=30_000)
    page.wait_for_timeout(5_000)
    wall.cut()
    band = page.locator(".dead-band")
    expect(band).to_contain_text("连接已断开", timeout=20_000)
    wall.mend()
    expect(band).to_be_hidden(timeout=30_000)


def test_the_wall_changes_its_language_at_once(wall: Visit) -> None:
    page = wall.page
    expect(page.locator(".chips")).to_contain_text("全部")
    page.locator("[data-test=language]").click()
    expect(page.locator(".chips")).to_contain_text("All")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    page.locator("[data-test=language]").click()
    expect(page.locator(".chips")).to_contain_text("全部")


@pytest.mark.parametrize(("language", "theme"), [("zh-CN", "dark"), ("en", "light")])
def test_both_pages_look_like_pages_in_both_languages_and_themes(
    chromium: Browser, demo: Demo, operator: StorageState, worker: StorageState, language: str, theme: str
) -> None:
    for visit in (
        open_wall(chromium, demo, operator, language, theme),
        open_phone(chromium, demo, worker, language, theme),
    ):
        page = visit.page
        page.wait_for_timeout(3_000)
        text = page.locator("body").inner_text()
        assert not UNTRANSLATED.findall(text)
        assert len(text) > 20
        assert page.evaluate("() => document.scrollingElement.scrollWidth <= innerWidth")
        assert count_colours(page.screenshot()) > 4
        visit.context.close()
        assert visit.complaints == []


def test_the_phone_page_opens_without_a_network(phone: Visit) -> None:
    page = phone.page
    page.wait_for_function("() => navigator.serviceWorker.ready.then(r => Boolean(r.active))", timeout=20_000)
    page.reload()
    page.wait_for_function("() => Boolean(navigator.serviceWorker.controller)", timeout=20_000)
    phone.cut()
    page.reload()
    expect(page.locator("[data-test=duty]")).to_be_visible()
    expect(page.locator("[data-test=band]")).to_contain_text("无网络")


def test_a_one_time_link_works_once(chromium: Browser, operator_link: str, operator: StorageState) -> None:
    context = chromium.new_context()
    page = context.new_page()
    page.goto(operator_link)
    expect(page.get_by_role("alert")).to_contain_text("已经用过")
    context.close()


def test_a_wrong_password_says_so_and_nothing_more(chromium: Browser, demo: Demo) -> None:
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{demo.base_url}/login")
    page.locator("[name=username]").fill("nobody")
    page.locator("[name=password]").fill("wrong password")
    page.locator("[type=submit]").click()
    expect(page.get_by_role("alert")).to_have_text("用户名或密码不对。")
    context.close()
