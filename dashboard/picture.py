"""Pictures from outside: read with limits, taken for what they are, and written anew, so that nothing else comes along.

A file that is a picture and a web page at once, a few bytes that unfold to a gigabyte, coordinates in the metadata: none
of it survives being decoded within limits and encoded again.
"""

import hashlib
import io
import os
import secrets
import threading
import warnings
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP")  # MPO, which some phones write, is a JPEG with a second picture behind it
MIME = "image/jpeg"
_MAX_SIDE = 2560
_QUALITY = 88
_EXIF_TAKEN = 36867  # DateTimeOriginal, local time without a zone
_TURN = threading.BoundedSemaphore(1)  # one decoded picture at a time: fifty million pixels are 150 MB
THUMBNAIL_WIDTHS = (160, 320, 480, 960)


class PictureError(ValueError):
    """It cannot be taken as a picture. `code`: not_a_picture, picture_format, too_many_pixels."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A picture as it is kept: JPEG, upright, without metadata. `source_sha256` is of the file as it came."""

    jpeg: bytes
    width: int
    height: int
    sha256: bytes
    source_sha256: bytes
    source_format: str
    camera_time: str | None  # what the phone's metadata said, as text; never trusted, only kept


def read_picture(content: bytes, max_pixels: int) -> Picture:
    """Decode and encode anew. Raises PictureError."""
    try:
        # A bomb is refused by its declared size before one pixel is decoded; Pillow's own warning counts as a refusal.
        with _TURN, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as source:
                return _encode(source, content, max_pixels)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PictureError("too_many_pixels", "the picture has too many pixels") from None
    except UnidentifiedImageError:
        raise PictureError("picture_format", f"pictures are {', '.join(FORMATS)}") from None
    except PictureError:
        raise
    except Exception:  # decoders fail on hostile bytes in many ways; all of them mean the same
        raise PictureError("not_a_picture", "the picture is damaged") from None


def _encode(source: Image.Image, content: bytes, max_pixels: int) -> Picture:
    if source.width * source.height > max_pixels:
        raise PictureError("too_many_pixels", f"{source.width}x{source.height} is more than {max_pixels} pixels")
    source_format = source.format or ""
    taken = source.getexif().get_ifd(0x8769).get(_EXIF_TAKEN)
    source.draft("RGB", (_MAX_SIDE, _MAX_SIDE))  # a JPEG is decoded at a half or a quarter when that is enough
    upright = ImageOps.exif_transpose(source)
    flat = _flatten(upright)
    flat.thumbnail((_MAX_SIDE, _MAX_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    flat.save(buffer, "JPEG", quality=_QUALITY, optimize=False, exif=b"")
    jpeg = buffer.getvalue()
    return Picture(
        jpeg=jpeg,
        width=flat.width,
        height=flat.height,
        sha256=hashlib.sha256(jpeg).digest(),
        source_sha256=hashlib.sha256(content).digest(),
        source_format=source_format,
        camera_time=str(taken)[:40].replace("\x00", "") if taken else None,
    )


def _flatten(image: Image.Image) -> Image.Image:
    """RGB without metadata; what is transparent becomes white."""
    if "A" in image.getbands() or "transparency" in image.info:
        layered = image.convert("RGBA")
        flat = Image.new("RGB", image.size, "white")
        flat.paste(layered, mask=layered.getchannel("A"))
        return flat
    flat = Image.new("RGB", image.size)
    flat.paste(image.convert("RGB"))
    return flat


def shrink(path: Path, width: int) -> bytes:
    """A kept picture as JPEG of at most `width`. Raises OSError when the file is not there."""
    with _TURN, Image.open(path, formats=("JPEG",)) as image:
        image.draft("RGB", (width, width * 4))
        image.thumbnail((width, width * 4), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=80)
        return buffer.getvalue()


def new_path(evidence_id: UUID, now: datetime) -> str:
    """Where a new picture goes below the evidence directory; the name says nothing and cannot be guessed."""
    return f"{now:%Y%m%d}/{evidence_id.hex[-8:]}{secrets.token_hex(12)}.jpg"


def find_file(folder: Path, relative: str) -> Path:
    """The file of a row. Raises ValueError when the row's path leaves the evidence directory."""
    path = (folder / relative).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"evidence path {relative!r} leaves the evidence directory")
    return path


def write_file(path: Path, content: bytes) -> None:
    """Put the file in place whole or not at all, on the disk before this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
