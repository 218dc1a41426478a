"""Is this camera address one that may be opened? Asked before anything is opened.

An address comes from a person or an import. It must not make the platform reach into itself, into the cloud's
metadata service or into networks nobody named, nor carry options of the video library. Passwords in it never appear
in a text.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import SplitResult, quote, unquote, urlsplit

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_LENGTH = 2_000
DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322}
_SECRET_IN_PATH = re.compile(r"(user|pass|pwd|token|secret|auth|key)[^/=]*=", re.IGNORECASE)
"""Recorders that want their log-in in the path: rtsp://host/user=admin_password=…_channel=1_stream=0.sdp"""
_SHARED = ipaddress.ip_network("100.64.0.0/10")  # carrier-grade NAT; one cloud's metadata service lies in it


class AddressFault(StrEnum):
    """Why an address is refused; stable codes."""

    MALFORMED = "malformed"
    SCHEME = "scheme"
    OPTIONS = "options"
    NO_SUCH_HOST = "no_such_host"
    FORBIDDEN_NETWORK = "forbidden_network"


class AddressError(Exception):
    """A camera address that is not opened. `fault` is the code; the text never has the password."""

    def __init__(self, fault: AddressFault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraAddress:
    """An address that may be opened.

    `url` has the checked IP address in place of the name, so that a name that changes its mind between the check and
    the opening gains nothing; it may carry the password. `shown` is for people and logs and never does.
    """

    url: str
    shown: str
    host: str
    ip: str
    port: int

    def __repr__(self) -> str:
        return f"CameraAddress({self.shown})"


Resolve = Callable[[str, int], Sequence[str]]


def resolve_host(host: str, port: int) -> Sequence[str]:
    """IP addresses of a name, in the system's order. Raises OSError when there is none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def check_camera_address(url: str, allowed_networks: Sequence[str], resolve: Resolve = resolve_host) -> CameraAddress:
    """The address to open.

    Refused with AddressError: anything but rtsp and rtsps; control characters and options of the video library;
    names that do not resolve; loopback, link-local (cloud metadata), private, multicast and otherwise special addresses
    unless one of `allowed_networks` (CIDR, or "*" for every unicast address) holds them. A name is resolved once, and
    every address it has must be allowed.
    """
    parts = _split(url)
    shown = hide_password(url)
    host = parts.hostname or ""
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    ip = check_host(host, port, shown, allowed_networks, resolve)
    return CameraAddress(url=_pin(parts, ipaddress.ip_address(ip), port), shown=shown, host=host, ip=ip, port=port)


def check_host(
    host: str, port: int, shown: str, allowed_networks: Sequence[str], resolve: Resolve = resolve_host
) -> str:
    """The IP address to connect to for a host's name; `shown` is what an error says of it.

    Raises AddressError (no_such_host, forbidden_network) as `check_camera_address`.
    """
    try:
        ips = [ipaddress.ip_address(text.partition("%")[0]) for text in resolve(host, port)]
    except (OSError, UnicodeError):
        raise AddressError(AddressFault.NO_SUCH_HOST, f"{shown}: there is no host {host!r}") from None
    if not ips:
        raise AddressError(AddressFault.NO_SUCH_HOST, f"{shown}: there is no host {host!r}")
    networks = parse_networks(allowed_networks)
    for ip in ips:
        if not is_allowed(ip, networks):
            raise AddressError(
                AddressFault.FORBIDDEN_NETWORK,
                f"{shown}: {ip} is not in a network that camera.allowed_networks names",
            )
    return str(ips[0])


def parse_networks(names: Sequence[str]) -> tuple[Network, ...]:
    """Networks of a setting; "*" is every IPv4 and IPv6 address. Raises ValueError naming a wrong one."""
    found: list[Network] = []
    for name in names:
        if name == "*":
            found += [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
        else:
            found.append(ipaddress.ip_network(name, strict=False))
    return tuple(found)


def is_allowed(ip: IpAddress, networks: Sequence[Network]) -> bool:
    """Public unicast addresses always; others when a network that was named holds them; never multicast."""
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_multicast or ip.is_unspecified:
        return False
    if any(ip in network for network in networks if network.version == ip.version):
        return True
    return ip.is_global and not ip.is_reserved and not (ip.version == 4 and ip in _SHARED)


def hide_password(url: str) -> str:
    """The address without user and password; of a text that is no address only that it is none."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "(malformed address)"
    if not parts.scheme or not host:
        return "(malformed address)"
    if "@" in parts.path + parts.query + parts.fragment:  # a password with / ? or # in it: what is read as host is not
        return "(malformed address)"
    place = f"[{host}]" if ":" in host else host
    shown = f"{parts.scheme}://{place}" + (f":{port}" if port is not None else "")
    secret = _SECRET_IN_PATH.search(unquote(parts.path))
    shown += parts.path if secret is None else unquote(parts.path)[: secret.start()] + "…"
    # the query may hold a key, as some cameras want it
    shown += "?…" if parts.query else ""
    return "".join(letter if letter.isprintable() else "�" for letter in shown[:200])


def _split(url: str) -> SplitResult:
    if len(url) > MAX_LENGTH or any(not letter.isprintable() or letter.isspace() for letter in url):
        raise AddressError(
            AddressFault.MALFORMED, f"{hide_password(url)}: not an address (blank or control characters)"
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise AddressError(AddressFault.MALFORMED, "not an address: host or port cannot be read") from None
    if parts.scheme not in DEFAULT_PORTS:
        raise AddressError(
            AddressFault.SCHEME, f"{hide_password(url)}: a camera's address begins with rtsp:// or rtsps://"
        )
    if not host or port == 0:
        raise AddressError(AddressFault.MALFORMED, f"{hide_password(url)}: the address names no host or port")
    if parts.fragment or "\\" in url or "|" in url:
        raise AddressError(AddressFault.OPTIONS, f"{hide_password(url)}: # | and \\ are not allowed in it")
    # the video library takes these from the query as options of its own (libavformat, rtsp.c: ff_rtsp_connect)
    for option in parts.query.split("&"):
        if unquote(option.partition("=")[0]) in {"tcp", "udp", "multicast", "http", "https", "filter_src"}:
            raise AddressError(
                AddressFault.OPTIONS, f"{hide_password(url)}: transport options are settings, not part of it"
            )
    return parts


def _pin(parts: SplitResult, ip: IpAddress, port: int) -> str:
    place = f"[{ip}]" if ip.version == 6 else str(ip)
    login = ""
    if parts.username is not None:
        login = quote(unquote(parts.username), safe="")
        if parts.password is not None:
            login += ":" + quote(unquote(parts.password), safe="")
        login += "@"
    query = f"?{parts.query}" if parts.query else ""
    # rtsps to an IP address: the certificate's name is not checked by the video library in any case
    return f"{parts.scheme}://{login}{place}:{port}{parts.path}{query}"
