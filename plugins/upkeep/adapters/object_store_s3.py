"""Backups in an S3 bucket (AWS, MinIO, SeaweedFS, Ceph ...), every upload with a SHA-256 that the server verifies."""

from __future__ import annotations

import base64
import contextlib
import copy
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from upkeep.adapters import object_store_lock
from upkeep.adapters.encryption import CLEAR
from upkeep.adapters.object_store import BLOCK, Item, Upload, Written
from upkeep.core.backup import MANIFEST
from upkeep.core.errors import ConfigurationError, DamagedError, TransientError, UpkeepError

# Also the memory of one upload. S3 takes parts from 5 MiB on and at most 10,000 of them, so files above 72 GiB get
# larger parts: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
PART = 8 << 20
_PARTS = 9_000
_LOCKING = 4  # requests at a time
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_WRONG = {
    "NoSuchBucket": "create the bucket, or correct the store's url in the system file",
    "AccessDenied": "allow this key s3:ListBucket, GetObject, PutObject, DeleteObject, AbortMultipartUpload; with"
    " `lock_days` also GetBucketObjectLockConfiguration, GetObjectRetention, PutObjectRetention, ListBucketVersions,"
    " DeleteObjectVersion",
    "InvalidAccessKeyId": "correct the key in the Airflow connection of the store",
    "SignatureDoesNotMatch": "correct the secret key in the Airflow connection of the store",
    "PermanentRedirect": "correct region or endpoint in the Airflow connection of the store",
    "AuthorizationHeaderMalformed": "correct the region in the Airflow connection of the store",
    "InvalidStorageClass": "correct `storage_class` of the store in the system file",
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects.html
    "InvalidObjectState": "the object lies in an archive: bring it back first (aws s3api restore-object); for backups"
    " that are to be verified use a class that answers at once, such as GLACIER_IR",
    "403": "allow this key to read and write the bucket",
}
_ABSENT = ("NoSuchKey", "404", "NotFound")


def client(connection: Any) -> Any:
    """Return a boto3 S3 client for an Airflow connection of type aws; roles and profiles work as Airflow has them."""
    from airflow.providers.amazon.aws.hooks.base_aws import BaseSessionFactory
    from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper
    from botocore.config import Config

    wrapped = AwsConnectionWrapper(conn=connection)
    endpoint = wrapped.get_service_endpoint_url("s3")
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 3},
        connect_timeout=10,
        read_timeout=60,
        # Servers at an address of their own seldom answer to `<bucket>.<address>`.
        s3={"addressing_style": "path" if endpoint else "auto"},
    )
    if wrapped.botocore_config is not None:
        config = config.merge(wrapped.botocore_config)
    session = BaseSessionFactory(conn=wrapped, region_name=wrapped.region_name, config=config).create_session()
    verify = wrapped.verify if wrapped.verify is not None else True
    return session.client("s3", endpoint_url=endpoint, config=config, verify=verify)


class S3Store:
    """A bucket, or everything below a prefix in it."""

    key_id = ""

    def __init__(
        self,
        client: Any,
        bucket: str,
        prefix: str = "",
        *,
        lock_days: int | None = None,
        classes: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._client, self._bucket = client, bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self.location = f"s3://{bucket}/{prefix}".rstrip("/")
        self._lock_days, self._classes, self._tier = lock_days, classes, ""

    def expect_lock(self) -> None:
        """See that the bucket can lock objects, when it is to. :raises ConfigurationError: it cannot."""
        if self._lock_days:
            with self._told(""):
                object_store_lock.expect(self._client, self._bucket)

    def write(self, key: str, source: Path) -> Written:
        """Store a file; above one part in parts, of which each is verified by the server."""
        with source.open("rb") as file:
            return self.write_blocks(key, iter(lambda: file.read(BLOCK), b""), source.stat().st_size)

    def write_blocks(self, key: str, blocks: Iterable[bytes], expected: int = 0) -> Written:
        """Store what comes in blocks; above one part in parts, of which each is verified by the server."""
        parts = _parts(blocks, max(PART, -(-expected // _PARTS)))
        first = next(parts, b"")
        if len(first) < PART:
            return self.write_bytes(key, first)
        return self._write_parts(key, itertools.chain((first,), parts))

    def write_bytes(self, key: str, data: bytes) -> Written:
        """Store a small object."""
        digest = hashlib.sha256(data)
        with self._told(key):
            self._client.put_object(
                Bucket=self._bucket,
                Key=self._key(key),
                Body=data,
                ChecksumSHA256=_base64(digest),
                **self._kept(key),
                **(self._retained() if key.endswith(f"/{MANIFEST}") else {}),
            )
        return Written(len(data), digest.hexdigest())

    @contextmanager
    def read(self, key: str) -> Iterator[Iterator[bytes]]:
        """Open an object as blocks of bytes."""
        with self._told(key):
            body = self._client.get_object(Bucket=self._bucket, Key=self._key(key))["Body"]
            with contextlib.closing(body):
                yield self._blocks(key, body)

    def list(self, prefix: str) -> Iterator[Item]:
        """List the objects whose key begins with `prefix`."""
        for page in self._pages("list_objects_v2", prefix):
            for entry in page.get("Contents", ()):
                yield Item(entry["Key"].removeprefix(self._prefix), entry["Size"], entry["LastModified"])

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; where objects are locked, with all their versions, since those are paid for as well.

        :raises LockedError: an object must be kept until later; it and those behind it are still there.
        """
        for key in keys:
            with self._told(key):
                if self._lock_days:
                    object_store_lock.remove(self._client, self._bucket, self._key(key), f"{self.location}/{key}")
                else:
                    self._client.delete_object(Bucket=self._bucket, Key=self._key(key))

    def now(self) -> datetime:
        """Return the present time by the server's clock."""
        with self._told(""):
            said = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        return parsedate_to_datetime(said["ResponseMetadata"]["HTTPHeaders"]["date"])

    def uploads(self, prefix: str) -> Iterator[Upload]:
        """List unfinished uploads in parts."""
        for page in self._pages("list_multipart_uploads", prefix):
            for entry in page.get("Uploads", ()):
                yield Upload(entry["Key"].removeprefix(self._prefix), entry["UploadId"], entry["Initiated"])

    def abort(self, upload: Upload) -> None:
        """Give an unfinished upload up."""
        with self._told(upload.key):
            self._client.abort_multipart_upload(
                Bucket=self._bucket, Key=self._key(upload.key), UploadId=upload.upload_id
            )

    def name_of(self, sha256: str) -> str:
        """Return the hash."""
        return sha256

    def lock(self, keys: Iterable[str]) -> None:
        """Lock objects for `lock_days` from now on, by the server's clock; a longer lock stays."""
        if not self._lock_days:
            return
        until = self._until()

        def retain(key: str) -> None:
            with self._told(key):
                object_store_lock.retain(self._client, self._bucket, self._key(key), until)

        with ThreadPoolExecutor(_LOCKING, thread_name_prefix="lock") as pool:
            for _ in pool.map(retain, keys):
                pass

    def for_tier(self, tier: str) -> S3Store:
        """Return this store, writing to the storage class of a tier."""
        other = copy.copy(self)
        other._tier = tier
        return other

    def _kept(self, key: str) -> dict[str, str]:
        """Return what an object is to be kept as; manifests and marks are read all the time, so not in an archive."""
        chosen = self._classes.get(self._tier, "")
        return {"StorageClass": chosen} if chosen and key.rsplit("/", 1)[-1] not in CLEAR else {}

    def _retained(self) -> dict[str, Any]:
        if not self._lock_days:
            return {}
        return {"ObjectLockMode": object_store_lock.MODE, "ObjectLockRetainUntilDate": self._until()}

    def _until(self) -> datetime:
        return self.now() + timedelta(days=self._lock_days or 0)

    def _key(self, key: str) -> str:
        return self._prefix + key

    def _pages(self, operation: str, prefix: str) -> Iterator[Any]:
        pages = iter(self._client.get_paginator(operation).paginate(Bucket=self._bucket, Prefix=self._key(prefix)))
        while True:
            with self._told(prefix):
                page = next(pages, None)
            if page is None:
                return
            yield page

    def _write_parts(self, key: str, blocks: Iterator[bytes]) -> Written:
        with self._told(key):
            begun = self._client.create_multipart_upload(
                Bucket=self._bucket, Key=self._key(key), ChecksumAlgorithm="SHA256", **self._kept(key)
            )
        upload = {"Bucket": self._bucket, "Key": self._key(key), "UploadId": begun["UploadId"]}
        try:
            with self._told(key):
                return self._send_parts(upload, blocks)
        except BaseException:
            with contextlib.suppress(Exception):  # the next try sweeps what cannot be aborted now
                self._client.abort_multipart_upload(**upload)
            raise

    def _send_parts(self, upload: dict[str, str], blocks: Iterator[bytes]) -> Written:
        whole, total = hashlib.sha256(), 0
        parts: list[dict[str, Any]] = []
        for block in blocks:
            whole.update(block)
            total += len(block)
            digest = _base64(hashlib.sha256(block))
            number = len(parts) + 1
            sent = self._client.upload_part(**upload, PartNumber=number, Body=block, ChecksumSHA256=digest)
            parts.append({"PartNumber": number, "ETag": sent["ETag"], "ChecksumSHA256": digest})
        self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        return Written(total, whole.hexdigest())

    def _blocks(self, key: str, body: Any) -> Iterator[bytes]:
        with self._told(key):
            while block := body.read(BLOCK):
                yield block

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        """Turn errors of boto3 into errors that say what to do."""
        from botocore import exceptions as boto

        place = f"{self.location}/{key}"
        away = "is the object store up, and may this machine reach it? It is tried again"
        try:
            yield
        except boto.ClientError as error:
            raise _refused(place, dict(error.response.get("Error", {})), away) from error
        except (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, OSError) as error:
            raise TransientError(f"{place}: {error}", away) from error
        except boto.BotoCoreError as error:
            raise ConfigurationError(f"{place}: {error}", "correct the Airflow connection of the store") from error


def _refused(place: str, error: dict[str, Any], away: str) -> UpkeepError:
    code = str(error.get("Code", "unknown"))
    message = f"{place}: {code}: {error.get('Message', '')}"
    if code in _ABSENT:
        return DamagedError(f"{place} is missing", "look at who removed it; make a new backup")
    if code in _WRONG:
        return ConfigurationError(message, _WRONG[code])
    return TransientError(message, away)


def _parts(blocks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Join blocks to parts of `size` bytes; only the last one is shorter."""
    part = bytearray()
    for block in blocks:
        part += block
        while len(part) >= size:
            yield bytes(memoryview(part)[:size])
            del part[:size]
    if part:
        yield bytes(part)


def _base64(digest: Any) -> str:
    return base64.b64encode(digest.digest()).decode()
