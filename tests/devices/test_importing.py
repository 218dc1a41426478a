"""Lists of devices from CSV, Excel and GeoJSON: every fault is told with its line, nothing is guessed."""

import io
import json
from typing import Any

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.importing import DeviceList, FileKind, ListError, find_file_kind, read_list, write_template

HEAD = "code,kind,name,lon,lat,crs"


def read_csv(text: str, encoding: str = "utf-8", **more: Any) -> DeviceList:
    return read_list(text.encode(encoding), FileKind.CSV, **more)


def workbook(*rows: list[Any]) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    packed = io.BytesIO()
    book.save(packed)
    return packed.getvalue()


def test_chinese_headings_and_names_are_understood_beside_english_ones() -> None:
    text = (
        "设备编码,类型,名称,经度,纬度,坐标系,权属单位,楼层,网关\ns-1,烟感,7号楼,120.17,30.28,火星坐标,城北街道,3,G-1\n"
    )
    [row] = read_csv(text).rows
    assert row.problems == ()
    assert row.values == {
        "code": "s-1", "kind": "smoke_alarm", "name": "7号楼", "lon": 120.17, "lat": 30.28, "crs": "gcj02",
        "owner_unit": "城北街道", "floor": "3", "parent": "G-1",
    }  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_may_be_what_excel_writes(encoding: str, delimiter: str) -> None:
    text = "编码,类型,名称,经度,纬度\r\ns-1,门磁,王家,120.17,30.28\r\n".replace(",", delimiter)
    [row] = read_csv(text, encoding).rows
    assert (row.line, row.values["kind"], row.values["name"]) == (2, "door_sensor", "王家")


def test_an_excel_sheet_keeps_codes_of_digits_and_says_its_line() -> None:
    data = workbook(["编码", "类型", "经度", "纬度", "序列号"], [None] * 5, [330105001, "烟感", 120.17, "30.28", 12.0])
    [row] = read_list(data, FileKind.XLSX).rows
    assert row.line == 3 and row.problems == ()
    assert (row.values["code"], row.values["name"], row.values["serial"], row.values["lat"]) == (
        "330105001",
        "330105001",
        "12",
        30.28,
    )


def test_geojson_gives_its_points_as_positions() -> None:
    features = [
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [120.17, 30.28, 5]},
         "properties": {"编码": "s-1", "kind": "smoke_alarm", "settings": {"offline_after_s": 60}}},
        {"type": "Feature", "geometry": None, "properties": {"code": "s-2", "kind": "smoke_alarm"}},
        "nonsense",
    ]  # fmt: skip
    first, second, third = read_list(
        json.dumps({"type": "FeatureCollection", "features": features}).encode(), FileKind.GEOJSON
    ).rows
    assert (
        first.problems == () and first.values["lon"] == 120.17 and first.values["settings"] == {"offline_after_s": 60}
    )
    assert [(p.code, p.field) for p in second.problems] == [("missing", "lon"), ("missing", "lat")]
    assert len(third.problems) == 4


def test_every_fault_of_a_row_is_told_with_its_line() -> None:
    text = f"{HEAD},settings\n,smoke_alarm,a,east,30.28,,\ns-2,smoke_alarm,b,120.1,30.2,,[1]\ns-2,smoke_alarm,c,inf,30.2,,{{bad\n"
    first, second, third = read_csv(text).rows
    assert [(p.code, p.field) for p in first.problems] == [("bad_value", "lon"), ("missing", "code")]
    assert [(p.code, p.field) for p in second.problems] == [("bad_value", "settings")]
    assert [(p.code, p.field) for p in third.problems] == [
        ("bad_value", "lon"), ("bad_value", "settings"), ("double_code", "code"),
    ]  # fmt: skip
    assert (first.line, second.line, third.line) == (2, 3, 4) and "line 3" in third.problems[-1].detail


def test_a_cell_with_a_line_break_does_not_shift_the_lines_of_the_others() -> None:
    rows = read_csv(f'{HEAD}\ns-1,smoke_alarm,"two\nlines",120.1,30.2,\ns-2,smoke_alarm,b,120.1,30.2,\n').rows
    assert [row.code for row in rows] == ["s-1", "s-2"]
    assert rows[1].line == 4


def test_headings_that_nobody_knows_are_named() -> None:
    assert read_csv(f"{HEAD},colour,備考\ns-1,smoke_alarm,a,120.1,30.2,,red,x\n").unknown_headings == ("colour", "備考")


def test_positions_take_the_system_that_was_asked_for_unless_they_say_theirs() -> None:
    rows = read_csv(f"{HEAD}\ns-1,smoke_alarm,a,120.1,30.2,\ns-2,smoke_alarm,b,120.1,30.2,百度\n", crs="gcj02").rows
    assert [row.values["crs"] for row in rows] == ["gcj02", "bd09"]


@pytest.mark.parametrize(
    ("kind", "data", "code"),
    [
        (FileKind.CSV, b"", "no_rows"),
        (FileKind.CSV, b"code,kind\n", "no_rows"),
        (FileKind.CSV, b"a,b\n1,2\n", "no_headings"),
        (FileKind.CSV, b"code,kind\n\x00,1\n", "not_csv"),
        (FileKind.CSV, b"\xff\xff\xff", "not_csv"),
        (FileKind.XLSX, b"PK\x03\x04 no workbook", "not_xlsx"),
        (FileKind.XLSX, b"code,kind\ns-1,smoke_alarm\n", "not_xlsx"),
        (FileKind.GEOJSON, b"[]", "not_geojson"),
        (FileKind.GEOJSON, b'{"features": 3}', "not_geojson"),
        (FileKind.GEOJSON, b"[" * 200_000, "not_geojson"),
        (FileKind.GEOJSON, b'{"features": []}', "no_rows"),
    ],
)
def test_a_file_that_is_no_list_is_refused_with_a_reason(kind: FileKind, data: bytes, code: str) -> None:
    with pytest.raises(ListError) as refused:
        read_list(data, kind)
    assert refused.value.code == code


@given(st.binary(max_size=400), st.sampled_from(list(FileKind)))
def test_no_bytes_whatever_bring_the_reader_down(data: bytes, kind: FileKind) -> None:
    try:
        read_list(data, kind)
    except ListError:
        pass


@given(st.lists(st.lists(st.text(max_size=12), min_size=6, max_size=6), min_size=1, max_size=5))
def test_every_row_that_was_written_comes_back_as_a_row(cells: list[list[str]]) -> None:
    import csv

    text = io.StringIO()
    csv.writer(text).writerows(
        [HEAD.split(","), *[[c.replace("\x00", "").replace("\r", "") for c in row] for row in cells]]
    )
    kept = [row for row in cells if any(c.replace("\x00", "").replace("\r", "").strip() for c in row)]
    try:
        found = read_list(text.getvalue().encode("utf-8", "replace"), FileKind.CSV).rows
    except ListError as error:
        assert error.code == "no_rows" and not kept
    else:
        assert len(found) == len(kept)


@pytest.mark.parametrize("kind", [FileKind.CSV, FileKind.XLSX])
def test_the_template_is_a_list_without_faults(kind: FileKind) -> None:
    listed = read_list(write_template(kind), kind)
    assert listed.unknown_headings == () and [row.problems for row in listed.rows] == [()]


def test_a_files_name_says_what_it_is() -> None:
    assert find_file_kind("设备.XLSX") is FileKind.XLSX
    assert find_file_kind("a.json") is find_file_kind("a.geojson") is FileKind.GEOJSON
    with pytest.raises(ListError, match="list is"):
        find_file_kind("a.xls")
