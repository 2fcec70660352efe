"""Keeps one profile after the other in a folder until it is killed."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from upkeep.adapters import profile_store
from upkeep.core.drift import ColumnProfile, Profile

folder, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
for number in range(first, first + count):
    counts = {f"category {n}": n + number for n in range(2000)}
    column = ColumnProfile(kind="category", type="string", rows=sum(counts.values()), counts=counts)
    profile = Profile(target="claims/risk-model", rows=column.rows, columns={"x": column})
    print(profile_store.keep(folder, profile, datetime.now(UTC)).version, flush=True)
