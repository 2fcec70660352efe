"""The five sample systems: which server, which database, which further parts each of them has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path


@dataclass(frozen=True)
class SampleSystem:
    """What the lab needs to know of a system."""

    name: str
    cluster: str
    database: str
    bucket: str = ""
    redis: bool = False
    copied: bool = False  # its cluster's files are backed up with this system

    @property
    def owner(self) -> str:
        """The role that owns the database and that the system's services use."""
        return f"{self.name}_owner"

    @property
    def keeper(self) -> str:
        """The least-privileged role that checks and backups use."""
        return f"upkeep_{self.name}"

    @property
    def carer(self) -> str:
        """The role that vacuums, analyzes and rebuilds: it acts for the owner and sees all sessions."""
        return f"care_{self.name}"

    @property
    def copier(self) -> str:
        """The role that may copy the files of the cluster, and with them everything in it."""
        return f"copy_{self.name}"


# PostgreSQL major by cluster. `platform` holds Airflow's own database and the ledger: faults of the others miss it.
CLUSTERS = {"sample": 18, "campus": 15, "platform": 18}
SYSTEMS = (
    SampleSystem("claims", "sample", "insurance_claims", bucket="claims-uploads", redis=True, copied=True),
    SampleSystem("cardiology", "sample", "cardiology", bucket="cardiology-records", redis=True),
    SampleSystem("molecular", "sample", "molecules", bucket="molecular-files", redis=True),
    SampleSystem("student", "sample", "student_success"),
    SampleSystem("campus", "campus", "student_management", copied=True),
)
PLATFORM = {"airflow": "airflow", "upkeep_ledger": "upkeep_ledger"}  # database: owner
BACKUP_BUCKET = "upkeep-backups"


def system(name: str) -> SampleSystem:
    """Return the system of that name."""
    return next(one for one in SYSTEMS if one.name == name)


_SAMPLES = Path(__file__).resolve().parent.parent / "include" / "systems"
_WINDOW = re.compile(r"^maintenance_window:\n(?:[ #].*\n)+", re.MULTILINE)

_UNTIL = re.compile(r"until: \d{4}-\d\d-\d\d")


def write_system_files(folder: Path) -> None:
    """Write the sample systems' files as they are, but without maintenance windows: the lab is tried at any hour.

    What may stay until a day may do so for two months from now: the lab is tried in any year.
    """
    until = datetime.now(UTC).date() + timedelta(days=60)
    folder.mkdir(parents=True, exist_ok=True)
    for sample in sorted(_SAMPLES.glob("*.yaml")):
        written = folder / sample.name
        fresh = written.with_suffix(".new")
        fresh.write_text(_UNTIL.sub(f"until: {until}", _WINDOW.sub("", sample.read_text())))
        fresh.replace(written)
