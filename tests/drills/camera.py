"""The drills about cameras: each breaks one thing about a camera or its capture, and looks at what it costs that camera and the others.

`scripts/drill camera` runs all at full length and writes docs/drills/camera.md; tests/flows/test_camera_drill.py runs the short form.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import av
import psutil

from ingest.capturing import CapturePool
from ingest.rtsp import Capture, CaptureFault
from simulators.rtsp import Fault, RtspServer, open_file
from simulators.rtsp.media import EncodedFrames
from tests.drills.cameras import (
    AUDIO_SDP,
    FPS,
    LOOPBACK,
    UNKNOWN_SDP,
    Eye,
    capturing,
    describing,
    make_source,
    now,
    serving,
    wait_for,
    write_file,
)
from tests.drills.reliability import write_report
from tests.drills.verdict import Verdict
from vision.health import Blindness
from vision.scene import Scene
from vision.watch import Watch

SIZE = (320, 180)
STEADY_S = 2.5
"""A camera that nothing was done to never has an older newest picture than this, on a loaded machine."""
BACK_S = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Length:
    """How long things stay broken, how patient the capture is, how many reconnect."""

    broken_s: float
    timeout_s: float
    crowd: int
    loss_s: float


SHORT = Length(broken_s=1.5, timeout_s=0.7, crowd=6, loss_s=5.0)
FULL = Length(broken_s=20.0, timeout_s=5.0, crowd=30, loss_s=60.0)


@dataclass(kw_only=True)
class Ground:
    """What a drill works on: its own cameras, and one that nothing is done to."""

    folder: Path
    length: Length
    pool: CapturePool
    server: RtspServer
    verdict: Verdict = field(default_factory=Verdict)

    def camera(self, name: str, seed: int) -> Eye:
        """A camera of this server, when its first picture has come."""
        self.server.add_camera(name, make_source(seed, SIZE), fps=FPS, size=SIZE)
        return self.open(name, self.server.url_of(name))

    def open(self, name: str, url: str) -> Eye:
        """An eye on a capture, when its first picture has come."""
        eye = Eye(self.pool.open(name, url))
        wait_for(lambda: eye.looks, 40)
        return eye

    def say(self, name: str, value: str) -> None:
        """A figure."""
        self.verdict.figures[name] = value

    def came_back(self, what: str, eye: Eye, limit_s: float = BACK_S) -> float | None:
        """Wait for a new picture; a criterion."""
        at = now()
        took_s = wait_for(lambda: eye.is_fresh(at), limit_s)
        self.verdict.check(f"{what}: watched again within {limit_s:.0f} s", [] if took_s is not None else ["never"])
        if took_s is not None:
            self.say(f"{what}: first picture after it was mended", f"{took_s:.1f} s")
        return took_s


def freeze(ground: Ground) -> None:
    """The same picture again and again: the stream lives, and is not believed."""
    eye = ground.camera("frozen", 1)
    camera = ground.server.cameras["frozen"]
    limit_s = max(4.0, ground.length.broken_s / 2)
    watch = Watch(scene=Scene(zones=()), rules={}, frozen_after_s=limit_s)
    state = {"seq": 0, "key": 0}

    def judge() -> bool:
        key, frame = eye.capture.newest_key(), eye.capture.newest()
        if frame is not None and frame.seq != state["seq"]:
            state["seq"] = frame.seq
            if key is not None and state["key"] < key.seq < frame.seq:
                watch.judge_key(key.picture(), key.received_at)
            state["key"] = key.seq if key is not None else 0
            watch.judge(frame.picture(), frame.received_at, key=frame.key)
        return watch.blind is Blindness.FROZEN

    wait_for(lambda: judge() or eye.looks > 10, 10)
    ground.verdict.check("frozen: a live picture is believed", ["it was not"] if watch.blind else [])
    camera.set_fault(Fault.FROZEN)
    took_s = wait_for(judge, limit_s + 12)
    camera.set_fault(Fault.NONE)
    ground.verdict.check(f"frozen: noticed within {limit_s:.0f} + 10 s", [] if took_s else ["never"])
    ground.say("frozen: noticed after", f"{took_s or -1:.1f} s, with a limit of {limit_s:.0f} s")
    took_s = wait_for(lambda: not judge(), 12)
    ground.verdict.check("frozen: believed again by itself", [] if took_s is not None else ["never"])
    ground.verdict.check(
        "frozen: never reconnected", [str(eye.status.connections)] if eye.status.connections > 1 else []
    )
    eye.stop()


def half_open(ground: Ground) -> None:
    """Data stops without an end, and new connections are accepted and never answered."""
    eye = ground.camera("silent", 2)
    camera = ground.server.cameras["silent"]
    eye.forget()
    camera.set_fault(Fault.SILENT)
    limit_s = 2 * ground.length.timeout_s + 4
    took_s = wait_for(lambda: CaptureFault.TIMED_OUT in eye.faults, limit_s)
    ground.verdict.check(f"half-open: said within {limit_s:.0f} s", [] if took_s else [str(eye.faults)])
    ground.say("half-open: said after", f"{took_s or -1:.1f} s, with time-outs of {ground.length.timeout_s:.0f} s")
    time.sleep(ground.length.broken_s)
    camera.set_fault(Fault.NONE)
    ground.came_back("half-open", eye)
    eye.stop()


def wrong_codec(ground: Ground) -> None:
    """Only sound, a coding nobody knows, noise in place of pictures: said for what it is, and nothing breaks."""
    ground.server.add_camera("noise", make_source(3, SIZE), fps=FPS, size=SIZE).set_fault(Fault.GARBAGE)
    with ExitStack() as stack:
        urls = {
            "only sound": stack.enter_context(describing(AUDIO_SDP)),
            "an unknown coding": stack.enter_context(describing(UNKNOWN_SDP)),
            "noise": ground.server.url_of("noise"),
        }
        captures = {
            name: stack.enter_context(
                Capture(
                    url,
                    allowed_networks=LOOPBACK,
                    now=now,
                    open_timeout_s=3.0,
                    read_timeout_s=3.0,
                    picture_timeout_s=4.0,
                )
            )
            for name, url in urls.items()
        }
        for name, capture in captures.items():
            wait_for(lambda capture=capture: capture.status().fault is not None, 20)  # type: ignore[misc]
            status = capture.status()
            right = status.fault in (CaptureFault.NOT_VIDEO, CaptureFault.TIMED_OUT) and status.frames == 0
            ground.verdict.check(f"wrong codec: {name} is said", [] if right else [f"{status}"])
            ground.say(f"wrong codec: {name}", f"{status.fault}: {status.text.rpartition(': ')[2]}")
        ground.server.cameras["noise"].set_fault(Fault.NONE)
        took_s = wait_for(lambda: captures["noise"].status().frames, BACK_S)
        ground.verdict.check("wrong codec: pictures after noise are taken", [] if took_s is not None else ["never"])


def change_size(ground: Ground) -> None:
    """Another resolution in the middle of the stream: pictures and clips go on."""
    eye = ground.camera("resized", 4)
    camera = ground.server.cameras["resized"]
    from_at = now()
    large = (640, 360)
    camera.set_media(EncodedFrames(make_source(5, large), FPS, large))
    took_s = wait_for(lambda: eye.sizes[-1:] == [large], 10)
    ground.verdict.check(
        "resolution change: pictures of the new size within 10 s", [] if took_s is not None else [str(eye.sizes)]
    )
    ground.say("resolution change: first picture of the new size after", f"{took_s or -1:.1f} s")
    path = ground.folder / "resized.mp4"
    eye.capture.save_clip("resized", from_at - timedelta(seconds=1), now() + timedelta(seconds=2), path)
    done = []
    wait_for(lambda: done.extend(eye.capture.take_clips()) or done, 15)  # type: ignore[func-returns-value]
    ground.verdict.check(
        "resolution change: a clip across it is whole", _doubts(path, [each.error for each in done if not each.ok])
    )
    camera.set_media(EncodedFrames(make_source(4, SIZE), FPS, SIZE))
    took_s = wait_for(lambda: eye.sizes[-1:] == [SIZE], 10)
    ground.verdict.check("resolution change: and back", [] if took_s is not None else [str(eye.sizes)])
    ground.verdict.check(
        "resolution change: without a new connection",
        [str(eye.status.connections)] if eye.status.connections > 1 else [],
    )
    eye.stop()


def _doubts(path: Path, errors: list[str]) -> list[str]:
    """What is wrong with a video file."""
    if errors or not path.exists():
        return errors or ["there is none"]
    with av.open(str(path)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    return [] if frames >= 10 else [f"{frames} frames"]


def reboot(ground: Ground) -> None:
    """The camera goes without a word, its port is closed for a while, and it begins anew with another clock and numbers."""
    with serving() as first:
        port = first.port
        first.add_camera("rebooting", make_source(6, SIZE), fps=FPS, size=SIZE)
        eye = ground.open("rebooting", first.url_of("rebooting"))
        eye.forget()
    time.sleep(ground.length.broken_s)
    with serving(port) as second:
        second.add_camera("rebooting", make_source(7, SIZE), fps=FPS, size=SIZE)
        ground.came_back("reboot", eye)
        ground.verdict.check("reboot: said as refused", [] if CaptureFault.REFUSED in eye.faults else [str(eye.faults)])
        ground.verdict.check(
            "reboot: pictures are counted on", [f"{eye.backwards} times back"] if eye.backwards else []
        )
        eye.stop()


def lose_packets(ground: Ground) -> None:
    """Every twentieth RTP packet over UDP is lost: pictures go on, on the same connection."""
    with capturing(ground.folder / "udp", timeout_s=ground.length.timeout_s, transport="udp") as pool:
        camera = ground.server.add_camera("lossy", make_source(8, (640, 360)), fps=FPS, size=(640, 360))
        eye = Eye(pool.open("lossy", ground.server.url_of("lossy")))
        wait_for(lambda: eye.looks, 40)
        camera.set_fault(Fault.LOSSY, loss=0.05)
        time.sleep(1.0)
        eye.forget()
        began_s, before = time.monotonic(), eye.status.frames
        time.sleep(ground.length.loss_s)
        status = eye.status
        fps = (status.frames - before) / (time.monotonic() - began_s)
        ground.verdict.check("packet loss 5 %: on the same connection", [str(status)] if status.connections > 1 else [])
        ground.verdict.check(
            "packet loss 5 %: more than half of the pictures", [f"{fps:.1f}/s"] if fps < FPS / 2 else []
        )
        ground.verdict.check(
            "packet loss 5 %: never blind for 3 s", [f"{eye.most_age_s:.1f} s"] if eye.most_age_s > 3 else []
        )
        ground.say(
            "packet loss 5 %: decoded",
            f"{fps:.1f} of {FPS:.0f} pictures a second, the oldest newest one {eye.most_age_s:.1f} s",
        )
        eye.stop()


def reconnect_many(ground: Ground) -> None:
    """All cameras of a switch go and come back at once: each is watched again, and not all in the same moment."""
    count = ground.length.crowd
    path = write_file(ground.folder / "crowd.mp4", 9)
    with capturing(ground.folder / "crowd", timeout_s=ground.length.timeout_s) as pool:
        with serving() as first:
            port = first.port
            for number in range(count):
                first.add_camera(f"c{number}", open_file(path))
            eyes = [Eye(pool.open(f"c{number}", first.url_of(f"c{number}"))) for number in range(count)]
            took_s = wait_for(lambda: all(eye.looks for eye in eyes), 60)
            ground.say(f"{count} cameras: all watched from a cold start after", f"{took_s or -1:.1f} s")
        time.sleep(ground.length.broken_s)
        with serving(port) as second:
            for number in range(count):
                second.add_camera(f"c{number}", open_file(path))
            at = now()
            took_s = wait_for(lambda: all(eye.is_fresh(at) for eye in eyes), BACK_S)
            missing = [str(n) for n, eye in enumerate(eyes) if not eye.is_fresh(at)]
            ground.verdict.check(f"{count} cameras reconnect within {BACK_S:.0f} s", missing)
            firsts = sorted(min((a for a in eye.arrivals if a > at), default=now()) for eye in eyes)
            spread_s = (firsts[-1] - firsts[0]).total_seconds()
            ground.verdict.check(
                f"{count} cameras do not come all at once", [f"{spread_s:.2f} s"] if spread_s < 0.3 else []
            )
            ground.say(
                f"{count} cameras: back between",
                f"{(firsts[0] - at).total_seconds():.1f} and {(firsts[-1] - at).total_seconds():.1f} s",
            )
            for eye in eyes:
                eye.stop()


def kill_child(ground: Ground) -> None:
    """A capture process dies, and one hangs: its cameras are back by themselves, those of the other processes never notice."""
    with capturing(ground.folder / "groups", timeout_s=ground.length.timeout_s, group_size=2) as pool:
        names = [f"g{number}" for number in range(4)]
        for number, name in enumerate(names):
            ground.server.add_camera(name, make_source(20 + number, SIZE), fps=FPS, size=SIZE)
        eyes = [Eye(pool.open(name, ground.server.url_of(name))) for name in names]
        wait_for(lambda: all(eye.looks > 5 for eye in eyes), 40)
        groups = pool.groups
        for eye in eyes:
            eye.forget()
        for what, number in (("SIGKILL", signal.SIGKILL), ("hanging (SIGSTOP)", signal.SIGSTOP)):
            pid = groups[0].pid
            at = now()
            if pid is None:
                ground.verdict.check(f"capture process, {what}: ran", ["it did not"])
                continue
            os.kill(pid, number)
            took_s = wait_for(
                lambda at=at, pid=pid: (
                    groups[0].pid not in (None, pid)
                    and all(eye.is_fresh(at + timedelta(seconds=0.5)) for eye in eyes[:2])
                ),
                BACK_S,
            )  # type: ignore[misc]
            ground.verdict.check(
                f"capture process, {what}: its cameras are back", [] if took_s is not None else ["never"]
            )
            ground.say(f"capture process, {what}: its cameras watched again after", f"{took_s or -1:.1f} s")
        worst_s = max(eye.most_age_s for eye in eyes[2:])
        ground.verdict.check(
            "capture process killed: other groups never notice", [f"{worst_s:.1f} s"] if worst_s > STEADY_S else []
        )
        ground.verdict.check(
            "capture process killed: pictures are counted on", [str(eye.backwards) for eye in eyes if eye.backwards]
        )
        for eye in eyes:
            eye.stop()


DRILLS: tuple[Callable[[Ground], None], ...] = (
    freeze, half_open, wrong_codec, change_size, reboot, lose_packets, reconnect_many, kill_child,
)  # fmt: skip


def break_cameras(length: Length, drills: tuple[Callable[[Ground], None], ...] = DRILLS, at_once: int = 3) -> Verdict:
    """All drills about capture, some at a time, with one camera in the midst that nothing is done to."""
    verdict = Verdict()
    with (
        tempfile.TemporaryDirectory(prefix="gw-camera-") as folder,
        serving() as server,
        capturing(Path(folder) / "data", timeout_s=length.timeout_s, group_size=16) as pool,
    ):
        ground = Ground(folder=Path(folder), length=length, pool=pool, server=server, verdict=verdict)
        steady = ground.camera("steady", 99)
        steady.forget()
        memory = psutil.Process(pool.groups[0].pid).memory_info().rss
        with ThreadPoolExecutor(at_once) as executor:
            for future in [executor.submit(drill, ground) for drill in drills]:
                future.result()
        verdict.check(
            f"a camera that nothing is done to never has an older picture than {STEADY_S} s",
            [f"{steady.most_age_s:.1f} s"] if steady.most_age_s > STEADY_S else [],
        )
        verdict.check("nor another connection", [str(steady.status)] if steady.status.connections > 1 else [])
        verdict.check("and its process was never replaced", [str(g.restarts) for g in pool.groups if g.restarts])
        grown = psutil.Process(pool.groups[0].pid).memory_info().rss - memory
        ground.say("the untouched camera: oldest newest picture", f"{steady.most_age_s:.2f} s")
        ground.say("its process (with the broken ones): memory grew by", f"{grown / 1e6:.0f} MB")
        steady.stop()
    return verdict


def main() -> int:
    """Run everything at full length; exit status 0 when every criterion holds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--short", action="store_true", help="the short form, without the running system")
    parser.add_argument("--at-once", type=int, default=3, help="drills that run beside each other")
    options = parser.parse_args()
    began = time.monotonic()
    verdict = break_cameras(SHORT if options.short else FULL, at_once=options.at_once)
    if not options.short:
        from tests.drills.camera_worker import kill_worker

        found = kill_worker()
        verdict.checks += found.checks
        verdict.figures |= found.figures
    write_report("camera", verdict, time.monotonic() - began, options.report)
    return 0 if verdict.holds else 1


if __name__ == "__main__":
    sys.exit(main())
