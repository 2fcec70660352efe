"""The keys by which backups are encrypted: an Airflow connection or a file holds them, see docs/guide.md."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import Any

from upkeep.core.errors import ConfigurationError, NoKeyError

_KEY = 32
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Keys:
    """The keys of a store: the current one encrypts, every one decrypts.

    :param current: the id of the key that encrypts.
    :param keys: 32 bytes by id.
    :param naming: the secret by which objects get names; None: it is derived from the only key.
    :param place: where the keys come from, for messages.
    """

    def __init__(self, current: str, keys: dict[str, bytes], naming: bytes | None, place: str) -> None:
        self.current, self.ids, self.place = current, tuple(sorted(keys)), place
        self._keys, self._naming = keys, naming

    def __repr__(self) -> str:
        return f"Keys({self.place}: {', '.join(self.ids)})"

    def key(self, key_id: str, place: str) -> bytes:
        """Return a key.

        :param place: what was made with it, for messages.
        :raises NoKeyError: it is not known.
        """
        if key_id not in self._keys:
            raise NoKeyError(
                f"{place} was made with key {key_id}; {self.place} knows {', '.join(self.ids)}",
                f'add the key to the connection again (extra: {{"keys": {{"{key_id}": "<base64>"}}}}): a key may go'
                " only when no backup on record has its id",
            )
        return self._keys[key_id]

    def name_of(self, sha256: str) -> str:
        """Return the name of the object with this content: the same for ever, and telling nothing of the content.

        It must outlive every single key, since objects are looked for by their names: while there is one key, the
        secret behind it derives from that; with several, it has to be stated.

        :raises ConfigurationError: there are several keys and no naming secret.
        """
        if self._naming is None and len(self._keys) > 1:
            raise ConfigurationError(
                f"{self.place} has {len(self._keys)} keys and no `naming`; objects that are kept once for all backups"
                " are found by names that must not change with the key",
                "put the keys of before into a file, run `python -m upkeep.adapters.encryption naming --key-file FILE"
                ' --key-id <id of the first key>` and add what it writes to extra: {"naming": "..."}',
            )
        secret = self._naming or naming_of(self._keys[self.current])
        return hmac.new(secret, sha256.encode(), hashlib.sha256).hexdigest()


def naming_of(key: bytes) -> bytes:
    """Return the naming secret that derives from a key; the key cannot be computed from it."""
    return derived(key, b"", b"upkeep naming/1")


def keys_of(login: str | None, password: str | None, extra: dict[str, Any], place: str) -> Keys:
    """Read keys as an Airflow connection holds them; see docs/guide.md.

    :raises ConfigurationError: what is wrong, without showing it.
    """
    given = extra.get("keys", {})
    if not isinstance(given, dict):
        raise ConfigurationError(f"{place}: `keys` in extra is no object", _cure("keys"))
    if login and password and given.get(login, password) != password:
        raise ConfigurationError(
            f"{place}: password and extra give two different keys {login}", "keep the one that made the backups"
        )
    if password and not login:
        raise ConfigurationError(f"{place} has a key and no id for it", "write the id, such as 2026-01, into login")
    texts = {**given, **({login: password} if login and password else {})}
    if not texts:
        raise ConfigurationError(f"{place} holds no key", _cure("password"))
    if not login or login not in texts:
        raise ConfigurationError(
            f"{place}: the current key is to be {login or 'the one that login names'}, and there are"
            f" {', '.join(sorted(map(str, texts)))}",
            "write the id of the key that encrypts from now on into login",
        )
    keys = {_checked_id(name, place): key_bytes(text, f"{place}: key {name}") for name, text in texts.items()}
    naming = key_bytes(extra["naming"], f"{place}: naming") if extra.get("naming") else None
    return Keys(login, keys, naming, place)


def key_bytes(text: object, place: str) -> bytes:
    """Return the 32 bytes behind base64 text (plain or URL-safe).

    :raises ConfigurationError: it is no base64, or another number of bytes.
    """
    try:
        if not isinstance(text, str):
            raise TypeError
        key = base64.b64decode(text.strip().translate(str.maketrans("-_", "+/")), validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise ConfigurationError(f"{place} is not base64", _cure("the key")) from None
    if len(key) != _KEY:
        raise ConfigurationError(f"{place} has {len(key)} bytes, expected {_KEY}", _cure("the key"))
    return key


def derived(key: bytes, salt: bytes, info: bytes) -> bytes:
    """Return 32 bytes made of a key by HKDF-SHA256 (RFC 5869)."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), _KEY, salt, info).derive(key)


def _checked_id(name: object, place: str) -> str:
    if not isinstance(name, str) or not _ID.fullmatch(name):
        raise ConfigurationError(
            f"{place}: {name!r} is no id of a key", "use up to 64 letters, digits, dots, hyphens, underscores"
        )
    return name


def _cure(where: str) -> str:
    return f"write 32 random bytes as base64 into {where}: `openssl rand -base64 32`, and keep a copy in a safe place"
