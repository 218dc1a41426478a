"""Phones are told, once or again, and only people who are on duty and logged in."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb

from dispatch.model import Action, Actor
from dispatch.outbox import MAX_ATTEMPTS, Delivery, Push, Subscription, deliver_due, load_channels
from kernel.types import Role
from tests.dispatch.build import City, cell_centre


@dataclass
class Phone:
    """A channel that remembers; `answer` is what becomes of each attempt."""

    answer: Delivery = field(default_factory=lambda: Delivery(sent=True))
    told: list[Push] = field(default_factory=list)
    subscriptions: list[Subscription] = field(default_factory=list)
    name: str = "web_push"

    def deliver(self, push: Push, subscriptions: Sequence[Subscription], now: datetime) -> Delivery:
        self.told.append(push)
        self.subscriptions += subscriptions
        return self.answer

    @property
    def kinds(self) -> list[str]:
        return [push.kind for push in self.told]


@pytest.fixture
def worker(city: City) -> Actor:
    return city.add_person("网格员甲", at=cell_centre(0, 0))


def offer(city: City, category: str = "bin_overflow") -> None:
    city.report(category)
    city.turn()


@pytest.mark.parametrize(
    ("language", "title"), [("zh-CN", "新任务：垃圾箱满溢"), ("en", "New task: Bin overflow")]
)  # fmt: skip
def test_an_offer_is_told_once_with_what_and_where_in_the_person_s_language(
    city: City, language: str, title: str
) -> None:
    person = city.add_person("网格员", language=language)
    city.report("bin_overflow", detail={"place": "武林路"})
    city.turn()
    phone = Phone()
    assert deliver_due(city.database, [phone], city.now) == 1
    assert deliver_due(city.database, [phone], city.now + timedelta(hours=1)) == 0
    (push,) = phone.told
    assert (push.user_id, push.body["title"], push.body["body"]) == (person.user_id, title, "武林路")
    assert (push.body["number"], push.body["push_id"]) == ("20261120-000001", str(push.id))


def test_nobody_off_duty_is_told(city: City, worker: Actor) -> None:
    offer(city)
    city.set_duty(worker, False)
    phone = Phone()
    deliver_due(city.database, [phone], city.now)
    assert phone.told == []
    assert city.query("SELECT error, sent_at FROM push_outbox") == [("off_duty", None)]
    city.set_duty(worker, True)
    assert deliver_due(city.database, [phone], city.now + timedelta(days=1)) == 0  # it is not told hours later either


@pytest.mark.parametrize("how", ["logged out", "session over"])
def test_nobody_logged_out_is_told(city: City, worker: Actor, how: str) -> None:
    offer(city)
    if how == "logged out":
        city.query("DELETE FROM session RETURNING user_id")
    else:
        city.query("UPDATE session SET expires_at = %s RETURNING user_id", city.now)
    phone = Phone()
    deliver_due(city.database, [phone], city.now)
    assert phone.told == []
    assert city.query("SELECT error FROM push_outbox") == [("logged_out",)]


def test_an_offer_that_has_gone_elsewhere_meanwhile_is_not_told(city: City, worker: Actor) -> None:
    offer(city)
    operator = city.add_person("值班长", Role.OPERATOR)
    city.act(operator, Action.VOID, reason="误报")
    phone = Phone()
    deliver_due(city.database, [phone], city.now)
    assert phone.kinds == ["withdrawn"]


def test_nobody_is_told_what_they_did_themselves(city: City, worker: Actor) -> None:
    offer(city)
    city.act(worker, Action.REFUSE, reason="太远")
    assert city.query("SELECT kind FROM push_outbox") == [("offered",)]


def test_a_failed_attempt_is_repeated_ever_more_slowly_and_given_up_at_last(city: City, worker: Actor) -> None:
    offer(city)
    phone = Phone(answer=Delivery(error="web_push: status 503"))
    waits, begin = [], city.now
    for _ in range(3000):
        if deliver_due(city.database, [phone], city.now):
            waits.append(round((city.now - begin).total_seconds()))
        city.pass_time(seconds=1)
        if len(waits) == MAX_ATTEMPTS:
            break
    assert waits == [0, 1, 3, 7, 15, 31, 63, 123]
    assert deliver_due(city.database, [phone], city.now + timedelta(days=1)) == 0
    assert city.query("SELECT sent_at, error FROM push_outbox") == [(None, "gave up: web_push: status 503")]


def test_an_attempt_that_never_came_back_is_made_again(city: City, worker: Actor) -> None:
    """As when the process is killed while it sends."""

    class Killed(BaseException):
        pass

    class Dying(Phone):
        def deliver(self, push: Push, subscriptions: Sequence[Subscription], now: datetime) -> Delivery:
            raise Killed

    offer(city)
    with pytest.raises(Killed):
        deliver_due(city.database, [Dying()], city.now)
    phone = Phone()
    assert deliver_due(city.database, [phone], city.now) == 0  # its time has not come
    assert deliver_due(city.database, [phone], city.now + timedelta(seconds=2)) == 1
    assert phone.kinds == ["offered"]


def test_one_broken_channel_does_not_silence_the_other(city: City, worker: Actor) -> None:
    class Broken(Phone):
        def deliver(self, push: Push, subscriptions: Sequence[Subscription], now: datetime) -> Delivery:
            raise OSError("no")

    offer(city)
    phone = Phone()
    deliver_due(city.database, [Broken(name="broken"), phone], city.now)
    assert phone.kinds == ["offered"]
    ((sent_at, error),) = city.query("SELECT sent_at, error FROM push_outbox")
    assert (sent_at, error) == (city.now, "broken: OSError")


def test_what_the_phone_has_confirmed_is_not_sent_again(city: City, worker: Actor) -> None:
    offer(city)
    phone = Phone(answer=Delivery())  # handed over, nothing known
    deliver_due(city.database, [phone], city.now)
    city.query("UPDATE push_outbox SET received_at = %s RETURNING id", city.now)
    assert deliver_due(city.database, [phone], city.now + timedelta(minutes=5)) == 0


def test_each_channel_gets_its_own_addresses_and_dead_ones_are_forgotten(city: City, worker: Actor) -> None:
    ids = {}
    for channel in ("web_push", "other"):
        ids[channel] = uuid4()
        city.query(
            "INSERT INTO push_subscription (id, user_id, channel, address, keys, created_at)"
            " VALUES (%s, %s, %s, %s, %s, %s) RETURNING id",
            ids[channel], worker.user_id, channel, f"https://{channel}.example", Jsonb({}), city.now,
        )  # fmt: skip
    offer(city)
    phone = Phone(answer=Delivery(error="status 410", gone=(ids["web_push"],)))
    deliver_due(city.database, [phone], city.now)
    assert [s.id for s in phone.subscriptions] == [ids["web_push"]]
    assert city.query("SELECT id FROM push_subscription") == [(ids["other"],)]


def test_the_channels_are_found_by_themselves(city: City) -> None:
    assert [c.name for c in load_channels(city.settings, city.database)] == ["web_push", "websocket"]
