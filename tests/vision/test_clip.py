"""A clip from a real camera: cut by the capture's process, masked, and standing in the report."""

from pathlib import Path

import av

from kernel.db import Database
from kernel.settings import Settings
from simulators.rtsp import RtspServer
from tests.vision.test_run import (
    PARKED,
    ScriptedDetector,
    live,
    noisy_street,
    now,
    put_camera,
    reports,
    server,
    wait_settled,
    working,
)
from tests.waiting import wait_for
from vision.clip import Masker
from vision.model import Label

__all__ = ["live", "server"]  # fixtures


def test_the_seconds_around_a_finding_are_kept_as_a_clip_that_is_shown_masked(
    live: Settings, database: Database, server: RtspServer, tmp_path: Path
) -> None:
    evidence = live.evidence.model_copy(
        update={"clip_s": 1.0, "dir": str(tmp_path / "evidence"), "originals_dir": str(tmp_path / "originals")}
    )
    settings = live.model_copy(update={"evidence": evidence})
    server.add_camera("a", noisy_street([1]), fps=5)
    device = put_camera(database, "cam-a", server.url_of("a"))
    detector = ScriptedDetector()

    def clip() -> dict[str, str]:
        ((_, _, _, _, _, _, detail, _),) = reports(database)
        found = detail["clip"]  # type: ignore[index]
        assert isinstance(found, dict)
        return found

    with working(settings, database, detector):
        wait_settled(database, device)
        detector.seen = [(Label.VEHICLE, PARKED)]
        assert wait_for(lambda: reports(database))
        assert wait_for(lambda: clip()["state"] != "wanted")
    assert (clip()["state"], clip()["error"]) == ("cut", "")
    assert Masker(settings, database, now, lambda: detector).work()
    assert clip()["state"] == "saved"
    with database.transaction("*") as connection:
        ((path, original, seconds),) = connection.execute(
            "SELECT e.path, o.path, (e.detail ->> 'seconds')::float FROM evidence e"
            " JOIN evidence_original o ON o.evidence_id = e.id WHERE e.kind = 'clip'"
        ).fetchall()
    for file in (settings.evidence_dir / path, settings.originals_dir / original):
        with av.open(str(file)) as film:
            assert sum(1 for _ in film.decode(video=0)) >= 8, file  # two seconds at five a second
    assert 1.5 <= seconds <= 8.0  # from the key picture before
