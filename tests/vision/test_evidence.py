"""Snapshots: the box, the zone and the text, in Chinese when the font is there and never as empty boxes."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from kernel.db import Database
from kernel.ids import new_id
from kernel.settings import Settings
from tests.vision.build import at
from vision.evidence import ALERT, ZONE, Caption, Shown, draw_snapshot, write_evidence, write_whole
from vision.lettering import Lettering

ROOT = Path(__file__).resolve().parents[2]
NODE_FONT = ROOT / "dashboard" / "web" / "node_modules" / "@fontsource" / "noto-sans-sc"


@pytest.fixture(scope="module")
def chinese() -> Lettering:
    for folder in (NODE_FONT, Settings().evidence.font_dir):
        if (folder / "unicode.json").is_file():
            return Lettering(folder)
    pytest.skip(f"no font in {NODE_FONT}; scripts/setup --dev installs it")


def caption(language: str = "zh-CN", place: str = "天水街道 03 北侧路缘") -> Caption:
    return Caption(
        title_zh="机动车乱停放",
        title_en="Illegal parking",
        place=place,
        at=at(0),
        timezone="Asia/Shanghai",
        language=language,
    )


def draw(lettering: Lettering, *, language: str = "zh-CN", place: str = "天水街道 03", width: int = 640) -> Image.Image:
    jpeg = draw_snapshot(
        np.full((width * 9 // 16, width, 3), 90, np.uint8),
        boxes=((0.25, 0.25, 0.5, 0.5),),
        polygon=((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)),
        caption=caption(language, place),
        lettering=lettering,
    )
    image = Image.open(io.BytesIO(jpeg))
    assert image.format == "JPEG"
    return image.convert("RGB")


def is_near(image: Image.Image, at_px: tuple[int, int], colour: tuple[int, int, int]) -> bool:
    found = image.getpixel(at_px)
    return isinstance(found, tuple) and max(abs(a - b) for a, b in zip(found, colour, strict=False)) < 70


def test_a_snapshot_shows_the_box_and_the_zone_where_they_are() -> None:
    image = draw(Lettering(Path("/nowhere")), language="en")
    assert is_near(image, (160, 140), ALERT) and is_near(image, (240, 90), ALERT)
    assert is_near(image, (64, 200), ZONE) and is_near(image, (300, 36), ZONE)
    assert is_near(image, (220, 120), (90, 90, 90))
    assert image.height > 360  # a band of text below the picture, which it does not cover


def test_small_pictures_are_enlarged_so_that_the_text_can_be_read() -> None:
    assert draw(Lettering(Path("/nowhere")), width=160).width == 480


def test_without_the_font_the_text_is_english_and_chinese_is_left_out() -> None:
    plain = Lettering(Path("/nowhere"))
    assert not plain.has_chinese and plain.drawable("天水 kerb 03") == "kerb 03"
    english = draw(plain, language="en", place="kerb 03")
    assert draw(plain, language="zh-CN", place="天水 kerb 03").tobytes() == english.tobytes()


def test_a_missing_font_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    plain = Lettering(Path("/nowhere"))
    for _ in range(3):
        draw(plain)
    assert len([record for record in caplog.records if "font" in record.message]) == 1


def test_every_word_on_a_snapshot_can_be_drawn_in_chinese(chinese: Lettering) -> None:
    from vision.findings import MOMENTS, VERDICT_TITLES
    from vision.model import TITLES

    for zh, en in (*TITLES.values(), *VERDICT_TITLES.values(), *MOMENTS.values(), ("：", ":")):
        assert chinese.covers(zh) and chinese.covers(en)
    assert chinese.has_chinese and chinese.drawable("天水街道 03 A区") == "天水街道 03 A区"
    assert chinese.width("网格", 20) == pytest.approx(40, abs=1)


def test_chinese_letters_are_different_shapes_and_not_empty_boxes(chinese: Lettering) -> None:
    shapes = set()
    for letter in "违停垃圾满溢聚集复查":
        sheet = Image.new("RGB", (40, 40))
        chinese.draw(ImageDraw.Draw(sheet), (4, 32), letter, 32, (255, 255, 255))
        assert sheet.getbbox() is not None
        shapes.add(sheet.tobytes())
    assert len(shapes) == 10


def test_a_place_too_long_for_the_band_is_cut_and_never_covers_the_time(chinese: Lettering) -> None:
    short, long = draw(chinese, place=""), draw(chinese, place="很长的名字" * 40)
    band = (440, 364, 640, short.height)
    # JPEG lets neighbours shine through a little
    assert np.abs(np.asarray(short.crop(band), int) - np.asarray(long.crop(band), int)).max() < 60


def test_evidence_is_stored_whole_with_its_digest(settings: Settings, database: Database) -> None:
    jpeg = draw_snapshot(
        np.zeros((360, 640, 3), np.uint8),
        boxes=(),
        polygon=(),
        caption=caption(),
        lettering=Lettering(Path("/nowhere")),
    )
    evidence_id = new_id(at(0))
    shown = Shown(
        id=evidence_id,
        kind="snapshot",
        mime="image/jpeg",
        suffix=".jpg",
        content=jpeg,
        width=640,
        height=380,
        taken_at=at(0),
        masked=True,
        area_code="330105012001",
        lon=120.1,
        lat=30.2,
        detail={"rule": "crowding"},
    )
    with database.transaction("*") as connection:
        write_evidence(connection, settings.evidence_dir, shown)
    with database.transaction("*") as connection:
        ((path, digest, width),) = connection.execute("SELECT path, sha256, width FROM evidence").fetchall()
    stored = (settings.evidence_dir / path).read_bytes()
    assert stored == jpeg and hashlib.sha256(stored).digest() == digest and width == 640
    assert [one.name for one in (settings.evidence_dir / path).parent.iterdir()] == [f"{evidence_id}.jpg"]


def test_what_cannot_be_put_in_place_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "picture.jpg").mkdir()  # stands for a disk that is full
    with pytest.raises(OSError):
        write_whole(tmp_path / "picture.jpg", b"x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["picture.jpg"]
