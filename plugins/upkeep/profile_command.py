"""Reference profiles by hand: `python -m upkeep.profile_command build claims/risk-model --files train.parquet`.

The first profile of a model is usually that of the data it was trained on, which only a person knows: all rows of some
files, or the scoring data from --since to --until. What this command writes needs no approval: whoever can run it can
write into the folder anyway. `show` lists the versions.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from upkeep.core.errors import ConfigurationError, UpkeepError

if TYPE_CHECKING:
    from upkeep.core.drift import Drifts, Stretch
    from upkeep.core.system import System
    from upkeep.core.targets import ModelTarget


def main(arguments: list[str] | None = None) -> int:
    """Build or list profiles; return 0, or 1 with the reason on the error output."""
    given = _parser().parse_args(arguments)
    try:
        _show(given) if given.command == "show" else _build(given)
    except UpkeepError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m upkeep.profile_command", description="Reference profiles.")
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="list the versions that there are")
    build = commands.add_parser("build", help="build a profile and keep it as the next version")
    for one in (show, build):
        one.add_argument("target", help="system/target, such as claims/risk-model")
    build.add_argument("--since", type=_moment, help="first moment of the data (ISO 8601, system's time zone)")
    build.add_argument("--until", type=_moment, help="the moment after the last one")
    build.add_argument("--files", action="append", default=[], help="Parquet or CSV files instead of the scoring data")
    build.add_argument(
        "--time-column", default="", help="column of --files that tells when a row was made, for --since"
    )
    build.add_argument("--least-rows", type=int, default=1000, help="fewer rows make no profile (1000)")
    return parser


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _build(given: argparse.Namespace) -> None:
    from upkeep.operators import wiring
    from upkeep.routines.model._drift_seen import folder
    from upkeep.routines.model._profile_words import column_said

    system, target, drifts = _world(given.target)
    made = drifts.profiled(_stretch(given, system, target, drifts), system, target.id)
    if made.read.unread or made.read.rows < given.least_rows:
        said = "".join(f"; {u.place}: {u.reason}" for u in made.read.unread)
        raise ConfigurationError(
            f"{target.id}: {made.read.rows:,} rows, expected at least {given.least_rows:,}{said}",
            "nothing was written: correct --since, --until or the source",
        )
    entry = drifts.keep(folder(target), made.profile, wiring.now())
    for name, column in made.profile.columns.items():
        sys.stdout.write(f"  {name}: {column_said(column)}\n")
    left = f", {made.read.broken + made.read.undated:,} left out" if made.read.broken + made.read.undated else ""
    sys.stdout.write(f"version {entry.version}: {entry.rows:,} rows{left}, SHA-256 {entry.sha256}, {folder(target)}\n")


def _stretch(given: argparse.Namespace, system: System, target: ModelTarget, drifts: Drifts) -> Stretch:
    from upkeep.core.drift import Stretch
    from upkeep.core.ml import DataSource

    source = target.scoring
    if given.files:
        source = DataSource(files=tuple(given.files), time_column=given.time_column or "(none)")
    if source is None:
        raise ConfigurationError(f"{target.id} has no `scoring`", "describe it in the system file, or give --files")
    start, end = (m and (m if m.tzinfo else m.replace(tzinfo=system.zone)) for m in (given.since, given.until))
    if (start is None) != (end is None) or (start is None and not given.files) or (start and end and end <= start):
        raise ConfigurationError("--since and --until name no stretch of time", "give both, or --files without both")
    metadata = f"{target.path}/{target.metadata}" if target.metadata else ""
    features = target.features or (drifts.features(metadata) if metadata else None)
    answer = (target.prediction,) if target.prediction else ()
    columns = tuple(sorted({*features, *answer})) if features else None
    return Stretch(
        source=source,
        start=start and start.astimezone(UTC),
        end=end and end.astimezone(UTC),
        columns=columns,
    )


def _show(given: argparse.Namespace) -> None:
    from upkeep.routines.model._drift_seen import folder

    _, target, drifts = _world(given.target)
    index = drifts.index(folder(target))
    for entry in index.versions:
        drifts.load(folder(target), entry)
        mark = "current" if entry == index.current else ""
        sys.stdout.write(f"{entry.version:>4}  {entry.made_at:%Y-%m-%d %H:%M}  {entry.rows:>12,} rows  {mark}\n")
    if not index.versions:
        sys.stdout.write(f"no profile in {folder(target)}\n")


def _world(target_id: str) -> tuple[System, ModelTarget, Drifts]:
    """Return system, target and tools.

    :raises ConfigurationError: there is no such model.
    """
    from upkeep.adapters.drift import Drifts as Adapter
    from upkeep.adapters.scoring_data import ScoringData
    from upkeep.core.targets import ModelTarget
    from upkeep.operators import wiring
    from upkeep.systems.load import load_system

    system = load_system(target_id.partition("/")[0])
    target = system.target(target_id)
    if not isinstance(target, ModelTarget):
        raise ConfigurationError(f"{target_id} is a {target.kind}, expected a model", "name a model")
    return system, target, Adapter(ScoringData(wiring.conninfo, wiring.connection), Path(wiring.scratch_folder()))


if __name__ == "__main__":
    sys.exit(main())
