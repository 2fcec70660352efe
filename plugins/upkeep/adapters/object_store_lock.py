"""S3 object lock: objects that nobody can remove or overwrite for some days, whoever has got hold of the key.

Objects are locked when their backup is finished, not while it is written: what a killed backup leaves behind can be
swept. GOVERNANCE mode: an administrator with `s3:BypassGovernanceRetention` can still remove them; the key of the
backups should not have that right. https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from upkeep.core.errors import ConfigurationError, LockedError

MODE = "GOVERNANCE"
_DENIED = ("AccessDenied", "InvalidRequest")


def expect(client: Any, bucket: str) -> None:
    """See that a bucket can lock objects.

    :raises ConfigurationError: it cannot.
    """
    from botocore.exceptions import ClientError

    try:
        said = client.get_object_lock_configuration(Bucket=bucket).get("ObjectLockConfiguration", {})
    except ClientError as error:
        if error.response["Error"]["Code"] != "ObjectLockConfigurationNotFoundError":
            raise
        said = {}
    if said.get("ObjectLockEnabled") != "Enabled":
        raise ConfigurationError(
            f"the store has `lock_days`, and bucket {bucket} has no object lock",
            "make a new bucket for backups with `aws s3api create-bucket --object-lock-enabled-for-bucket --bucket ...`"
            f" (on AWS also for this one: `aws s3api put-bucket-versioning --bucket {bucket} --versioning-configuration"
            f" Status=Enabled`, then `aws s3api put-object-lock-configuration --bucket {bucket}"
            " --object-lock-configuration ObjectLockEnabled=Enabled`), or take `lock_days` out of the system file",
        )


def retain(client: Any, bucket: str, key: str, until: datetime) -> None:
    """Lock an object until a moment; one that is locked for longer stays so."""
    from botocore.exceptions import ClientError

    try:
        client.put_object_retention(Bucket=bucket, Key=key, Retention={"Mode": MODE, "RetainUntilDate": until})
    except ClientError as error:
        if error.response["Error"]["Code"] not in _DENIED:
            raise
        has = client.head_object(Bucket=bucket, Key=key).get("ObjectLockRetainUntilDate")
        if has is None or has < until:
            raise


def remove(client: Any, bucket: str, key: str, place: str) -> None:
    """Remove an object with all its versions and delete markers.

    :raises LockedError: a version must be kept until later.
    """
    from botocore.exceptions import ClientError

    for version in list(_versions(client, bucket, key)):
        try:
            client.delete_object(Bucket=bucket, Key=key, VersionId=version)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _DENIED:
                raise
            _tell(client.head_object(Bucket=bucket, Key=key, VersionId=version), place)
            raise


def _tell(head: Any, place: str) -> None:
    """:raises LockedError: this version is locked."""
    if head.get("ObjectLockLegalHoldStatus") == "ON":
        raise LockedError(f"{place} is under a legal hold in the store", "who laid it on has to take it off")
    until = head.get("ObjectLockRetainUntilDate")
    if until is not None and until > parsedate_to_datetime(head["ResponseMetadata"]["HTTPHeaders"]["date"]):
        raise LockedError(
            f"{place} is locked until {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
            "the store keeps it until then, whoever asks; remove it after that",
            until,
        )


def _versions(client: Any, bucket: str, key: str) -> Iterator[str]:
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key):
        # Markers first: where a version must stay, the object shows again, instead of being hidden and kept.
        for entry in (*page.get("DeleteMarkers", ()), *page.get("Versions", ())):
            if entry["Key"] == key:
                yield entry["VersionId"]
