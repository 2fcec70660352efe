"""The errors of this package. Their classes are the retry policy: only `TransientError` is tried again."""

from __future__ import annotations

from datetime import datetime


class UpkeepError(Exception):
    """Something went wrong that a person has to read.

    `message` says where, what was seen and what was expected; `hint` says what to do next. Both are plain
    positional arguments so that the error survives pickling between Airflow's processes.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} -> {self.hint}" if self.hint else self.message


class TransientError(UpkeepError):
    """Trouble that may pass by itself: a cut connection, a server starting up. Tried again."""


class ConfigurationError(UpkeepError):
    """A system file, a setting or a parameter is wrong. Trying again cannot help."""


class NoKeyError(ConfigurationError):
    """Something is encrypted, and the key that it was made with is not at hand: nothing is known of it."""


class UnsafeError(UpkeepError):
    """A guard refused: going on could destroy something. Trying again cannot help."""


class LockedError(UnsafeError):
    """The store keeps an object until a moment that has not come; nothing can remove it before.

    `until` is that moment; None: for as long as a legal hold lies on the object.
    """

    def __init__(self, message: str, hint: str = "", until: datetime | None = None) -> None:
        super().__init__(message, hint)
        self.args = (message, hint, until)  # by which the error survives pickling
        self.until = until


class DamagedError(UpkeepError):
    """An artefact is not what its record says: a hash, a size or a structure differs."""


class CriticalFindingError(UpkeepError):
    """The routine did its work and what it found is critical. Trying again cannot help."""
