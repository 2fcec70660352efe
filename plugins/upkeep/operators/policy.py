"""The error classes as Airflow's retry policy: what may pass by itself is tried again, what cannot is not."""

from __future__ import annotations

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule
from airflow.sdk.exceptions import AirflowTaskTimeout

from upkeep.core.errors import TransientError, UpkeepError

RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(exception=TransientError, action=RetryAction.RETRY, reason="may pass by itself"),
        RetryRule(exception=UpkeepError, action=RetryAction.FAIL, reason="trying again cannot help"),
        # The limit is hours: trying again would end in the next window.
        RetryRule(exception=AirflowTaskTimeout, action=RetryAction.FAIL, reason="it would take as long again"),
    ]
)


class Stopped(BaseException):
    """The task is being ended from outside. Like KeyboardInterrupt, no `except Exception` of a routine holds it up."""


def is_tried_again(error: BaseException) -> bool:
    """Tell whether a task that fails with this error is tried again, as long as tries are left."""
    return RETRY_POLICY.evaluate(error, 1, 2).action is not RetryAction.FAIL


def explain(error: BaseException) -> tuple[str, str]:
    """Return what an error says and what to do about it, in text that the ledger can keep."""
    if isinstance(error, UpkeepError):
        said, hint = error.message, error.hint
    elif isinstance(error, AirflowTaskTimeout):
        said, hint = "it took longer than its execution_timeout", "look in its log what it waited for; it was ended"
    elif isinstance(error, Stopped):
        said, hint = str(error), "clear the task to run it again"
    else:
        said, hint = f"{type(error).__name__}: {error}", "read the log of this try"
    # A file name that is no UTF-8 may be part of it.
    return said.encode(errors="backslashreplace").decode(), hint.encode(errors="backslashreplace").decode()
