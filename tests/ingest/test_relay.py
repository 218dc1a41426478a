"""No camera sends us to an address that nobody checked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.relay import is_redirection, message_length
from ingest.rtsp import CaptureError, CaptureFault, probe
from simulators.rtsp import RtspServer
from tests.ingest.test_rtsp import HOME, draw, listening, server

__all__ = ["server"]


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_redirection_is_refused_even_to_a_camera_that_is_there(transport: str, server: RtspServer) -> None:
    server.add_camera("a", draw, fps=10, size=(160, 120))
    with listening(lambda connection: touched.append(connection)) as elsewhere:
        touched: list[object] = []
        server.redirects["b"] = f"rtsp://127.0.0.1:{elsewhere}/a"
        with pytest.raises(CaptureError, match="not followed") as caught:
            probe(server.url_of("b"), allowed_networks=HOME, transport=transport, timeout_s=2)
    assert caught.value.fault is CaptureFault.ADDRESS
    assert touched == []  # nobody knocked there
    assert probe(server.url_of("a"), allowed_networks=HOME, transport=transport) == (160, 120)


@pytest.mark.parametrize(
    "answer",
    [b"RTSP/1.0 302 Moved\r\n", b"RTSP/1.0  301\n", b" RTSP/1.0 +302 x\r\n", b"RTSP/1.0 0302 x\r\n", b"RTSP/1.0\r\n",
     b"R\rTSP/1.0 302 x\r\n", b"RTSP/1.0 302\x00\r\n"],
)  # fmt: skip
def test_whatever_the_library_could_read_as_a_redirection_is_one(answer: bytes) -> None:
    assert is_redirection(answer + b"Location: rtsp://10.0.0.1/\r\n\r\n")


@pytest.mark.parametrize("answer", [b"RTSP/1.0 200 OK\r\n", b"RTSP/1.0 401 No\r\n", b"HTTP/1.1 302 Found\r\n", b"\r\n"])
def test_other_answers_are_none(answer: bytes) -> None:
    assert not is_redirection(answer + b"CSeq: 1\r\n\r\n")


@given(
    st.lists(
        st.sampled_from([b"RTSP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"$\x00\x00\x02xy", b"RTSP/1.0 404\n\n"]),
        min_size=1,
    ),
    st.data(),
)
def test_messages_are_found_however_they_are_cut(messages: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(messages)
    waiting, found = b"", []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        waiting, stream = waiting + stream[:size], stream[size:]
        while waiting and (length := message_length(waiting)) is not None:
            found.append(waiting[:length])
            waiting = waiting[length:]
    assert found == messages and waiting == b""
