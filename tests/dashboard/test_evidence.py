"""Pictures: what is taken in is a picture and nothing else, and only those in scope see it."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from dashboard.picture import PictureError, find_file, read_picture
from kernel.db import Database
from tests.dashboard.conftest import STREET_A, STREET_B, Server, SignIn, now, user_id_of


def draw(width: int = 320, height: int = 200, mode: str = "RGB") -> Image.Image:
    image = Image.new(mode, (width, height), 255 if mode == "L" else "white")
    ImageDraw.Draw(image).rectangle((10, 10, width // 2, height // 2), fill=0 if mode == "L" else "red")
    return image


def encode(image: Image.Image, file_format: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def upload(client: httpx.Client, content: bytes, name: str = "a.jpg", **fields: str) -> httpx.Response:
    return client.post("/api/v1/evidence", files={"file": (name, content, "image/jpeg")}, data=fields)


def flood(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that says it is huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * 10_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_photograph_is_kept_and_shown_again(server: Server, sign_in: SignIn) -> None:
    client = sign_in("chen", ("grid_worker",), STREET_A)
    answer = upload(client, encode(draw()), taken_at=now().isoformat())
    assert answer.status_code == 201
    body = answer.json()
    assert (body["width"], body["height"]) == (320, 200)
    shown = client.get(f"/api/v1/evidence/{body['id']}")
    assert shown.headers["content-type"] == "image/jpeg" and "immutable" in shown.headers["cache-control"]
    assert shown.headers["cache-control"].startswith("private")
    red = Image.open(io.BytesIO(shown.content)).convert("RGB").getpixel((50, 50))
    assert isinstance(red, tuple) and red[0] > 200 and red[1] < 60


def test_metadata_and_position_do_not_survive_and_the_picture_stands_upright(
    server: Server, database: Database, sign_in: SignIn
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter
    exif.get_ifd(0x8769)[36867] = "2026:11:20 08:00:00"
    exif.get_ifd(0x8825)[1] = "N"
    exif[0x010F] = "a secret maker"
    client = sign_in()
    body = upload(client, encode(draw(320, 200), exif=exif)).json()
    assert (body["width"], body["height"]) == (200, 320)
    content = client.get(f"/api/v1/evidence/{body['id']}").content
    assert b"Exif" not in content and b"secret" not in content
    assert dict(Image.open(io.BytesIO(content)).getexif()) == {}
    with database.transaction() as connection:
        row = connection.execute(
            "SELECT detail ->> 'camera_time', created_by IS NOT NULL, sha256 FROM evidence"
        ).fetchone()
    assert row is not None and row[:2] == ("2026:11:20 08:00:00", True) and len(row[2]) == 32


def test_a_file_that_is_a_picture_and_a_page_at_once_is_only_a_picture_afterwards(
    server: Server, sign_in: SignIn
) -> None:
    client = sign_in()
    page = b"<script>alert(document.cookie)</script>"
    for content in (encode(draw()) + page, encode(draw(), comment=page)):
        answer = upload(client, content, name="page.html")
        assert answer.status_code == 201
        shown = client.get(f"/api/v1/evidence/{answer.json()['id']}")
        assert page not in shown.content and shown.headers["x-content-type-options"] == "nosniff"


NO_PICTURES = [
    (b"", "picture_format"),
    (b"%PDF-1.7 not a picture", "picture_format"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", "picture_format"),
    (encode(draw(), "GIF"), "picture_format"),
    (encode(draw(), "TIFF"), "picture_format"),
    (encode(draw())[:700], "not_a_picture"),
    (flood(30_000, 30_000), "too_many_pixels"),
    (flood(2_500, 2_500), "too_many_pixels"),
    (flood(0, 10), "picture_format"),
]


def test_what_is_no_picture_is_refused_and_leaves_nothing(
    server: Server, database: Database, sign_in: SignIn, subtests: pytest.Subtests
) -> None:
    client = sign_in()
    for content, code in NO_PICTURES:
        with subtests.test(content[:20].decode("latin-1")):
            answer = upload(client, content)
            assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert not list(server.settings.evidence_dir.rglob("*.jpg"))
    with database.transaction() as connection:
        assert connection.execute("SELECT count(*) FROM evidence").fetchone() == (0,)


def test_a_file_beyond_the_limit_is_refused_whether_it_says_so_or_not(server: Server, sign_in: SignIn) -> None:
    client = sign_in()
    too_large = b"x" * 500_000
    assert upload(client, too_large).json()["code"] == "too_large"

    def stream() -> Any:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
        for _ in range(500):
            yield b"x" * 1_000
        yield b"\r\n--b--\r\n"

    answer = client.post(
        "/api/v1/evidence", content=stream(), headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_png_webp_and_the_double_pictures_of_phones_are_taken(server: Server, sign_in: SignIn) -> None:
    client = sign_in()
    for file_format in ("PNG", "WEBP", "MPO"):
        assert upload(client, encode(draw(), file_format)).status_code == 201


def test_what_is_transparent_becomes_white() -> None:
    clear = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    kept = read_picture(encode(clear, "PNG"), 1_000_000)
    assert Image.open(io.BytesIO(kept.jpeg)).getpixel((20, 20)) == (255, 255, 255)


def test_a_large_picture_is_made_smaller(server: Server) -> None:
    kept = read_picture(encode(draw(4000, 1000)), 5_000_000)
    assert max(kept.width, kept.height) == 2560 and kept.width / kept.height == pytest.approx(4, rel=0.01)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 2_000), st.integers(1, 40))
def test_damaged_bytes_are_a_picture_or_a_clear_refusal(noise: bytes, start: int, length: int) -> None:
    whole = encode(draw(), "PNG")
    for content in (noise, whole[:start] + noise + whole[start + length :]):
        try:
            kept = read_picture(content, 1_000_000)
        except PictureError as error:
            assert error.code in {"not_a_picture", "picture_format", "too_many_pixels"}
        else:
            assert kept.jpeg.startswith(b"\xff\xd8")


def test_another_streets_picture_cannot_be_seen(server: Server, sign_in: SignIn) -> None:
    worker = sign_in("chen", ("grid_worker",), STREET_A)
    evidence_id = upload(worker, encode(draw())).json()["id"]
    assert sign_in("lin", ("operator",), STREET_A).get(f"/api/v1/evidence/{evidence_id}").status_code == 200
    hidden = sign_in("wang", ("operator",), STREET_B).get(f"/api/v1/evidence/{evidence_id}")
    assert (hidden.status_code, hidden.json()["code"]) == (404, "unknown_evidence")
    assert server.client().get(f"/api/v1/evidence/{evidence_id}").status_code == 401


def test_a_thumbnail_is_small_and_made_once(server: Server, sign_in: SignIn) -> None:
    client = sign_in()
    evidence_id = upload(client, encode(draw(1600, 1000))).json()["id"]
    first = client.get(f"/api/v1/evidence/{evidence_id}", params={"w": 400})
    assert Image.open(io.BytesIO(first.content)).size == (480, 300)
    assert client.get(f"/api/v1/evidence/{evidence_id}", params={"w": 480}).content == first.content
    assert len(list((server.settings.evidence_dir / "thumbnails").iterdir())) == 1
    assert client.get(f"/api/v1/evidence/{evidence_id}", params={"w": 0}).status_code == 422


def test_a_row_that_points_outside_the_folder_is_never_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leaves"):
        find_file(tmp_path / "evidence", "../../etc/passwd")
    assert find_file(tmp_path, "20261120/a.jpg") == tmp_path / "20261120" / "a.jpg"


def test_a_picture_whose_file_is_gone_says_so(server: Server, sign_in: SignIn) -> None:
    client = sign_in()
    evidence_id = upload(client, encode(draw())).json()["id"]
    for path in server.settings.evidence_dir.rglob("*.jpg"):
        path.unlink()
    answer = client.get(f"/api/v1/evidence/{evidence_id}")
    assert (answer.status_code, answer.json()["code"]) == (410, "evidence_gone")


def test_wrong_instants_and_places_are_refused(server: Server, sign_in: SignIn) -> None:
    client = sign_in()
    picture = encode(draw())
    assert upload(client, picture, taken_at="2099-01-01T00:00:00Z").json()["code"] == "future_dated"
    assert upload(client, picture, taken_at="yesterday").json()["code"] == "invalid_request"
    assert upload(client, picture, lon="nan", lat="30").json()["code"] == "invalid_request"
    assert upload(client, picture, lon="500", lat="30").json()["code"] == "bad_position"
    assert upload(client, picture, lon="120", lat="30", crs="mars").json()["code"] == "unknown_crs"
    kept = upload(client, picture, lon="120.17", lat="30.28", crs="gcj02")
    assert kept.status_code == 201


def test_the_same_upload_sent_again_is_one_picture(server: Server, database: Database, sign_in: SignIn) -> None:
    client = sign_in()
    picture = encode(draw())

    def send(content: bytes) -> httpx.Response:
        return client.post("/api/v1/evidence", files={"file": ("a.jpg", content)}, headers={"Idempotency-Key": "k1"})

    first, second = send(picture), send(picture)  # each with a boundary of its own
    assert first.json() == second.json() and second.headers["idempotency-replayed"] == "true"
    other = send(encode(draw(100, 100)))
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    with database.transaction() as connection:
        assert connection.execute("SELECT count(*), count(DISTINCT created_by) FROM evidence").fetchone() == (1, 1)
    assert user_id_of(client)
