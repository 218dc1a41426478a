"""A full disk is said on every screen, while what is stored can still be read, and ends by itself."""

from kernel.db import Database
from kernel.distress import Distress, is_disk_full
from tests.dashboard.conftest import Server, SignIn, open_incident
from tests.dashboard.test_live import hear, watch
from tests.waiting import wait_until


def test_a_full_disk_is_a_banner_and_reading_goes_on(server: Server, database: Database, sign_in: SignIn) -> None:
    with database.transaction() as connection:
        incident = open_incident(connection)
    client, distress = sign_in(), Distress(server.settings)
    with watch(server, client) as live:
        hear(live, "snapshot")
        distress.call()
        distress.call()  # each batch that fails says it again
        assert hear(live, "degraded")["since"] is not None
        assert client.get(f"/api/v1/incidents/{incident}").status_code == 200
        with watch(server, client) as other:
            assert [item["id"] for item in hear(other, "snapshot")["incidents"]] == [str(incident)]
        distress.end()
        assert hear(live, "degraded")["since"] is None


def test_whoever_says_it_and_dies_says_it_no_longer(database: Database, server: Server) -> None:
    one, two = Distress(server.settings), Distress(server.settings)
    one.call()
    two.call()
    one.end()
    with database.transaction() as connection:
        assert is_disk_full(connection)  # one of several is enough
    assert two._held is not None
    two._held.close()
    two.end()

    def is_over() -> bool:
        with database.transaction() as connection:
            return not is_disk_full(connection)

    wait_until(is_over, "the server notices that the connection is gone")
