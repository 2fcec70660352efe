"""How an attempt to deliver a notice can fail."""

from __future__ import annotations


class NoChannel(Exception):
    """There is no way to try: nothing is configured for this kind of channel."""


class Undelivered(Exception):
    """It was tried. `whole_server`: no other recipient on the same server will fare better."""

    def __init__(self, message: str, whole_server: bool = False) -> None:
        super().__init__(message)
        self.whole_server = whole_server


class Hopeless(Undelivered):
    """Trying again now cannot help."""


class PassingTrouble(Undelivered):
    """The other side deferred or the line was cut: it may work in a few seconds."""
