"""Encrypting objects before they leave the worker, and decrypting them, without Airflow if need be.

By hand: `python -m upkeep.adapters.encryption decrypt --key-file FILE IN OUT`; see docs/guide.md.

The form of an object: a header of `HEADER` bytes (magic and version, id of the key, check of the key, salt, checksum),
then chunks of `CHUNK` bytes, each sealed by AES-256-GCM and followed by its 16 bytes of proof. It is the STREAM
construction (Hoang, Reyhanitabar, Rogaway, Vizar: "Online Authenticated-Encryption and its Nonce-Reuse Misuse-
Resistance", 2015): the nonce of a chunk is its number and a flag that only the last one has, so that
chunks that were changed, moved, repeated, taken away or appended are noticed. Every object has a key of its own, made
by HKDF-SHA256 (RFC 5869) from the site's key, a random salt, the key's id and the object's name: an object under
another's name cannot be read either.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import os
import secrets
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from upkeep.adapters.encryption_keys import Keys, derived, keys_of, naming_of
from upkeep.core.errors import ConfigurationError, DamagedError, NoKeyError, UpkeepError

MAGIC = b"upkeepE\x01"
CHUNK = 64 << 10
TAG = 16
HEADER = 128
# Read before any key is at hand: the catalogue is rebuilt from manifests, and leftovers are told by their marks.
CLEAR = frozenset({"manifest.json", "started.json", "removed.json"})
_DAMAGED = "it is not what was written; verify the other backups, then look at the store"


class Head(NamedTuple):
    """What the header of an object says."""

    key_id: str
    check: bytes
    salt: bytes


def plain_size(size: int) -> int:
    """Return the bytes before encryption of an object of `size` bytes.

    >>> [plain_size(HEADER + n) for n in (TAG, TAG + 5, CHUNK + TAG, CHUNK + TAG + TAG + 1)]
    [0, 5, 65536, 65537]
    """
    body = size - HEADER
    return body - TAG * -(-body // (CHUNK + TAG)) if body >= TAG else size


def sealed_size(size: int) -> int:
    """Return the bytes of an object that holds `size` bytes encrypted."""
    return HEADER + size + TAG * max(1, -(-size // CHUNK))


def seal(keys: Keys, name: str, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Encrypt blocks of any sizes under the current key; `name` is the object's key in the store."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key, salt = keys.key(keys.current, name), secrets.token_bytes(32)
    head = MAGIC + keys.current.encode().ljust(64, b"\0") + _check(key) + salt
    yield head + _checksum(head)
    cipher = AESGCM(_object_key(key, salt, keys.current, name))
    for number, (chunk, last) in enumerate(_told_last(_chunks(blocks, CHUNK))):
        yield cipher.encrypt(_nonce(number, last), chunk, None)


def unseal(keys: Keys, name: str, blocks: Iterable[bytes], place: str) -> Iterator[bytes]:
    """Decrypt what `seal` made; every block that comes out was proved to be in its place.

    That nothing is missing at the end is known when the last block has come, so what came out is whole only then.

    :param place: the object, for messages.
    :raises DamagedError: it is not what was written, or not under this name.
    :raises NoKeyError: its key is not known, or is another one under the same id.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    source = iter(blocks)
    start, rest = _start(source)
    head = head_of(start, place)
    key = keys.key(head.key_id, place)
    if not hmac.compare_digest(_check(key), head.check):
        raise NoKeyError(
            f"{place}: the key {head.key_id} of {keys.place} is not the one that it was made with",
            "two keys have the same id: put the former one back, and give the newer one another id",
        )
    cipher = AESGCM(_object_key(key, head.salt, head.key_id, name))
    chunks = _chunks((piece for part in ((rest,), source) for piece in part), CHUNK + TAG)
    for number, (chunk, last) in enumerate(_told_last(chunks)):
        try:
            yield cipher.decrypt(_nonce(number, last), chunk, None)
        except (InvalidTag, ValueError):
            raise DamagedError(
                f"{place} is damaged, cut off, or belongs under another name: block {number} from byte"
                f" {HEADER + number * (CHUNK + TAG)} on does not prove true",
                _DAMAGED,
            ) from None


def head_of(start: bytes, place: str) -> Head:
    """Read the header of an object. :raises DamagedError: it is none, or damaged."""
    if len(start) < HEADER:
        raise DamagedError(f"{place} has {len(start)} bytes, an encrypted object at least {HEADER + TAG}", _DAMAGED)
    head, checksum = start[: HEADER - 8], start[HEADER - 8 : HEADER]
    if _checksum(head) != checksum:
        seen = "its header is damaged" if head.startswith(MAGIC[:7]) else "it does not begin as one"
        raise DamagedError(f"{place} is not an encrypted object: {seen}", _DAMAGED)
    if not head.startswith(MAGIC):
        raise ConfigurationError(
            f"{place} has version {head[7]} of the encrypted form, expected {MAGIC[7]}", "use a newer upkeep"
        )
    return Head(head[8:72].rstrip(b"\0").decode("ascii", "replace"), head[72:88], head[88:120])


def _object_key(key: bytes, salt: bytes, key_id: str, name: str) -> bytes:
    # The id cannot hold the zero byte that ends it, so no two pairs of id and name give the same text.
    return derived(key, salt, b"upkeep object/1\0" + key_id.encode() + b"\0" + name.encode("utf-8", "surrogateescape"))


def _check(key: bytes) -> bytes:
    """Return what tells a wrong key from a damaged object."""
    return derived(key, b"", b"upkeep check/1")[:16]


def _checksum(head: bytes) -> bytes:
    """Return what tells a damaged header from one that names an unknown key; no protection against intent."""
    return hashlib.sha256(head).digest()[:8]


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11) + bytes([last])


def _chunks(blocks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Cut blocks into pieces of `size` bytes, the last one shorter; nothing gives one empty piece."""
    kept, given = bytearray(), False
    for block in blocks:
        kept += block
        whole = len(kept) - len(kept) % size
        for begin in range(0, whole, size):
            yield bytes(memoryview(kept)[begin : begin + size])
            given = True
        del kept[:whole]
    if kept or not given:
        yield bytes(kept)


def _told_last(chunks: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    held = next(chunks)
    for chunk in chunks:
        yield held, False
        held = chunk
    yield held, True


def _start(source: Iterator[bytes]) -> tuple[bytes, bytes]:
    """Read the header's bytes, and return what was read beyond them as well."""
    start = bytearray()
    while len(start) < HEADER and (block := next(source, None)) is not None:
        start += block
    return bytes(start[:HEADER]), bytes(start[HEADER:])


# -- by hand -----------------------------------------------------------------------------------------------------------


def keys_of_file(path: Path) -> Keys:
    """Read a key file: `{"keys": {"<id>": "<base64>", ...}}`, as in the connection's extra, or a line `<id> <base64>`.

    :raises ConfigurationError: what is wrong.
    """
    place = f"key file {path}"
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{place}: {type(error).__name__}", "name a text file that can be read") from None
    if text.startswith("{"):
        try:
            given = json.loads(text)
        except ValueError:
            raise ConfigurationError(f"{place} begins as JSON and is none", _FILE) from None
    else:
        given = {"keys": dict(line.split() for line in text.splitlines() if len(line.split()) == 2)}
    if not isinstance(given, dict) or not isinstance(given.get("keys"), dict) or not given["keys"]:
        raise ConfigurationError(f"{place} holds no key", _FILE)
    return keys_of(min(given["keys"]), None, given, place)


_FILE = 'write {"keys": {"2026-01": "<base64>"}}, or a line with id and key'


def decrypt_file(keys: Keys, source: Path, target: Path, name: str = "") -> str:
    """Decrypt one downloaded object; the file appears under its name only when it has proved whole.

    :param name: the object's key below the store's url; empty: found by trying the ends of the file's path.
    :return: the key under which it could be read.
    """
    found = name or _name_of(keys, source)
    part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            source.open("rb") as file,
            os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out,
        ):
            for block in unseal(keys, found, iter(lambda: file.read(1 << 20), b""), str(source)):
                out.write(block)
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)
    return found


def _name_of(keys: Keys, source: Path) -> str:
    """Find the object's key: the end of the path for which the first chunk proves true."""
    parts, failed = source.resolve().parts[1:], DamagedError("", "")
    with source.open("rb") as file:
        start = file.read(HEADER + 2 * (CHUNK + TAG))
    for begin in reversed(range(len(parts))):
        name = "/".join(parts[begin:])
        try:
            next(unseal(keys, name, (start,), str(source)))
        except DamagedError as error:
            failed = error
            continue
        return name
    raise DamagedError(
        failed.message,
        "let the path end as the object's key does (<system>/<target>/<backup>/<file>), or give --name;"
        " if it does, the object is damaged",
    )


def _decrypt(keys: Keys, source: Path, target: Path, name: str) -> None:
    """Decrypt a file or everything in a folder; what is never encrypted is copied."""
    whole = source.is_dir()
    for path in sorted(p for p in source.rglob("*") if p.is_file()) if whole else [source]:
        to = target / path.relative_to(source) if whole else target
        if path.name in CLEAR:
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(path.read_bytes())
        else:
            decrypt_file(keys, path, to, name)
        sys.stdout.write(f"{path} -> {to}\n")


def main(arguments: list[str] | None = None) -> int:
    """Decrypt downloaded objects, or derive the naming secret; the key is read from a file, never an argument."""
    parser = argparse.ArgumentParser(prog="python -m upkeep.adapters.encryption", description=main.__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    decrypt = verbs.add_parser("decrypt", help="decrypt a file, or every file of a folder")
    decrypt.add_argument(
        "--name", default="", help="the object's key below the store's url, when the path does not tell"
    )
    decrypt.add_argument("source", type=Path, metavar="IN")
    decrypt.add_argument("target", type=Path, metavar="OUT")
    naming = verbs.add_parser("naming", help="write the naming secret that derives from a key")
    naming.add_argument("--key-id", required=True)
    for verb in (decrypt, naming):
        verb.add_argument("--key-file", type=Path, required=True, help=_FILE)
    given = parser.parse_args(arguments)
    try:
        keys = keys_of_file(given.key_file)
        if given.verb == "naming":
            sys.stdout.write(base64.b64encode(naming_of(keys.key(given.key_id, "the naming secret"))).decode() + "\n")
        else:
            _decrypt(keys, given.source, given.target, given.name)
    except (UpkeepError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
