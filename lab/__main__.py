"""Command line: python -m lab up | down | status | env."""

from __future__ import annotations

import argparse
import sys
import time

from lab.connections import shell_lines
from lab.embedded import Lab
from lab.process import LabError


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lab", description="The embedded sample environment.")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start and fill everything; may be repeated")
    up.add_argument("--no-faults", action="store_true", help="plant no faults, and take away planted ones")
    commands.add_parser("down", help="end the processes; the data stay")
    commands.add_parser("status", help="show what runs; exit code 1 unless everything does")
    commands.add_parser("env", help="print the variables for Airflow as shell lines; the lab must be up")
    for command in commands.choices.values():
        command.add_argument("--home", help="folder of the lab (default: UPKEEP_LAB_HOME, or one of this checkout)")
    given = parser.parse_args(arguments)
    try:
        return _run(given)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


def _run(given: argparse.Namespace) -> int:
    lab = Lab(given.home)
    if given.command == "up":
        began = time.monotonic()
        lab.up(
            not given.no_faults, lambda text: print(f"lab: {time.monotonic() - began:5.1f} s  {text}", file=sys.stderr)
        )
    elif given.command == "down":
        lab.down()
    elif given.command == "status":
        return _status(lab)
    elif missing := [name for name, one in lab.status().items() if not one["alive"] and name != "keeper"]:
        raise LabError(f"not running: {', '.join(missing)}; run `python -m lab up` first")
    else:
        print(shell_lines(lab.environment()), end="")
    return 0


def _status(lab: Lab) -> int:
    status = lab.status()
    print(lab.home)
    for name, one in status.items():
        ports = " ".join(f"{what}={port}" for what, port in one["ports"].items() if "." not in what)
        print(f"{name:20} {'alive' if one['alive'] else 'down':6} pid {one['pid'] or '-':<8} {ports}")
    return 0 if all(one["alive"] for one in status.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
