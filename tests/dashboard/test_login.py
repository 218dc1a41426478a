"""Signing in: passwords, one-time links, the throttle, other sites' pages."""

import threading
from datetime import timedelta

import httpx
import pytest

from dashboard.auth import TRIES_PER_ADDRESS, TRIES_PER_NAME
from dashboard.password import WeakPassword, hash_password, verify_password
from dashboard.users import UserError, add_user, find_user, make_login_link, set_disabled, set_password, set_roles
from kernel.db import Database
from kernel.settings import Settings
from tests.dashboard.conftest import PASSWORD, Server, SignIn, now, serve


def add(database: Database, name: str = "lin", password: str | None = PASSWORD, **more: object) -> None:
    with database.transaction() as connection:
        add_user(connection, name=name, roles=["operator"], scope="*", now=now(), password=password, **more)  # type: ignore[arg-type]


def log_in(client: httpx.Client, name: str = "lin", password: str = PASSWORD, seat: str = "wall") -> httpx.Response:
    return client.post("/api/v1/login", json={"name": name, "password": password, "seat": seat})


def test_a_person_signs_in_with_a_password_and_out_again(server: Server, database: Database) -> None:
    add(database, display_name="林队长")
    client = server.client()
    answer = log_in(client)
    assert answer.status_code == 200 and answer.json()["display_name"] == "林队长"
    cookie = answer.headers["set-cookie"]
    assert "gw_wall=" in cookie and "HttpOnly" in cookie and "SameSite=strict" in cookie and "Secure" not in cookie
    assert client.get("/api/v1/me").json()["roles"] == ["operator"]
    assert client.post("/api/v1/logout").status_code == 204
    client.cookies.set("gw_wall", cookie.split("gw_wall=")[1].split(";")[0])
    assert client.get("/api/v1/me").json()["code"] == "not_signed_in"


def test_the_cookie_itself_is_stored_nowhere(server: Server, database: Database, sign_in: SignIn) -> None:
    token = sign_in().cookies["gw_wall"]
    with database.transaction() as connection:
        stored = connection.execute("SELECT encode(token_hash, 'escape') FROM session").fetchone()
    assert stored is not None and token not in stored[0]


def test_wrong_name_wrong_password_and_disabled_people_hear_the_same(server: Server, database: Database) -> None:
    add(database)
    add(database, "wang", None)
    add(database, "zhao")
    with database.transaction() as connection:
        set_disabled(connection, find_user(connection, "zhao"), True, now())
    client = server.client()
    answers = [
        log_in(client, "lin", "wrong password"),
        log_in(client, "nobody"),
        log_in(client, "wang"),
        log_in(client, "zhao"),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.text for answer in answers} == {answers[0].text}
    assert answers[0].headers["content-type"] == "application/problem+json"
    assert answers[0].json()["code"] == "wrong_credentials"


def test_an_unknown_name_costs_a_hash_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from dashboard import password

    verified: list[str] = []
    hasher = type(
        "Hasher",
        (),
        {"verify": lambda self, stored, given: verified.append(stored) or True, "hash": lambda self, p: "dummy"},
    )
    monkeypatch.setattr(password, "_HASHER", hasher())
    password._dummy.cache_clear()
    assert verify_password(None, "anything") is False
    assert verified == ["dummy"]
    password._dummy.cache_clear()


def test_passwords_are_argon2id_with_the_recommended_cost() -> None:
    stored = hash_password(PASSWORD, "lin")
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$") and PASSWORD not in stored
    assert verify_password(stored, PASSWORD) and not verify_password(stored, PASSWORD + "x")
    assert not verify_password("not a hash", PASSWORD)
    for weak in ("short", "x" * 300, "administrator"):
        with pytest.raises(WeakPassword):
            hash_password(weak, "Administrator")


def test_a_one_time_link_works_once_even_for_two_at_the_same_moment(server: Server, database: Database) -> None:
    add(database, password=None)
    with database.transaction() as connection:
        link = make_login_link(connection, find_user(connection, "lin"), "wall", now(), server.settings)
    page, token = link.split("#")
    assert page == f"{server.settings.public_url}/login?seat=wall"
    statuses: list[int] = []
    clients = [server.client() for _ in range(6)]
    start = threading.Barrier(len(clients))

    def use(client: httpx.Client) -> None:
        start.wait()
        statuses.append(client.post("/api/v1/login/link", json={"token": token, "seat": "wall"}).status_code)

    threads = [threading.Thread(target=use, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, 401, 401, 401, 401, 401]


def test_an_old_link_is_refused(server: Server, database: Database) -> None:
    add(database, password=None)
    with database.transaction() as connection:
        past = now() - timedelta(minutes=server.settings.web.link_minutes + 1)
        link = make_login_link(connection, find_user(connection, "lin"), "wall", past, server.settings)
    answer = server.client().post("/api/v1/login/link", json={"token": link.split("#")[1]})
    assert (answer.status_code, answer.json()["code"]) == (401, "link_invalid")


def test_guessing_is_throttled_and_locks_nobody_else_out(server: Server, database: Database) -> None:
    add(database)
    add(database, "wang")
    guesser = server.client(**{"X-Forwarded-For": "203.0.113.7"})
    statuses = [log_in(guesser, password=f"guess number {n}").status_code for n in range(TRIES_PER_NAME + 2)]
    assert statuses == [401] * TRIES_PER_NAME + [429, 429]
    refused = log_in(guesser)
    assert (
        refused.status_code == 429 and int(refused.headers["retry-after"]) > 0
    )  # the right password does not help either
    assert log_in(guesser, "wang").status_code == 200  # another name from there
    assert (
        log_in(server.client(**{"X-Forwarded-For": "203.0.113.8"})).status_code == 200
    )  # the same name from elsewhere


def test_guesses_at_the_same_moment_are_counted_too(server: Server, database: Database) -> None:
    add(database)
    statuses: list[int] = []
    start = threading.Barrier(12)

    def guess(n: int) -> None:
        client = server.client(**{"X-Forwarded-For": "203.0.113.9"})
        start.wait()
        statuses.append(log_in(client, password=f"guess number {n}").status_code)

    threads = [threading.Thread(target=guess, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses.count(401) <= TRIES_PER_NAME and statuses.count(429) >= 12 - TRIES_PER_NAME


def test_one_address_cannot_try_many_names_without_end(server: Server, database: Database) -> None:
    with database.transaction() as connection:
        for n in range(TRIES_PER_ADDRESS):
            connection.execute(
                "INSERT INTO login_attempt (address, name, attempted_at) VALUES ('203.0.113.10', %s, %s)",
                (f"n{n}", now()),
            )
    assert log_in(server.client(**{"X-Forwarded-For": "203.0.113.10"}), "someone").status_code == 429


def test_wall_and_phone_are_open_side_by_side_with_two_people(server: Server, database: Database) -> None:
    add(database, "lin")
    add(database, "wang")
    client = httpx.Client(base_url=server.url)
    with client:
        log_in(client, "lin", seat="wall")
        log_in(client, "wang", seat="phone")
        assert client.get("/api/v1/me", headers={"X-Seat": "wall"}).json()["name"] == "lin"
        assert client.get("/api/v1/me?seat=phone").json()["name"] == "wang"
        assert client.post("/api/v1/logout", headers={"X-Seat": "wall"}).status_code == 204
        assert client.get("/api/v1/me?seat=wall").status_code == 401
        assert client.get("/api/v1/me?seat=phone").status_code == 200


def test_a_cookie_of_one_seat_is_none_at_the_other(server: Server, sign_in: SignIn) -> None:
    client = sign_in()
    stolen = server.client("phone")
    stolen.cookies.set("gw_phone", client.cookies["gw_wall"])
    assert stolen.get("/api/v1/me").status_code == 401


def test_pages_of_other_sites_change_nothing(server: Server, sign_in: SignIn, subtests: pytest.Subtests) -> None:
    client = sign_in()
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1", server.url + ".example"):
        with subtests.test(origin):
            answer = client.patch("/api/v1/me", json={"language": "en"}, headers={"Origin": origin})
            assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    assert client.get("/api/v1/me").json()["language"] == "zh-CN"


def test_our_own_page_and_programs_may(server: Server, sign_in: SignIn) -> None:
    client = sign_in()
    assert client.patch("/api/v1/me", json={"language": "en"}, headers={"Origin": server.url}).status_code == 200
    assert client.patch("/api/v1/me", json={"language": "zh-CN"}).status_code == 200
    cross = client.patch("/api/v1/me", json={"language": "en"}, headers={"Sec-Fetch-Site": "cross-site"})
    assert cross.status_code == 403


def test_a_new_password_and_disabling_end_the_sessions(server: Server, database: Database, sign_in: SignIn) -> None:
    client = sign_in("lin")
    with database.transaction() as connection:
        set_password(connection, find_user(connection, "lin"), "a new long password")
    assert client.get("/api/v1/me").status_code == 401
    other = sign_in("wang")
    with database.transaction() as connection:
        set_disabled(connection, find_user(connection, "wang"), True, now())
    assert other.get("/api/v1/me").status_code == 401


def test_a_session_ends_with_its_time(server: Server, database: Database, sign_in: SignIn) -> None:
    client = sign_in()
    with database.transaction() as connection:
        connection.execute("UPDATE session SET expires_at = %s", (now() - timedelta(seconds=1),))
    assert client.get("/api/v1/me").status_code == 401


def test_roles_decide_what_a_person_may_read(server: Server, database: Database, sign_in: SignIn) -> None:
    client = sign_in("lin", ("grid_worker",))
    refused = client.get("/api/v1/users")
    assert (refused.status_code, refused.json()["code"]) == (403, "not_your_role")
    assert client.get("/api/v1/dead-letters").status_code == 403
    with database.transaction() as connection:
        set_roles(connection, find_user(connection, "lin"), ["engineer"], now())
    assert client.get("/api/v1/users").status_code == 200
    assert client.get("/api/v1/dead-letters").json() == {"items": [], "next": None}


@pytest.mark.parametrize(
    "wrong",
    [{"name": ""}, {"name": "a\x00b"}, {"roles": []}, {"roles": ["king"]}, {"scope": "Hangzhou"}, {"scope": ""}],
)
def test_people_who_make_no_sense_are_not_added(database: Database, wrong: dict[str, object]) -> None:
    with database.transaction() as connection, pytest.raises(UserError):
        add_user(connection, **({"name": "lin", "roles": ["operator"], "scope": "*", "now": now()} | wrong))  # type: ignore[arg-type]


def test_a_name_is_given_once_and_the_transaction_goes_on(database: Database) -> None:
    add(database)
    with database.transaction() as connection:
        with pytest.raises(UserError, match="taken"):
            add_user(connection, name="lin", roles=["operator"], scope="*", now=now())
        add_user(connection, name="wang", roles=["operator"], scope="330105012, 330105013", now=now())
        row = connection.execute("SELECT scope FROM app_user WHERE name = 'wang'").fetchone()
    assert row == ("330105012,330105013",)


def test_behind_https_the_cookie_is_secure_and_the_public_address_is_an_own_origin(
    web_settings: Settings, database: Database
) -> None:
    add(database)
    public = web_settings.web.model_copy(update={"public_url": "https://gridwarden.example/"})
    with serve(web_settings.model_copy(update={"web": public})) as running:
        answer = log_in(running.client(Origin="https://gridwarden.example"))
        foreign = log_in(running.client(Origin="https://gridwarden.example.evil.example"))
    assert "Secure" in answer.headers["set-cookie"] and foreign.status_code == 403
    assert "wss://gridwarden.example" in answer.headers["content-security-policy"]
