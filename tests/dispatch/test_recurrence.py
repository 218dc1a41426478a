"""Cameras' findings: one incident for one thing, whoever sees it, and what becomes of it."""

from typing import Any
from uuid import UUID

from dispatch import flow
from dispatch.model import Action
from kernel.ids import new_id
from kernel.types import Role, Source, Verdict
from tests.dispatch.build import WEST_LON, City, cell_centre

BOX = [0.2, 0.5, 0.4, 0.7]
EDGE = WEST_LON + 0.001  # between column 0 and column 1


def find(
    city: City, device: str, lon: float, *, box: list[float] | None = None, zone: str = "kerb", **more: Any
) -> UUID:
    """A camera reports a parked car at that longitude."""
    detail = {"box": box or BOX, "placed": more.pop("placed", True)}
    lat = cell_centre(0, 0)[1]
    return city.report(
        "illegal_parking", Source.CAMERA, device=device, position=(lon, lat), rule="illegal_parking", zone=zone,
        detail=detail, **more,
    )  # fmt: skip


def update(city: City, report_id: UUID, kind: str, severity: int | None = None, evidence: UUID | None = None) -> None:
    """As vision tells what became of a finding, a second later."""
    city.pass_time(seconds=1)
    city.query(
        "INSERT INTO report_update (id, report_id, kind, at, severity, evidence_id, detail)"
        " VALUES (%s, %s, %s, %s, %s, %s, '{}') RETURNING id",
        new_id(city.now), report_id, kind, city.now, severity, evidence,
    )  # fmt: skip


def tell(city: City) -> int:
    with city.database.transaction() as connection:
        return flow.take_updates(connection, city.now)


def close(city: City) -> None:
    """Somebody goes there, and the camera sees that it is gone."""
    city.advance()
    city.handle(city.people["甲"])
    city.advance()
    city.answer_checks(Verdict.CLEAR)
    city.advance()


def test_two_cameras_that_see_the_same_ground_across_a_cells_edge_make_one_incident(city: City) -> None:
    for code in ("cam-a", "cam-b", "cam-c"):
        city.add_device(code, "camera")
    find(city, "cam-a", EDGE - 0.0001)
    city.take()
    find(city, "cam-b", EDGE + 0.0001)  # 20 m further, in another cell
    city.take()
    assert city.incident()["report_count"] == 2
    find(city, "cam-c", EDGE + 0.0006)  # 67 m from the first
    find(city, "cam-b", EDGE + 0.0011, placed=False)  # nobody knows where on the ground that is
    city.take()
    assert sorted(i["report_count"] for i in city.incidents()) == [1, 1, 2]


def test_what_comes_back_at_its_place_soon_after_the_closure_opens_the_incident_again(city: City) -> None:
    city.add_person("甲", Role.GRID_WORKER, at=cell_centre(0, 0))
    city.add_device("cam-a", "camera")
    find(city, "cam-a", EDGE - 0.0005)
    city.take()
    close(city)
    assert city.incident()["state"] == "closed"
    city.pass_time(minutes=5)
    find(city, "cam-a", EDGE - 0.0005, box=[0.21, 0.5, 0.41, 0.71])
    city.take()
    again = city.incident()
    assert (again["state"], again["report_count"], again["handled_at"], again["ended_at"]) == ("filed", 2, None, None)
    assert city.story()[-2:] == ["reopen", "report_added"]
    close(city)  # and it lives a whole life once more
    assert city.incident()["state"] == "closed"


def test_another_place_or_a_later_time_or_a_voided_one_is_a_new_incident(city: City) -> None:
    city.add_person("甲", Role.GRID_WORKER, at=cell_centre(0, 0))
    operator = city.add_person("值班长", Role.OPERATOR)
    city.add_device("cam-a", "camera")
    find(city, "cam-a", EDGE - 0.0005)
    city.take()
    close(city)
    find(city, "cam-a", EDGE - 0.0005, box=[0.7, 0.2, 0.9, 0.4], occurred_at=city.now)
    city.take()
    opened = [i for i in city.incidents() if i["state"] != "closed"]
    assert len(opened) == 1 and len(city.incidents()) == 2
    city.act(operator, Action.VOID, incident_id=UUID(opened[0]["id"]), reason="误报")
    city.pass_time(minutes=11)
    find(city, "cam-a", EDGE - 0.0005)
    city.take()
    assert sorted(i["state"] for i in city.incidents()) == ["closed", "filed", "void"]


def test_growth_makes_the_incident_worse_and_is_pushed_to_nobody(city: City) -> None:
    person = city.add_person("甲", Role.GRID_WORKER, at=cell_centre(0, 0))
    city.add_device("cam-a", "camera")
    report_id = find(city, "cam-a", EDGE - 0.0005)
    update(city, report_id, "latest")
    assert tell(city) == 0  # the report has no incident yet: its update waits
    city.turn()
    pushes = city.query("SELECT count(*) FROM push_outbox")
    picture = city.add_photo(person, "snapshot")
    update(city, report_id, "grew", severity=2, evidence=picture)
    update(city, report_id, "grew", severity=4)
    update(city, report_id, "cleared")
    assert tell(city) == 4 and tell(city) == 0
    incident = city.incident()
    assert (incident["severity"], incident["cover"], incident["state"]) == (2, str(picture), "dispatched")
    assert city.story()[-3:] == ["finding_grew", "finding_grew", "finding_cleared"]
    assert city.query("SELECT count(*) FROM push_outbox") == pushes


def test_nobody_waits_for_a_neighbour_that_another_holds(city: City) -> None:
    """Who holds one incident and waits for another may wait in a circle: it comes again instead, and loses nothing."""
    for code in ("cam-a", "cam-b"):
        city.add_device(code, "camera")
    report_id = find(city, "cam-a", EDGE - 0.0001)
    city.take()
    update(city, report_id, "grew", severity=2)
    update(city, report_id, "cleared")
    with city.database.transaction() as holder:
        holder.execute("SELECT FROM incident FOR UPDATE")
        find(city, "cam-b", EDGE + 0.0001)
        assert (city.take(), tell(city)) == (0, 0)
    assert (city.take(), tell(city)) == (1, 2)
    assert (city.incident()["report_count"], city.incident()["severity"]) == (2, 2)
    assert city.story()[-2:] == ["finding_grew", "finding_cleared"]
