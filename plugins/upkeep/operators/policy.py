"""The error classes as Airflow's retry policy: what may pass by itself is tried again, what cannot is not."""

from __future__ import annotations

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from upkeep.core.errors import TransientError, UpkeepError

RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(exception=TransientError, action=RetryAction.RETRY, reason="may pass by itself"),
        RetryRule(exception=UpkeepError, action=RetryAction.FAIL, reason="trying again cannot help"),
    ]
)
