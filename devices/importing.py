"""Lists of devices from CSV, Excel (.xlsx) and GeoJSON, as rows whose every fault is told. Nothing is registered here.

Headings may be English or Chinese, kinds and coordinate systems may be named as people name them. A CSV file may be UTF-8
or GB 18030 (what a Chinese Excel writes), with commas, semicolons or tabs.
"""

import csv
import io
import json
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import openpyxl
from openpyxl.utils.exceptions import InvalidFileException

from devices.registry import KINDS
from devices.store import TEXT_FIELDS

MOST_ROWS = 100_000
_MOST_UNPACKED_BYTES = 400_000_000
_HEADINGS: Mapping[str, tuple[str, ...]] = {
    "code": ("编码", "设备编码", "设备编号"),
    "kind": ("类型", "设备类型"),
    "name": ("名称", "设备名称"),
    "lon": ("经度", "x", "longitude", "lng"),
    "lat": ("纬度", "y", "latitude"),
    "crs": ("坐标系",),
    "parent": ("网关", "所属网关", "gateway"),
    "settings": ("参数", "设置"),
    "component_code": ("部件编码", "部件标识码"),
    "owner_unit": ("权属单位",),
    "competent_unit": ("主管部门", "主管单位"),
    "maintenance_unit": ("养护单位", "维护单位"),
    "maker": ("厂家", "生产厂家", "厂商"),
    "model": ("型号",),
    "serial": ("序列号", "出厂编号"),
    "firmware": ("固件", "固件版本"),
    "building": ("楼栋", "楼幢"),
    "floor": ("楼层",),
    "household": ("户号", "门牌", "房号"),
    "url": ("视频地址", "rtsp"),
    "heading_deg": ("朝向",),
    "fov_deg": ("视场角",),
    "range_m": ("可视距离",),
    "substream_url": ("子码流地址", "子码流"),
    "onvif_profile": ("onvif配置", "onvif_token"),
    "onvif_address": ("onvif地址",),
    "ptz": ("云台", "可控云台"),
    "gb_device_id": ("国标设备编码", "国标设备编号", "国标编码"),
    "gb_channel_id": ("国标通道编码", "国标通道编号", "通道编码"),
}
_NUMBERS = ("lon", "lat", "heading_deg", "fov_deg", "range_m")
_CRS_NAMES = {
    "cgcs2000": "EPSG:4490", "国家2000": "EPSG:4490", "2000国家大地坐标系": "EPSG:4490",
    "wgs84": "EPSG:4326", "wgs-84": "EPSG:4326",
    "gcj-02": "gcj02", "gcj02": "gcj02", "火星坐标": "gcj02", "高德": "gcj02", "腾讯": "gcj02",
    "bd-09": "bd09", "bd09": "bd09", "百度": "bd09",
}  # fmt: skip


class FileKind(StrEnum):
    """What a list may come as; the value is the file name's suffix."""

    CSV = "csv"
    XLSX = "xlsx"
    GEOJSON = "geojson"


class ListError(ValueError):
    """A file that is no list of devices at all; `code` is stable, the text says why."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class RowProblem:
    """What is wrong with a row. `code` is stable; `field` is the column's English name, '' for the whole row."""

    code: str
    field: str
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ListRow:
    """One row. `line`: as a person counts, the headings' line being 1 (GeoJSON: number of the feature).

    `values`: by English names, texts stripped, numbers as float, `settings` as a dict; empty cells are left out.
    """

    line: int
    values: dict[str, Any]
    problems: tuple[RowProblem, ...] = ()

    @property
    def code(self) -> str:
        """The device's code, '' where there is none."""
        return str(self.values.get("code", ""))


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceList:
    """The rows of a file, and headings that nobody knows."""

    rows: tuple[ListRow, ...]
    unknown_headings: tuple[str, ...] = field(default=())


def find_file_kind(name: str) -> FileKind:
    """By the file's name.

    Raises ListError (unknown_format).
    """
    suffix = name.rpartition(".")[2].lower()
    if suffix == "json":
        return FileKind.GEOJSON
    if suffix not in FileKind.__members__.values():
        raise ListError("unknown_format", f"{name}: a list is .csv, .xlsx or .geojson")
    return FileKind(suffix)


def read_list(data: bytes, kind: FileKind, *, crs: str = "") -> DeviceList:
    """The rows of a file. `crs`: of positions that do not say it themselves; '' is CGCS2000.

    Raises ListError (not_csv, not_xlsx, not_geojson, no_rows, no_headings, too_many_rows).
    """
    if kind is FileKind.GEOJSON:
        records = _read_geojson(data)
    else:
        table = _read_csv(data) if kind is FileKind.CSV else _read_xlsx(data)
        records = _read_table(table)
    unknown: dict[str, None] = {}
    rows: list[ListRow] = []
    first_lines: dict[str, int] = {}
    for line, record in records:
        if len(rows) == MOST_ROWS:
            raise ListError("too_many_rows", f"more than {MOST_ROWS} rows: split the list")
        named, strange = _name_columns(record)
        unknown |= dict.fromkeys(strange)
        row = _check_row(line, named, crs)
        if row.code and (first := first_lines.setdefault(row.code, line)) != line:
            double = RowProblem("double_code", "code", f"{row.code} stands in line {first} already")
            row = ListRow(line=line, values=row.values, problems=(*row.problems, double))
        rows.append(row)
    if not rows:
        raise ListError("no_rows", "the list has no rows")
    return DeviceList(rows=tuple(rows), unknown_headings=tuple(unknown))


def write_template(kind: FileKind) -> bytes:
    """A list with every heading, in Chinese, and one device as an example. GeoJSON has none: its properties are the headings."""
    example = {
        "code": "smoke-001", "kind": "烟感", "name": "7号楼2单元3层", "lon": 120.1712, "lat": 30.2827, "crs": "gcj02",
        "parent": "", "owner_unit": "城北街道", "maintenance_unit": "某某消防", "maker": "某厂", "model": "JTY-GD",
        "building": "7号楼", "floor": "3",
    }  # fmt: skip
    head = [names[0] for names in _HEADINGS.values()]
    line = [example.get(name, "") for name in _HEADINGS]
    if kind is FileKind.XLSX:
        book = openpyxl.Workbook()
        book.active.append(head)
        book.active.append(line)
        packed = io.BytesIO()
        book.save(packed)
        return packed.getvalue()
    text = io.StringIO()
    csv.writer(text).writerows([head, line])
    return text.getvalue().encode("utf-8-sig")


# ---- files to records: (line, {heading: cell}) ---------------------------------------------------------------------

Table = Iterator[tuple[int, Sequence[Any]]]
Records = Iterator[tuple[int, dict[str, Any]]]


def _read_csv(data: bytes) -> Table:
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        break
    else:
        raise ListError("not_csv", "the text is neither UTF-8 nor GB 18030")
    if "\x00" in text:
        raise ListError("not_csv", "this is no text")
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        raise ListError("not_csv", f"line {reader.line_num}: {error}") from None


def _read_xlsx(data: bytes) -> Table:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            if sum(part.file_size for part in packed.infolist()) > _MOST_UNPACKED_BYTES:
                raise ListError("not_xlsx", "the file unpacks to more than it may")
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        sheet = book.worksheets[0]
        sheet.reset_dimensions()  # some programs write a wrong size
        yield from enumerate(sheet.iter_rows(values_only=True), start=1)
    except ListError:
        raise
    except (zipfile.BadZipFile, InvalidFileException, KeyError, IndexError, ValueError, SyntaxError, OSError) as error:
        raise ListError("not_xlsx", f"not an Excel workbook (.xlsx): {error}") from None


def _read_table(table: Table) -> Records:
    head: list[str] | None = None
    for line, cells in table:
        texts = ["" if cell is None else str(cell).strip() for cell in cells]
        if not any(texts):
            continue
        if head is None:
            head = texts
            known = {_find_field(text) for text in head}
            if not {"code", "kind"} <= known:
                raise ListError(
                    "no_headings", "the first line must hold the headings, code/编码 and kind/类型 among them"
                )
            continue
        yield line, {name: cell for name, cell in zip(head, cells, strict=False) if name and cell is not None}


def _read_geojson(data: bytes) -> Records:
    try:
        document = json.loads(data.decode("utf-8-sig"))
        features = document["features"]
        if not isinstance(features, list):
            raise TypeError("features is no list")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ListError("not_geojson", f"not a GeoJSON FeatureCollection: {error}") from None
    for number, feature in enumerate(features, start=1):
        properties = feature.get("properties") if isinstance(feature, dict) else None
        record = dict(properties) if isinstance(properties, dict) else {}
        geometry = feature.get("geometry") if isinstance(feature, dict) else None
        if isinstance(geometry, dict) and geometry.get("type") == "Point":
            coordinates = geometry.get("coordinates")
            if isinstance(coordinates, list) and len(coordinates) >= 2:
                record |= {"lon": coordinates[0], "lat": coordinates[1]}
        yield number, {str(name): cell for name, cell in record.items() if cell is not None}


# ---- records to rows -----------------------------------------------------------------------------------------------


def _find_field(heading: str) -> str | None:
    text = heading.strip().lower().replace(" ", "_")
    for name, others in _HEADINGS.items():
        if text == name or heading.strip().lower() in others:
            return name
    return None


def _name_columns(record: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Cells by English names, and headings that nobody knows."""
    named: dict[str, Any] = {}
    strange: list[str] = []
    for heading, cell in record.items():
        name = _find_field(heading)
        if name is None:
            strange.append(heading)
        elif name not in named or named[name] in (None, ""):
            named[name] = cell
    return named, strange


def _check_row(line: int, cells: Mapping[str, Any], crs: str) -> ListRow:
    values: dict[str, Any] = {}
    problems: list[RowProblem] = []
    for name, cell in cells.items():
        try:
            value = _read_cell(name, cell)
        except ValueError as error:
            problems.append(RowProblem("bad_value", name, str(error)))
            continue
        if value not in ("", None):
            values[name] = value
    values.setdefault("crs", crs or "EPSG:4490")
    if "code" in values:
        values.setdefault("name", values["code"])
    bad = {problem.field for problem in problems}
    for name in ("code", "kind", "lon", "lat"):
        if name not in values and name not in bad:
            problems.append(RowProblem("missing", name, f"{name} is empty"))
    return ListRow(line=line, values=values, problems=tuple(problems))


def _read_cell(name: str, cell: Any) -> Any:
    """A cell's value for a field. Raises ValueError saying what is wanted."""
    if name in _NUMBERS:
        return _read_number(name, cell)
    if name == "settings":
        return _read_settings(cell)
    if name == "ptz":
        return _read_flag(name, cell)
    text = _read_text(cell)
    if name == "kind":
        return next((kind.name for kind in KINDS.values() if text in (kind.title_zh, kind.title_en)), text)
    if name == "crs":
        return _CRS_NAMES.get(text.lower(), text)
    return text


def _read_text(cell: Any) -> str:
    """Text of a cell; Excel keeps a code of digits as a number."""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def _read_number(name: str, cell: Any) -> float | None:
    text = str(cell).strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if isinstance(cell, bool) or not math.isfinite(value):
        raise ValueError(f"{name}: a number is wanted, not {text[:40]!r}")
    return value


def _read_flag(name: str, cell: Any) -> bool | None:
    text = _read_text(cell).lower()
    if text in ("1", "是", "有", "true", "yes"):
        return True
    if text in ("0", "否", "无", "false", "no"):
        return False
    if not text:
        return None
    raise ValueError(f"{name}: yes or no is wanted, not {text[:40]!r}")


def _read_settings(cell: Any) -> dict[str, Any] | None:
    if isinstance(cell, dict):
        return cell
    text = str(cell).strip()
    if not text:
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"settings: a JSON object is wanted: {error}") from None
    if not isinstance(document, dict):
        raise ValueError("settings: a JSON object is wanted")
    return document


assert set(TEXT_FIELDS) <= set(_HEADINGS)  # a field that no list can hold would be forgotten
