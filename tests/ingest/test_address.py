"""Camera addresses: what may be opened, and texts that never have the password."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.address import AddressError, AddressFault, check_camera_address, hide_password, is_allowed, parse_networks

HOSTS = {
    "camera.example": ["93.184.216.34"],
    "inside.example": ["10.1.2.3"],
    "two.example": ["93.184.216.34", "127.0.0.1"],
    "localhost": ["127.0.0.1", "::1"],
}


def resolve(host: str, port: int) -> Sequence[str]:
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    if host not in HOSTS:
        raise OSError("unknown")
    return HOSTS[host]


def fault_of(url: str, *allowed: str) -> AddressFault:
    with pytest.raises(AddressError) as caught:
        check_camera_address(url, allowed, resolve)
    assert "s3cret" not in str(caught.value)
    return caught.value.fault


def test_a_public_camera_may_be_opened_at_the_address_that_was_checked() -> None:
    found = check_camera_address("rtsp://user:s3cret@camera.example/live/1?channel=2", (), resolve)
    assert found.url == "rtsp://user:s3cret@93.184.216.34:554/live/1?channel=2"
    assert found.shown == "rtsp://camera.example/live/1?…"
    assert "s3cret" not in repr(found) and (found.host, found.port) == ("camera.example", 554)


def test_odd_letters_of_a_password_survive_and_cannot_end_the_login_early() -> None:
    found = check_camera_address("rtsp://user:p%40ss%2Fs3cret@camera.example:8554/a", (), resolve)
    assert found.url == "rtsp://user:p%40ss%2Fs3cret@93.184.216.34:8554/a"


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://127.0.0.1/a",
        "rtsp://localhost/a",
        "rtsp://[::1]/a",
        "rtsp://10.1.2.3/a",
        "rtsp://inside.example/a",
        "rtsp://192.168.1.64/a",
        "rtsp://172.16.0.9/a",
        "rtsp://169.254.169.254/latest/meta-data",
        "rtsp://100.100.100.200/latest/meta-data",
        "rtsp://[fd00:ec2::254]/a",
        "rtsp://[fe80::1]/a",
        "rtsp://[::ffff:127.0.0.1]/a",
        "rtsp://0.0.0.0/a",
        "rtsp://224.0.0.1/a",
        "rtsp://two.example/a",
    ],
)
def test_networks_that_nobody_named_are_not_reached_into(url: str) -> None:
    assert fault_of(url) is AddressFault.FORBIDDEN_NETWORK


def test_a_named_network_is_allowed_and_only_it() -> None:
    assert check_camera_address("rtsp://10.1.2.3/a", ("10.1.2.0/24",), resolve).ip == "10.1.2.3"
    assert check_camera_address("rtsp://[::ffff:10.1.2.3]/a", ("10.1.2.0/24",), resolve)
    assert fault_of("rtsp://10.1.3.3/a", "10.1.2.0/24") is AddressFault.FORBIDDEN_NETWORK
    assert fault_of("rtsp://two.example/a", "10.0.0.0/8") is AddressFault.FORBIDDEN_NETWORK
    assert check_camera_address("rtsp://127.0.0.1/a", ("*",), resolve)
    assert fault_of("rtsp://224.0.0.1/a", "*") is AddressFault.FORBIDDEN_NETWORK


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://camera.example/a", AddressFault.SCHEME),
        ("file:///etc/passwd", AddressFault.SCHEME),
        ("/etc/passwd", AddressFault.SCHEME),
        ("concat:rtsp://camera.example/a", AddressFault.SCHEME),
        ("rtmp://u:s3cret@camera.example/a", AddressFault.SCHEME),
        ("", AddressFault.SCHEME),
        ("rtsp://", AddressFault.MALFORMED),
        ("rtsp:///a", AddressFault.MALFORMED),
        ("rtsp://camera.example:99999/a", AddressFault.MALFORMED),
        ("rtsp://camera.example:0/a", AddressFault.MALFORMED),
        ("rtsp://u:s3cret@[::1/a", AddressFault.MALFORMED),
        ("rtsp://camera.example/a b", AddressFault.MALFORMED),
        ("rtsp://u:s3cret@camera.example/a\r\nDESCRIBE x", AddressFault.MALFORMED),
        ("rtsp://camera.example/" + "a" * 3000, AddressFault.MALFORMED),
        ("rtsp://camera.example/a#x", AddressFault.OPTIONS),
        ("rtsp://camera.example/a|subfile", AddressFault.OPTIONS),
        ("rtsp://camera.example/a?multicast", AddressFault.OPTIONS),
        ("rtsp://camera.example/a?x=1&%75dp", AddressFault.OPTIONS),
        ("rtsp://nowhere.example/a", AddressFault.NO_SUCH_HOST),
    ],
)
def test_what_is_no_camera_address_is_refused_with_its_reason(url: str, fault: AddressFault) -> None:
    assert fault_of(url) is fault


def test_the_system_itself_resolves_names() -> None:
    assert check_camera_address("rtsp://localhost/a", ("127.0.0.0/8", "::1/128")).ip in ("127.0.0.1", "::1")


@given(st.text(max_size=60))
def test_no_text_whatever_breaks_the_check_or_is_let_through_without_a_scheme(text: str) -> None:
    for url in (text, "rtsp://" + text, f"rtsp://user:s3cret@{text}"):
        shown = hide_password(url)
        assert all(letter.isprintable() for letter in shown)
        try:
            found = check_camera_address(url, (), resolve)
        except AddressError as error:
            assert error.fault in set(AddressFault)
        else:
            assert found.url.startswith(("rtsp://", "rtsps://"))


@given(st.ip_addresses())
def test_an_address_without_a_named_network_is_allowed_only_if_the_whole_world_routes_it(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if is_allowed(ip, ()):
        assert ip.is_global and not ip.is_multicast and not ip.is_loopback and not ip.is_link_local


def test_a_wrong_network_in_the_settings_is_named() -> None:
    with pytest.raises(ValueError, match="not-a-network"):
        parse_networks(["not-a-network"])


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://198.51.100.7:554/user=admin_password=Xq7_channel=1_stream=0.sdp",
        "rtsp://198.51.100.7/live/User%3Dadmin&pwd=Xq7",
        "rtsp://admin:12/Xq7@198.51.100.7/live",
        "rtsp://admin:12?Xq7@198.51.100.7/live",
        "rtsp://admin:12#Xq7@198.51.100.7/live",
    ],
)
def test_a_password_is_hidden_wherever_recorders_or_people_put_it(url: str) -> None:
    shown = hide_password(url)
    assert "Xq7" not in shown and "admin" not in shown and "12" not in shown


def test_a_path_without_a_log_in_is_shown_as_it_is() -> None:
    url = "rtsp://198.51.100.7:554/Streaming/Channels/101"
    assert hide_password(url) == url
