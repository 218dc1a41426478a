"""One drain of the broker's queue, in a process of its own: `python -m benchmarks._drain WAY COUNT [SLOT]`.

Prints {"took_s", "cpu_s"}: from connecting to the last message committed (ours) or received (paho), and CPU time meanwhile.
"""

import contextlib
import json
import sys
import threading
import time

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks._installation import wait_for_end
from ingest.client import find_login
from ingest.mqtt import Intake, client_ids, name_group
from kernel.clock import Clock
from kernel.db import Database, DbRole
from kernel.settings import Settings, load_settings

TIMEOUT_S = 300.0
_ACKNOWLEDGED_AT_ONCE = 1000


def find_filter(settings: Settings) -> str:
    """What the telemetry session is subscribed to."""
    return f"{name_group(settings)}gridwarden/+/+/telemetry"


def drain_ours(settings: Settings, count: int) -> None:
    """The whole way, until `count` messages are taken; 0: until a line comes on standard input."""
    with contextlib.closing(Database(settings, DbRole.WORKER)) as database:
        with database.transaction():  # both have their connection before the clock runs
            pass
        intake = Intake(settings, database, Clock())
        began, cpu = time.perf_counter(), time.process_time()
        intake.start()
        while intake.counts.taken < count:
            time.sleep(0.002)
            if time.perf_counter() - began > TIMEOUT_S:
                raise AssertionError(f"{intake.counts} of {count}")
        _report(began, cpu)
        intake.stop()


def drain_shared(settings: Settings) -> None:
    """One of several processes: says how many it has taken, every few milliseconds, until its input ends."""
    with contextlib.closing(Database(settings, DbRole.WORKER)) as database:
        with database.transaction():
            pass
        intake = Intake(settings, database, Clock())
        print("ready", flush=True)
        sys.stdin.readline()
        intake.start()
        ended = threading.Event()
        threading.Thread(target=wait_for_end, args=(ended,), daemon=True).start()
        while not ended.wait(0.005):
            print(intake.counts.taken, flush=True)
        intake.stop()


def drain_paho(settings: Settings, count: int) -> None:
    """Receive and acknowledge a thousand at a time, nothing else."""
    done, received = threading.Event(), 0
    waiting: list[MQTTMessage] = []
    client = Client(
        CallbackAPIVersion.VERSION2, client_id=client_ids(settings)[0], clean_session=False, manual_ack=True
    )
    client.username_pw_set(*find_login(settings))

    def on_message(client: Client, userdata: object, message: MQTTMessage) -> None:
        nonlocal received
        received += 1
        waiting.append(message)
        if len(waiting) == _ACKNOWLEDGED_AT_ONCE or received >= count:
            for each in waiting:
                client.ack(each.mid, each.qos)
            waiting.clear()
        if received == count:
            done.set()

    client.on_message = on_message
    client.on_connect = lambda client, *_: client.subscribe(find_filter(settings), 1)
    began, cpu = time.perf_counter(), time.process_time()
    client.connect(settings.mqtt.host, settings.mqtt.port)
    client.loop_start()
    if not done.wait(TIMEOUT_S):
        raise AssertionError(f"{received} of {count}")
    _report(began, cpu)
    time.sleep(0.2)  # the last acknowledgements leave
    client.disconnect()
    client.loop_stop()


def _report(began: float, cpu: float) -> None:
    print(json.dumps({"took_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}), flush=True)


if __name__ == "__main__":
    way, number, slot = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0
    loaded = load_settings()
    loaded = loaded.model_copy(update={"mqtt": loaded.mqtt.model_copy(update={"slot": slot})})
    if way == "ours":
        drain_ours(loaded, number)
    elif way == "shared":
        drain_shared(loaded)
    else:
        drain_paho(loaded, number)
