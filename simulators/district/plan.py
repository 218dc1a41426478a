"""Facts of the demo district: the eight streets of the former Xiacheng in Hangzhou, its arterial roads and rivers.

Street names and codes are the real ones (the national statistics bureau's division codes, 2020s edition, where the
streets of the former Xiacheng stand under 330105 Gongshu since the merger of 2021). Courses of roads and rivers and the
outline are simplified by hand to straight pieces between crossings: right to a city block, no survey. Communities carry
names in the manner of these streets; their borders are generated and are not the official ones.
"""

from dataclasses import dataclass

DISTRICT_CODE = "330105"
DISTRICT_NAME = "拱墅区（原下城片区）"

# Crossings and bends, CGCS2000 longitude and latitude in degrees. Rows go from south to north, west to east in each.
POINTS: dict[str, tuple[float, float]] = {
    # 庆春路
    "qc_hx": (120.1552, 30.2583), "qc_wl": (120.1581, 30.2583), "qc_ya": (120.1613, 30.2584),
    "qc_zs": (120.1664, 30.2585), "qc_zh": (120.1706, 30.2586), "qc_dh": (120.1766, 30.2588),
    "qc_jg": (120.1793, 30.2589), "qc_hd": (120.1868, 30.2592),
    # 凤起路
    "fq_hx": (120.1548, 30.2634), "fq_wl": (120.1577, 30.2635), "fq_ya": (120.1611, 30.2637),
    "fq_zs": (120.1664, 30.2640), "fq_zh": (120.1706, 30.2642), "fq_dh": (120.1768, 30.2645),
    "fq_jg": (120.1794, 30.2646), "fq_hd": (120.1871, 30.2650),
    # 体育场路
    "ty_hx": (120.1543, 30.2692), "ty_wl": (120.1573, 30.2694), "ty_ya": (120.1609, 30.2696),
    "ty_zs": (120.1664, 30.2699), "ty_zh": (120.1706, 30.2701), "ty_dh": (120.1770, 30.2704),
    "ty_jg": (120.1795, 30.2706), "ty_hd": (120.1874, 30.2710),
    # 环城北路
    "hb_hx": (120.1539, 30.2738), "hb_wl": (120.1571, 30.2740), "hb_ya": (120.1608, 30.2742),
    "hb_zs": (120.1664, 30.2745), "hb_zh": (120.1706, 30.2748), "hb_dh": (120.1772, 30.2757),
    "hb_jg": (120.1796, 30.2761), "hb_hd": (120.1877, 30.2775),
    # 京杭运河
    "yh_hx": (120.1537, 30.2767), "yh_ya": (120.1608, 30.2770), "yh_zs": (120.1662, 30.2778),
    "yh_zh": (120.1708, 30.2787), "yh_dh": (120.1773, 30.2806), "yh_jg": (120.1797, 30.2815),
    "yh_hd": (120.1880, 30.2846), "yh_qt": (120.1903, 30.2857),
    # 文晖路
    "wh_w": (120.1561, 30.2868), "wh_zs": (120.1653, 30.2871), "wh_sx": (120.1712, 30.2874),
    "wh_dx": (120.1776, 30.2879), "wh_qt": (120.1906, 30.2888),
    # 德胜路
    "ds_w": (120.1576, 30.2985), "ds_zs": (120.1648, 30.2988), "ds_sx": (120.1716, 30.2991),
    "ds_dx": (120.1784, 30.2994), "ds_sq": (120.1908, 30.3000),
    # 香积寺路
    "xj_w": (120.1600, 30.3080), "xj_st": (120.1668, 30.3083), "xj_sx": (120.1724, 30.3086),
    "xj_dx": (120.1793, 30.3089), "xj_sq": (120.1912, 30.3096),
    # 石祥路
    "sx_w": (120.1638, 30.3196), "sx_st": (120.1697, 30.3199), "sx_sx": (120.1738, 30.3201),
    "sx_dx": (120.1806, 30.3204), "sx_sq": (120.1917, 30.3210), "sx_e": (120.1985, 30.3214),
    # 永华街
    "yx_w": (120.1692, 30.3318), "yx_st": (120.1752, 30.3322), "yx_dx": (120.1830, 30.3326),
    "yx_sq": (120.1922, 30.3331), "yx_e": (120.1998, 30.3335),
    # 北界
    "bj_w": (120.1775, 30.3428), "bj_st": (120.1823, 30.3437), "bj_sq": (120.1925, 30.3447), "bj_e": (120.1972, 30.3441),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Street:
    """A street (街道): its ring of POINTS, its communities' names, names for the roads between the communities."""

    code: str
    name: str
    ring: tuple[str, ...]
    communities: tuple[str, ...]
    roads: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """A named road or river along POINTS; `half_width_m` from its middle to the kerb or the bank."""

    name: str
    half_width_m: float
    points: tuple[str, ...]


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split())


STREETS = (
    Street(
        code="330105012", name="天水街道",
        ring=_split("ty_hx ty_wl ty_ya ty_zs ty_zh hb_zh yh_zh yh_zs yh_ya yh_hx hb_hx"),
        communities=_split("武林门 天水巷 延安新村 灯芯巷 环北新村 仓桥 百井坊巷 麒麟街"),
        roads=_split("百井坊巷 麒麟街 灯芯巷 天水巷 仓桥路"),
    ),
    Street(
        code="330105013", name="武林街道",
        ring=_split("qc_hx qc_wl qc_ya qc_zs qc_zh fq_zh ty_zh ty_zs ty_ya ty_wl ty_hx fq_hx"),
        communities=_split("长寿桥 环西 竹竿巷 安吉 狮虎桥 孩儿巷 仙林桥 凤起"),
        roads=_split("长寿路 安吉路 孩儿巷 竹竿巷 狮虎桥路 仙林桥直街"),
    ),
    Street(
        code="330105014", name="长庆街道",
        ring=_split("qc_zh qc_dh qc_jg fq_jg ty_jg ty_dh ty_zh fq_zh"),
        communities=_split("王马 十五家园 柳营 新华坊 吴牙 长庆 东河"),
        roads=_split("新华路 长庆街 王马巷 皇亲巷"),
    ),
    Street(
        code="330105015", name="潮鸣街道",
        ring=_split("qc_jg qc_hd fq_hd ty_hd hb_hd yh_hd yh_jg yh_dh yh_zh hb_zh ty_zh ty_dh ty_jg fq_jg"),
        communities=_split("潮鸣 小天竺 知足弄 东园 刀茅巷 回龙庙 艮园 艮山门 凤麟"),
        roads=_split("刀茅巷 潮鸣寺巷 知足弄 回龙庙前 艮园路"),
    ),
    Street(
        code="330105016", name="朝晖街道",
        ring=_split("yh_hx yh_ya yh_zs yh_zh wh_sx ds_sx ds_zs ds_w wh_w"),
        communities=_split("稻香园 应家桥 施家花园 胜利新村 大木桥 中山北 河东 塘南 朝晖"),
        roads=_split("朝晖路 河东路 稻香园路 应家桥路 大木桥路 德胜巷"),
    ),
    Street(
        code="330105017", name="文晖街道",
        ring=_split("yh_zh yh_dh yh_jg yh_hd yh_qt wh_qt ds_sq ds_dx ds_sx wh_sx"),
        communities=_split("打铁关 现代城 流水苑 青园 三里家园 再行 京都苑 流水西苑"),
        roads=_split("再行路 白石巷 流水苑路 青园路 三里亭路"),
    ),
    Street(
        code="330105018", name="东新街道",
        ring=_split("ds_w ds_zs ds_sx ds_dx ds_sq xj_sq sx_sq sx_dx sx_sx sx_st sx_w xj_w"),
        communities=_split("东新园 新颜苑 三塘苑 三塘北苑 万家花园 重机 水印康庭 香积寺 西文 新天地"),
        roads=_split("费家塘路 重工路 西文街 东文路 新天地街 三塘路 沈家路"),
    ),
    Street(
        code="330105019", name="石桥街道",
        ring=_split("sx_w sx_st sx_sx sx_dx sx_sq sx_e yx_e bj_e bj_sq bj_st bj_w yx_w"),
        communities=_split("石桥 永丰 杨家 华丰 永华 景云 华中 石泉 半山桥 永新"),
        roads=_split("华中路 石桥街 杨家路 华丰路 永丰巷 景云路 石泉路"),
    ),
)  # fmt: skip

ROADS = (
    Course(name="庆春路", half_width_m=14, points=_split("qc_hx qc_wl qc_ya qc_zs qc_zh qc_dh qc_jg qc_hd")),
    Course(name="凤起路", half_width_m=12, points=_split("fq_hx fq_wl fq_ya fq_zs fq_zh fq_dh fq_jg fq_hd")),
    Course(name="体育场路", half_width_m=13, points=_split("ty_hx ty_wl ty_ya ty_zs ty_zh ty_dh ty_jg ty_hd")),
    Course(name="环城北路", half_width_m=14, points=_split("hb_hx hb_wl hb_ya hb_zs hb_zh hb_dh hb_jg hb_hd")),
    Course(name="文晖路", half_width_m=14, points=_split("wh_w wh_zs wh_sx wh_dx wh_qt")),
    Course(name="德胜路", half_width_m=16, points=_split("ds_w ds_zs ds_sx ds_dx ds_sq")),
    Course(name="香积寺路", half_width_m=12, points=_split("xj_w xj_st xj_sx xj_dx xj_sq")),
    Course(name="石祥路", half_width_m=16, points=_split("sx_w sx_st sx_sx sx_dx sx_sq sx_e")),
    Course(name="永华街", half_width_m=10, points=_split("yx_w yx_st yx_dx yx_sq yx_e")),
    Course(name="环城西路", half_width_m=12, points=_split("qc_hx fq_hx ty_hx hb_hx yh_hx")),
    Course(name="武林路", half_width_m=8, points=_split("qc_wl fq_wl ty_wl hb_wl")),
    Course(name="延安路", half_width_m=14, points=_split("qc_ya fq_ya ty_ya hb_ya yh_ya")),
    Course(name="中山北路", half_width_m=10, points=_split("qc_zs fq_zs ty_zs hb_zs yh_zs wh_zs ds_zs")),
    Course(name="中河北路", half_width_m=14, points=_split("qc_zh fq_zh ty_zh hb_zh yh_zh")),
    Course(name="建国北路", half_width_m=12, points=_split("qc_jg fq_jg ty_jg hb_jg yh_jg")),
    Course(name="绍兴路", half_width_m=11, points=_split("yh_zh wh_sx ds_sx xj_sx sx_sx")),
    Course(name="东新路", half_width_m=12, points=_split("yh_jg wh_dx ds_dx xj_dx sx_dx yx_dx")),
    Course(name="秋涛北路", half_width_m=14, points=_split("yh_qt wh_qt ds_sq")),
    Course(name="石桥路", half_width_m=14, points=_split("ds_sq xj_sq sx_sq yx_sq bj_sq")),
    Course(name="上塘路", half_width_m=14, points=_split("yh_hx wh_w ds_w xj_w sx_w")),
)
RIVERS = (
    Course(name="京杭运河", half_width_m=26, points=_split("yh_hx yh_ya yh_zs yh_zh yh_dh yh_jg yh_hd yh_qt")),
    Course(name="东河", half_width_m=9, points=_split("qc_dh fq_dh ty_dh hb_dh yh_dh")),
    Course(name="贴沙河", half_width_m=14, points=_split("qc_hd fq_hd ty_hd hb_hd yh_hd")),
    Course(name="上塘河", half_width_m=14, points=_split("ds_zs xj_st sx_st yx_st bj_st")),
)
WULIN_SQUARE = (120.1636, 30.2720)
"""Where 武林广场 lies: the cell around it gets the square of that name."""
