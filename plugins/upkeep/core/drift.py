"""What is kept of a model's reference data, and how the data of a window differ from it."""

from __future__ import annotations

from upkeep.core.model import Model


class Unread(Model):
    """A file that could not be read, wholly or in part, and why: its rows are unknown."""

    place: str
    reason: str
