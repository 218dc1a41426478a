"""Frames of SL 651-2014, written by hand from the standard's tables. The CRC here is annex H.3.2 step by step, not the product's."""

from datetime import datetime


def crc(data: bytes) -> bytes:
    """Annex H.3.2: register FFFF; each byte into its low half; eight shifts; A001 whenever a 1 falls out. High byte first."""
    register = 0xFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            fell_out = register & 1
            register >>= 1
            if fell_out:
                register ^= 0xA001
    return bytes((register >> 8, register & 0xFF))


def bcd(at: datetime, form: str = "%y%m%d%H%M%S") -> str:
    """An instant as the frames have it: two decimal digits in each byte."""
    return at.strftime(form)


def extra_report(sent_at: datetime, level: str = "0002910", serial: str = "0007", station: str = "3301050001") -> bytes:
    """Extra report 加报 (33H) of a gate station: level, gate opening, open holes, voltage. Times are the station's wall clock."""
    body = bytes.fromhex(
        serial  # 流水号, 2 bytes
        + bcd(sent_at)  # 发报时间 YYMMDDHHmmSS, 6 bytes
        + "F1F1"  # 地址标识符
        + station  # 遥测站地址, 5 bytes
        + "5A"  # 遥测站分类码: Z 闸坝
        + "F0F0"  # 观测时间标识符
        + bcd(sent_at, "%y%m%d%H%M")  # 观测时间 YYMMDDHHmm, 5 bytes
        + "3923"  # 瞬时河道水位 Z: 23H = 00100 011, 4 bytes with 3 decimals
        + level.rjust(8, "0")
        + "091A"  # 闸门开启高度 GH: 1AH = 00011 010, 3 bytes with 2 decimals
        + "000045"
        + "0C10"  # 开启孔数 GT: 10H = 00010 000, 2 bytes, no decimals
        + "0002"
        + "3812"  # 电源电压 VT: 12H = 00010 010, 2 bytes with 2 decimals
        + "1290"
    )
    head = bytes.fromhex(
        "7E7E"  # 帧起始符 SOH
        + "05"  # 中心站地址
        + station  # 遥测站地址
        + "1234"  # 密码
        + "33"  # 功能码: 加报
        + f"0{len(body):03X}"  # 上行标识 0, 长度
        + "02"  # STX
    )
    frame = head + body + b"\x03"  # ETX
    return frame + crc(frame)


# 测试报 30H, 定时报 32H and 链路维持报 2F as printed at toymoban.com/news/detail-686475, with the confirmations a centre gave.
KEEP_ALIVE = bytes.fromhex("7E7E01001234567812342F0008020003591011155111036BCA")
TEST_REPORT = bytes.fromhex(
    "7E7E010012345678123430002B020003591011154947F1F1001234567848F0F0591011154920190000052619000005392300000127"
    "381211150320FA"
)
TEST_CONFIRMED = bytes.fromhex("7E7E00123456780112343080080200035910111549471B75D4")
TIMED_REPORT = bytes.fromhex(
    "7E7E05001122334403E832002B020034170718110016F1F1001122334448F0F0170718110020190000402619000040392300010490"
    "3812109903A421"
)
TIMED_CONFIRMED = bytes.fromhex("7E7E00112233440503E83280080200341707181100161BE5D4")


def hourly_report() -> bytes:
    """小时报 34H of 2026-11-20 09:00 for a river station: twelve rains of 5 minutes, twelve relative levels, voltage."""
    body = bytes.fromhex(
        "0102"  # 流水号
        "261120090003"  # 发报时间 2026-11-20 09:00:03
        "F1F1" "3301050001"  # 地址
        "48"  # H 河道
        "F0F0" "2611200805"  # 观测时间: that of the first group, 08:05
        "F460"  # DRP: 60H = 01100 000, 12 bytes HEX, 0.1 mm each
        "00" "05" "0A" "00" "00" "00" "00" "00" "00" "00" "00" "FF"  # the last is no data
        "2619" "000123"  # 降水量累计值 PT 12.3 mm
        "F5C0"  # DRZ1: C0H = 11000 000, 24 bytes HEX, 0.01 m each
        "00FA" "00FB" "00FC" "00FD" "00FE" "00FF" "0100" "0101" "0102" "0103" "0104" "FFFF"
        "F0F0" "2611200900"  # another observation time for what follows
        "3812" "1265"  # VT 12.65 V
    )  # fmt: skip
    frame = bytes.fromhex("7E7E053301050001123434" + f"0{len(body):03X}" + "02") + body + b"\x03"
    return frame + crc(frame)


def uniform_report() -> bytes:
    """均匀时段报 31H: 河道水位 every 30 minutes from 2026-11-20 08:00, one of them missing, one below the datum."""
    body = bytes.fromhex(
        "0103"
        "261120100000"
        "F1F1" "3301050001" "48"
        "F0F0" "2611200800"
        "0418" "000030"  # 时间步长码: 3 bytes BCD, days hours minutes
        "3923"  # Z, 4 bytes with 3 decimals, for each value that follows
        "00001234"
        "FFFFFFFF"  # 没有数据
        "FF000050"  # FF: negative, -0.050
        "00001300"
    )  # fmt: skip
    frame = bytes.fromhex("7E7E053301050001123431" + f"0{len(body):03X}" + "02") + body + b"\x03"
    return frame + crc(frame)


def packets(count: int = 3) -> list[bytes]:
    """A water quality report 32H cut into packets (M3: SYN, total and number in twelve bits each; ETB but for the last)."""
    body = bytes.fromhex(
        "0104" "261120110000" "F1F1" "3301050001" "51" "F0F0" "2611201100"
        "4612" "0723"  # pH 7.23
        "4711" "0064"  # DO 6.4 mg/L
        "4818" "000410"  # COND 410 µS/cm
        "4910" "0018"  # TURB 18
        "4A11" "0041"  # CODMn 4.1 mg/L
        "4C1A" "000062"  # NH3-N 0.62 mg/L
        "4D1B" "000120"  # TP 0.120 mg/L
        "4520" "00000005"  # 状态字 ZT, 4 bytes HEX
    )  # fmt: skip
    size = -(-len(body) // count)
    frames = []
    for number in range(1, count + 1):
        part = bytes.fromhex(f"{count:03X}{number:03X}") + body[(number - 1) * size : number * size]
        head = bytes.fromhex("7E7E053301050001123432" + f"0{len(part):03X}" + "16")
        frame = head + part + (b"\x03" if number == count else b"\x17")
        frames.append(frame + crc(frame))
    return frames


def ascii_report() -> bytes:
    """定时报 32 in ASCII (table 16): SOH, the same fields as characters, identifiers and blanks, CRC as four characters."""
    body = (
        b"0010"  # 流水号
        b"261120080003"  # 发报时间; no blanks up to here
        b"ST 3301050001 Z "  # 地址, 分类码
        b"TT 2611200800 "  # 观测时间
        b"ZU 3.215 ZB 2.870 "  # 闸上, 闸下水位
        b"GN 1 GH 0.45 GN 2 GH 0.60 "  # two gates
        b"NS 3 Q -12.500 VT 12.90 "
    )
    frame = b"\x01" + b"05" + b"3301050001" + b"1234" + b"32" + f"0{len(body):03X}".encode() + b"\x02" + body + b"\x03"
    return frame + crc(frame).hex().upper().encode()
