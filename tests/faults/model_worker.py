"""A worker that makes a copy of a model, restores one, or trains anew, and may be killed at any moment."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from upkeep.adapters import models
from upkeep.core.cadence import Window
from upkeep.core.job import Job
from upkeep.core.routine import Routine
from upkeep.core.targets import ModelTarget


def main(order: dict[str, str]) -> None:
    """Do one action of a routine."""
    now = datetime.fromisoformat(order["now"])
    retraining: Any = {"command": [sys.executable, "-S", order["program"], "{folder}"], "max_age_days": 1}
    target = ModelTarget(
        id="student/risk-model",
        path=order["folder"],
        metadata="model_metadata.json",
        files=("*.pkl", "*.json"),
        retraining=retraining,
    )
    tools: Any = SimpleNamespace(
        models=models.make_models(str, str, SimpleNamespace, Path(order["scratch"])),  # type: ignore[arg-type]
        now=lambda: now,
        history=SimpleNamespace(of=lambda _: SimpleNamespace(last=lambda _: None)),
        log=logging.getLogger("test"),
    )
    routine = Routine.load(f"upkeep.routines.model.{order['routine']}")
    settings = {"rollback": order["rollback"]} if order.get("rollback") else {}
    system: Any = SimpleNamespace(name="student")
    job: Job[Any, Any] = Job(
        routine=routine.name, target=target, system=system, settings=routine.resolve_settings(("test", settings)),
        window=Window(start=now, end=now), run_id="killed", try_number=1, tools=tools,
    )  # fmt: skip
    plan = routine.plan(job, routine.observe(job))
    print("ready", flush=True)
    for action in plan.actions:
        if action.name == order["action"]:
            print(json.dumps(str(routine.act(job, action).status)), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
