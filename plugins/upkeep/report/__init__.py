"""The report of a run: one HTML page and one maintenance log, from what the ledger tells."""

from upkeep.report.extras import Extras, Report, Seen, Stored
from upkeep.report.gather import gather
from upkeep.report.page import build

__all__ = ["Extras", "Report", "Seen", "Stored", "build", "gather"]
