"""A visit to a page in a real browser: signing in, what the browser complained about, what a page must not show."""

import io
import re

from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, StorageState

# A key of the texts on a page is a text that is missing.
UNTRANSLATED = re.compile(
    r"\b(?:action|chip|event|link|needs|panel|phone|problem|queue|reason|state|verdict|nav|list|tab|console|registry"
    r"|keys|check|home|shelf|letter|scope|maintenance|rules|rule_mode|back_test|command|interlock|sluice|water|chart"
    r"|cameras|live|live_reason|live_fault|finding|findings|judge|judge_why|unmask|scene|rehearsal|moved|precision"
    r"|camera_record|figure|vision|key)"
    r"\.[a-z_]+\b"
)
WALL_SIZE, PHONE_SIZE = (1920, 1080), (390, 844)


def sign_in(chromium: Browser, link: str) -> StorageState:
    """Use a one-time link up; the session it gives serves every test."""
    context = chromium.new_context()
    page = context.new_page()
    page.goto(link)
    page.wait_for_url(re.compile(r"/(wall|phone)$"))
    state = context.storage_state()
    context.close()
    return state


class Visit:
    """A page with what the browser complained about."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.context = context
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.was_cut = False
        self.page.on("console", lambda message: self._note(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self._note(str(error)))
        self.page.goto(address)

    def _note(self, text: str) -> None:
        # A connection that the test itself cuts is no fault of the page.
        if not (self.was_cut and ("net::ERR_" in text or "WebSocket" in text)):
            self.complaints.append(text)

    def cut(self) -> None:
        """Take the network away."""
        self.was_cut = True
        self.context.set_offline(True)

    def mend(self) -> None:
        """Give it back."""
        self.context.set_offline(False)


def prefer(context: BrowserContext, language: str, theme: str) -> None:
    """The language and theme that this visitor once chose."""
    context.add_init_script(
        f"localStorage.setItem('gridwarden.language', localStorage.getItem('gridwarden.language') ?? '{language}');"
        f"localStorage.setItem('gridwarden.theme', localStorage.getItem('gridwarden.theme') ?? '{theme}')"
    )


def open_page(
    chromium: Browser,
    address: str,
    state: StorageState,
    size: tuple[int, int] = WALL_SIZE,
    language: str = "zh-CN",
    theme: str = "dark",
) -> Visit:
    """A page as somebody who is signed in opens it; a phone's size is a phone, with touch."""
    context = chromium.new_context(
        storage_state=state,
        viewport={"width": size[0], "height": size[1]},
        is_mobile=size == PHONE_SIZE,
        has_touch=size == PHONE_SIZE,
    )
    prefer(context, language, theme)
    return Visit(context, address)


def count_colours(picture: bytes) -> int:
    """Distinct colours of a screenshot, coarse enough that edges of letters do not count."""
    image = Image.open(io.BytesIO(picture)).convert("RGB").quantize(64, method=Image.Quantize.MEDIANCUT)
    return sum(1 for count, _ in image.getcolors() or [] if count > 60)
