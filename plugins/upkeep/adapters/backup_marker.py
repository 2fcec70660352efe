"""The mark that a backup is being made, and how to tell a writer that works from one that died.

`started.json` beside the files says who writes: run, machine, process, birth of the process. The writer touches it
every minute. A writer is dead when its process is gone from this very machine, or when nothing below its backup id has
changed for long, by the store's own clock.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pydantic

from upkeep.core.model import Model

HEARTBEAT = timedelta(seconds=60)
# Airflow declares a task dead after five minutes without a sign of life ([scheduler] task_instance_heartbeat_timeout):
# a run that is tried again has lost its earlier writer at least that long ago.
SAME_RUN_PATIENCE = timedelta(minutes=5)


class Marker(Model):
    """Who makes a backup."""

    run_id: str
    machine: str
    pid: int
    birth: float
    started: datetime

    def encode(self) -> bytes:
        """Return the bytes of `started.json`."""
        return json.dumps(self.model_dump(mode="json")).encode()


def ours(run_id: str, started: datetime) -> Marker:
    """Return the mark of this process."""
    process = psutil.Process()
    return Marker(run_id=run_id, machine=_machine(), pid=process.pid, birth=process.create_time(), started=started)


def read(data: bytes) -> Marker | None:
    """Read a mark; None when it is damaged."""
    try:
        return Marker.model_validate_json(data)
    except pydantic.ValidationError:
        return None


def verdict(marker: Marker | None, quiet: timedelta, run_id: str, patience: timedelta) -> str:
    """Return why the writer counts as dead; empty when it may live.

    :param quiet: how long nothing has changed below the backup id.
    """
    if marker is not None and marker.machine == _machine():
        return "" if _lives(marker) else f"its writer (process {marker.pid} of this machine) is gone"
    if marker is not None and marker.run_id == run_id and quiet > SAME_RUN_PATIENCE:
        return f"an earlier try of this run wrote it and has been quiet for {_minutes(quiet)} min"
    return f"nothing has been written for {_minutes(quiet)} min" if quiet > patience else ""


def _lives(marker: Marker) -> bool:
    try:
        return abs(psutil.Process(marker.pid).create_time() - marker.birth) < 1 and marker.pid != os.getpid()
    except psutil.Error:
        return False


def _machine() -> str:
    """Return what process ids belong to: this boot of the kernel, this namespace of processes."""
    if sys.platform != "linux":
        return f"{os.uname().nodename}/{psutil.boot_time():.0f}"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"


def _minutes(quiet: timedelta) -> int:
    return int(quiet.total_seconds() // 60)
