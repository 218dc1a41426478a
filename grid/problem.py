"""What can be wrong with a file of areas or cells, told row by row so that somebody can mend it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from grid.model import Level


class Severity(StrEnum):
    """How much a problem matters to the import."""

    REFUSED = "refused"  # nothing of the file is imported
    REPAIRED = "repaired"  # the shape was changed, and how is said
    WARNING = "warning"


class ProblemKind(StrEnum):
    """Kinds of problems; stable codes."""

    UNREADABLE = "unreadable"
    UNKNOWN_FORMAT = "unknown_format"
    MANY_LAYERS = "many_layers"
    NO_COLUMNS = "no_columns"
    EMPTY = "empty"
    CRS_MISSING = "crs_missing"
    CRS_UNKNOWN = "crs_unknown"
    CRS_ASSUMED = "crs_assumed"
    CRS_OVERRIDDEN = "crs_overridden"
    NO_GEOMETRY = "no_geometry"
    WRONG_GEOMETRY = "wrong_geometry"
    BAD_COORDINATES = "bad_coordinates"
    SELF_CROSSING = "self_crossing"
    REPAIRED = "repaired"
    OUTSIDE_CHINA = "outside_china"
    SWAPPED = "swapped"
    OUTSIDE_PARENT = "outside_parent"
    MISSING_CODE = "missing_code"
    WRONG_CODE = "wrong_code"
    DUPLICATE_CODE = "duplicate_code"
    MISSING_NAME = "missing_name"
    WRONG_PARENT = "wrong_parent"
    UNKNOWN_PARENT = "unknown_parent"
    NO_PARENTS = "no_parents"
    WRONG_GRID = "wrong_grid"
    UNKNOWN_GRID = "unknown_grid"
    MISSING_LAYER = "missing_layer"
    OVERLAP = "overlap"
    GAP = "gap"
    SLIVER = "sliver"
    NO_CELLS = "no_cells"
    FUTURE_DATE = "future_date"
    DATE_CONFLICT = "date_conflict"


_TEXTS: Mapping[ProblemKind, tuple[str, str]] = {
    ProblemKind.UNREADABLE: ("文件无法读取：{error}", "the file cannot be read: {error}"),
    ProblemKind.UNKNOWN_FORMAT: (
        "不支持的格式 {suffix}：请用 .geojson、.gpkg、.shp、.zip（内含 Shapefile）、.kml 或 .csv",
        "format {suffix} is not supported: give .geojson, .gpkg, .shp, .zip (with a Shapefile), .kml or .csv",
    ),
    ProblemKind.MANY_LAYERS: (
        "文件有多个图层（{layers}），没有一个名为 {level}：请只留一个，或按级别命名",
        "the file has several layers ({layers}) and none is named {level}: keep one, or name it by its level",
    ),
    ProblemKind.NO_COLUMNS: (
        "表中没有坐标列：请有 lon、lat（经度、纬度）两列，或一列 WKT；现有列：{columns}",
        "the table has no shapes: it needs columns lon and lat, or one of WKT; it has {columns}",
    ),
    ProblemKind.EMPTY: ("文件中没有要素", "the file has no features"),
    ProblemKind.CRS_MISSING: (
        "文件未说明坐标系：请用 --crs 指明，例如 EPSG:4490、EPSG:4549、gcj02、bd09",
        "the file does not name its coordinate system: give --crs, for example EPSG:4490, EPSG:4549, gcj02, bd09",
    ),
    ProblemKind.CRS_UNKNOWN: (
        "不认识的坐标系 {crs}：请给 EPSG 编号、gcj02 或 bd09",
        "unknown coordinate system {crs}: give EPSG:<number>, gcj02 or bd09",
    ),
    ProblemKind.CRS_ASSUMED: (
        "文件未写坐标系，按 GeoJSON 标准视为 WGS 84；若来自高德、腾讯或百度地图，请用 --crs gcj02 或 bd09 重新导入",
        "the file names no coordinate system and is taken as WGS 84, as the GeoJSON standard says;"
        " if it comes from Amap, Tencent or Baidu, import it again with --crs gcj02 or bd09",
    ),
    ProblemKind.CRS_OVERRIDDEN: (
        "文件写的是 {file_crs}，按要求使用 {crs}",
        "the file says {file_crs}; {crs} is used, as asked",
    ),
    ProblemKind.NO_GEOMETRY: ("没有图形", "it has no shape"),
    ProblemKind.WRONG_GEOMETRY: ("图形类型为 {found}，应为 {wanted}", "its shape is a {found}, not a {wanted}"),
    ProblemKind.BAD_COORDINATES: ("坐标不可用：{error}", "its coordinates cannot be used: {error}"),
    ProblemKind.SELF_CROSSING: (
        "图形无效（{reason}），位置 {at}；加 --repair 可修复并显示改动",
        "its outline crosses or touches itself ({reason}) at {at}; --repair mends it and shows what it changed",
    ),
    ProblemKind.REPAIRED: (
        "图形已修复（原因：{reason}，位置 {at}）：现有 {parts} 个部分、{area_m2} 平方米。修复前 {before}，修复后 {after}",
        "its outline was mended ({reason} at {at}): it now has {parts} parts and {area_m2} m²."
        " Before {before}, after {after}",
    ),
    ProblemKind.OUTSIDE_CHINA: ("坐标 {at} 不在中国境内", "its coordinates {at} are outside China"),
    ProblemKind.SWAPPED: (
        "坐标 {at} 不在中国境内，对调后则在：经纬度似乎写反了，经度应在前",
        "its coordinates {at} are outside China, and inside when exchanged: longitude must come first",
    ),
    ProblemKind.OUTSIDE_PARENT: (
        "有 {area_m2} 平方米（{percent}%）在上级 {parent} 之外，例如 {at}",
        "{area_m2} m² of it ({percent} %) lie outside {parent} above it, for example at {at}",
    ),
    ProblemKind.MISSING_CODE: ("缺少编码（属性 code）", "it has no code (property `code`)"),
    ProblemKind.WRONG_CODE: ("编码 {code} 不符合规则：{rule}", "code {code} breaks the rule: {rule}"),
    ProblemKind.DUPLICATE_CODE: ("编码 {code} 与第 {other} 行重复", "code {code} is also that of row {other}"),
    ProblemKind.MISSING_NAME: ("缺少名称（属性 name）", "it has no name (property `name`)"),
    ProblemKind.WRONG_PARENT: (
        "上级编码写的是 {given}，按编码应为 {wanted}",
        "it says that {given} is above it; by its code that is {wanted}",
    ),
    ProblemKind.UNKNOWN_PARENT: ("上级 {parent} 未导入", "{parent} above it has not been imported"),
    ProblemKind.NO_PARENTS: (
        "上级区域尚未导入，无法核对是否越界",
        "no areas above have been imported, so nothing says whether the file stays inside them",
    ),
    ProblemKind.WRONG_GRID: (
        "责任网格 {grid} 不属于本社区 {community}：责任网格不得跨社区",
        "responsibility grid {grid} is not one of community {community}: a grid never spans two communities",
    ),
    ProblemKind.UNKNOWN_GRID: ("责任网格 {grid} 未导入", "responsibility grid {grid} has not been imported"),
    ProblemKind.MISSING_LAYER: (
        "图层名 {layer} 不可用（属性 layer，小写字母、数字、下划线，例如 road）",
        "layer name {layer} cannot be used (property `layer`: small letters, digits, underscores, such as road)",
    ),
    ProblemKind.OVERLAP: (
        "与 {other} 重叠 {area_m2} 平方米，位置 {at}",
        "it overlaps {other} by {area_m2} m² at {at}",
    ),
    ProblemKind.GAP: (
        "单元之间有 {area_m2} 平方米空隙，位置 {at}",
        "there is a gap of {area_m2} m² between them at {at}",
    ),
    ProblemKind.SLIVER: (
        "狭长或过小：{area_m2} 平方米，平均宽 {width_m} 米，位置 {at}",
        "it is a sliver: {area_m2} m², {width_m} m wide on average, at {at}",
    ),
    ProblemKind.FUTURE_DATE: (
        "生效日期 {date} 尚未到：请在生效当日或之后导入",
        "it would take effect on {date}, which is still to come: import it on that day or later",
    ),
    ProblemKind.DATE_CONFLICT: (
        "到 {until} 为止已另有历史记录：生效日期不能早于它",
        "what was valid until {until} is already kept: it cannot take effect before that",
    ),
    ProblemKind.NO_CELLS: (
        "位置 {at} 不在任何单元网格内",
        "its position {at} lies in no cell",
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing wrong. `row` counts features from 1 in the order of the file; None: the file as a whole.

    `lon`/`lat` (CGCS2000 degrees) say where, when a place can be named.
    """

    kind: ProblemKind
    severity: Severity = Severity.REFUSED
    row: int | None = None
    code: str = ""
    lon: float | None = None
    lat: float | None = None
    params: Mapping[str, Any] = field(default_factory=dict)

    def describe(self, language: str = "zh-CN") -> str:
        """One line for a person, in zh-CN or en."""
        chinese = language.startswith("zh")
        at = "?" if self.lon is None else f"{self.lon:.7f}, {self.lat:.7f}"
        text = _TEXTS[self.kind][0 if chinese else 1].format(**{"at": at, **self.params})
        if self.row is None:
            return text
        who = f"（{self.code}）" if chinese and self.code else f" ({self.code})" if self.code else ""
        return f"第 {self.row} 行{who}：{text}" if chinese else f"row {self.row}{who}: {text}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportResult:
    """What became of a file. Either all its rows were written or none, and then `problems` say why."""

    path: str
    level: Level
    crs: str
    rows: int
    written: int = 0
    removed: int = 0
    problems: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing in the file is a reason to refuse it."""
        return not any(problem.severity is Severity.REFUSED for problem in self.problems)

    def describe(self, language: str = "zh-CN", most: int = 20) -> str:
        """The outcome and up to `most` problems, one a line, in zh-CN or en."""
        chinese = language.startswith("zh")
        if not self.ok:
            count = sum(problem.severity is Severity.REFUSED for problem in self.problems)
            head = (
                f"{self.path}：未导入任何内容；共 {self.rows} 行，{count} 处问题"
                if chinese
                else f"{self.path}: nothing was imported; problems: {count}, rows: {self.rows}"
            )
        elif chinese:
            head = f"{self.path}：已导入 {self.written} 行（{self.level}，坐标系 {self.crs}），移除 {self.removed} 行"
        else:
            head = f"{self.path}: {self.written} rows imported ({self.level}, from {self.crs}), {self.removed} removed"
        lines = [head, *(f"  {problem.describe(language)}" for problem in self.problems[:most])]
        if (left := len(self.problems) - most) > 0:
            lines.append(f"  …… 另有 {left} 处" if chinese else f"  ... and {left} more")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.describe("en")


class ImportRefusedError(ValueError):
    """A file was refused and nothing of it stored; `result` has the problems row by row, the text the first of them."""

    def __init__(self, result: ImportResult) -> None:
        super().__init__(str(result))
        self.result = result
