"""A worker that vacuums: `python vacuum_worker.py <json>`, to be killed by a test at any moment."""

from __future__ import annotations

import json
import signal
import sys
import time

from tests.integration.vacuum_bench import Care, statuses


class Marked(BaseException):
    """What Airflow's on_kill raises in the main thread."""


def main() -> None:
    """Vacuum as told, and print what became of every table and how long it took to end."""
    order = json.loads(sys.argv[1])

    def stop(*_: object) -> None:
        nonlocal at
        at = time.monotonic()
        raise Marked

    at = 0.0
    signal.signal(signal.SIGTERM, stop)
    care = Care(order["dsn"], settings=order["settings"])
    print("ready", flush=True)
    try:
        record = care.run()
    except Marked:
        assert care.record is not None
        print(json.dumps({"stopped": time.monotonic() - at, "states": statuses(care.record)}), flush=True)
        return
    print(json.dumps(statuses(record)), flush=True)


if __name__ == "__main__":
    main()
