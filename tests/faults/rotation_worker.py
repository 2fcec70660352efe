"""Rotates logs in a process that can be killed at any call which changes a file: one order (JSON) a line on stdin.

Each order is done in a fork, so that importing is paid for once. Answers with a line: how the fork ended, and what it
said. `kill_at` n: SIGKILL before (n even) or after (n odd) the n/2-th call that changes a file. `kill_after`: seconds.
`uid`: as whom. `file_bytes`: the most that a file may have (RLIMIT_FSIZE).
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.integration.rotation_world import World
from upkeep.core.rotation import quoted
from upkeep.core.routine import Routine

CALLS = ("rename", "link", "unlink", "ftruncate", "kill", "open")


def main() -> None:
    routine = Routine.load("upkeep.routines.logs.rotation")
    for line in sys.stdin:
        order = json.loads(line)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            said = work(order, routine)
            os.write(writing, json.dumps(said).encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answer:
            text = answer.read()
        _, status = os.waitpid(child, 0)
        print(json.dumps({"killed": os.WIFSIGNALED(status), "said": json.loads(text) if text else None}), flush=True)


def work(order: dict[str, Any], routine: Routine) -> Any:
    world = World(Path(order["folder"]), Path(order["work"]), policy=order["policy"])
    if "file_bytes" in order:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_bytes"],) * 2)
    if "uid" in order:
        os.setgroups([])
        os.setgid(order["uid"])
        os.setuid(order["uid"])
    if "kill_after" in order:
        threading.Timer(order["kill_after"], lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
    job = world.job(routine, order["settings"])
    begun = time.monotonic()
    seen = routine.observe(job)
    findings = list(routine.judge(job, seen).findings)
    plan = routine.plan(job, seen).actions
    if "kill_at" in order:
        lie_in_wait(order["kill_at"])
    outcomes = tuple(routine.act(job, action) for action in plan)
    findings += [f for o in outcomes for f in o.findings]
    findings += routine.verify(job, seen, outcomes).findings
    return {
        "did": [[a.name, a.subject, str(o.status), o.detail] for a, o in zip(plan, outcomes, strict=True)],
        "findings": [[f.check, quoted(f.subject), str(f.severity), f.message] for f in findings],
        "seconds": time.monotonic() - begun,
    }


def lie_in_wait(at: int) -> None:
    """Die around one of the calls that change files. Programs that are started are not touched."""
    seen = {"count": 0}

    def around(real: Callable[..., Any], counts: Callable[..., bool]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            if not counts(*args):
                return real(*args, **named)
            number = seen["count"]
            seen["count"] += 1
            if number * 2 == at:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return real(*args, **named)
            finally:
                if number * 2 + 1 == at:
                    really(os.getpid(), signal.SIGKILL)

        return call

    really = os.kill
    for name in CALLS:
        if name == "kill":
            signal.pidfd_send_signal = around(signal.pidfd_send_signal, lambda *_: True)
        elif name == "open":
            os.open = around(os.open, lambda path, flags, *_: bool(flags & os.O_CREAT))
        else:
            setattr(os, name, around(getattr(os, name), lambda *_: True))


if __name__ == "__main__":
    main()
