"""Encrypted objects: they come back as they were, and any change to them is noticed."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upkeep.adapters import encryption
from upkeep.adapters.encrypted_store import EncryptedStore, reading
from upkeep.adapters.encryption import CHUNK, HEADER, TAG, plain_size, seal, sealed_size, unseal
from upkeep.adapters.encryption_keys import Keys, keys_of, naming_of
from upkeep.adapters.object_store import FolderStore, read_bytes
from upkeep.core.errors import ConfigurationError, DamagedError, NoKeyError

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
KEYS = Keys("2026-01", {"2026-01": OLD}, None, "connection 'k'")
NAME = "shop/db/20260101T000000Z-00000000/1.dat"
BORDERS = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 3 * CHUNK]


def text(key: bytes) -> str:
    return base64.b64encode(key).decode()


def sealed(data: bytes, name: str = NAME, keys: Keys = KEYS) -> bytes:
    return b"".join(seal(keys, name, (data,)))


def unsealed(data: bytes, name: str = NAME, keys: Keys = KEYS) -> bytes:
    return b"".join(unseal(keys, name, (data,), "s3://b/x"))


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[n : n + size] for n in range(0, len(data), size)]


@given(
    size=st.one_of(st.sampled_from(BORDERS), st.integers(0, 3 * CHUNK)),
    written=st.integers(1, 2 * CHUNK),
    read=st.integers(1, 2 * CHUNK),
)
@settings(max_examples=60, deadline=None)
def test_what_goes_in_comes_out(size: int, written: int, read: int) -> None:
    """Whatever the size and however it is cut into blocks; sizes can be told without a key."""
    data = os.urandom(size)
    whole = b"".join(seal(KEYS, NAME, pieces(data, max(written, size // 500 + 1))))
    assert b"".join(unseal(KEYS, NAME, pieces(whole, max(read, size // 500 + 1)), "x")) == data
    assert (len(whole), plain_size(len(whole))) == (sealed_size(size), size)


def test_every_flipped_bit_is_noticed() -> None:
    """In the header, in the content and in the proof: one bit, and the object is damaged."""
    whole = sealed(b"a small object")
    for bit in range(len(whole) * 8):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedError, match="s3://b/x"):
            unsealed(bytes(changed))


@pytest.mark.parametrize("size", [5, CHUNK, 3 * CHUNK, 3 * CHUNK + 7])
def test_truncation_is_noticed(size: int) -> None:
    """At the borders of chunks, right beside them, and in the header."""
    whole = sealed(os.urandom(size))
    borders = [HEADER + n * (CHUNK + TAG) for n in range(5)]
    cuts = {0, 1, HEADER - 1, len(whole) - 1, len(whole) - TAG, *(b + d for b in borders for d in (-1, 0, 1))}
    for cut in sorted(c for c in cuts if c < len(whole)):
        with pytest.raises(DamagedError):
            unsealed(whole[:cut])


def test_chunks_moved_repeated_or_added_are_noticed() -> None:
    """Whole chunks, each in itself true, only prove true in their own place of their own object."""
    head, *chunks = [(w := sealed(os.urandom(3 * CHUNK)))[:HEADER], *pieces(w[HEADER:], CHUNK + TAG)]
    other = pieces(sealed(os.urandom(3 * CHUNK))[HEADER:], CHUNK + TAG)
    first, second, third = chunks
    for wrong in (
        (second, first, third), (first, first, second, third), (first, third), (first, second, third, third),
        (first, other[1], third), (first, second, third, b"x"), (third,), (first, second, third, other[2]),
    ):  # fmt: skip
        with pytest.raises(DamagedError):
            unsealed(head + b"".join(wrong))


def test_swapped_objects_are_noticed() -> None:
    """An object that lies under the name of another one is not read."""
    with pytest.raises(DamagedError, match="another name"):
        unsealed(sealed(b"one"), name=NAME.replace("1.dat", "2.dat"))


def test_equal_contents_look_different() -> None:
    """Nobody can tell from outside that two objects, or two versions of one, hold the same."""
    first, second = sealed(b"x" * 1000), sealed(b"x" * 1000)
    assert not set(pieces(first[HEADER - 40 :], 16)) & set(pieces(second[HEADER - 40 :], 16))


def test_a_wrong_key_is_no_damage() -> None:
    """An unknown key, and another key under the same id: told as such, since the backup may be perfect."""
    with pytest.raises(NoKeyError, match=r"was made with key 2026-01; connection 'n' knows 2027-01"):
        unsealed(sealed(b"x"), keys=Keys("2027-01", {"2027-01": NEW}, None, "connection 'n'"))
    with pytest.raises(NoKeyError, match="is not the one that it was made with"):
        unsealed(sealed(b"x"), keys=Keys("2026-01", {"2026-01": NEW}, None, "connection 'n'"))


def test_rotation() -> None:
    """The current key encrypts, every key decrypts; names stay as they were."""
    naming = naming_of(OLD)
    both = Keys("2027-01", {"2026-01": OLD, "2027-01": NEW}, naming, "k")
    assert unsealed(sealed(b"x"), keys=both) == b"x"
    with pytest.raises(ConfigurationError):
        unsealed(sealed(b"x", keys=both))
    last = Keys("2027-01", {"2027-01": NEW}, naming, "k")
    assert KEYS.name_of("ab") == both.name_of("ab") == last.name_of("ab") != KEYS.name_of("ac")
    with pytest.raises(ConfigurationError, match="no `naming`"):
        Keys("2027-01", {"2026-01": OLD, "2027-01": NEW}, None, "k").name_of("ab")


@pytest.mark.parametrize(
    ("login", "password", "extra", "said"),
    [
        ("a", text(OLD[:16]), {}, "key a has 16 bytes, expected 32"),
        ("a", "!" * 44, {}, "key a is not base64"),
        ("a", None, {"keys": {"a": 7}}, "key a is not base64"),
        ("a", None, {}, "holds no key"),
        ("a", None, {"keys": "x"}, "`keys` in extra is no object"),
        ("b", None, {"keys": {"a": text(OLD)}}, "current key is to be b, and there are a"),
        (None, None, {"keys": {"a": text(OLD)}}, "the one that login names"),
        (None, text(OLD), {}, "no id for it"),
        ("a", text(OLD), {"keys": {"a": text(NEW)}}, "two different keys a"),
        ("a/b", text(OLD), {}, "is no id of a key"),
        ("a", text(OLD), {"naming": "x"}, "naming is not base64"),
    ],
)
def test_wrong_keys_are_told_and_not_shown(login: str | None, password: str | None, extra: dict, said: str) -> None:
    """The message says exactly what is wrong, and holds nothing of the key."""
    with pytest.raises(ConfigurationError) as caught:
        keys_of(login, password, extra, "connection 'k'")
    told = str(caught.value)
    assert said in told
    assert not any(secret[:8] in told for secret in (text(OLD), text(NEW), "!" * 44))


def test_keys_in_password_and_extra() -> None:
    """One key in the password, several in extra, or both; plain base64 or the URL-safe one."""
    safe = base64.urlsafe_b64encode(b"\xff" * 32).decode()
    keys = keys_of("b", safe, {"keys": {"a": text(OLD)}}, "k")
    assert (keys.current, keys.ids, keys.key("b", "")) == ("b", ("a", "b"), b"\xff" * 32)
    assert text(OLD) not in repr(keys)


def test_the_store_shows_sizes_and_hashes_of_the_plain_content(tmp_path: Path) -> None:
    """And keeps nothing readable but what is exempt; several blocks, one block, a file or bytes are all the same."""
    inner = FolderStore(tmp_path / "s")
    store = EncryptedStore(inner, KEYS)
    (file := tmp_path / "f").write_bytes(data := b"secret content " * 10_000)
    seen = {store.write("a/1", file), store.write_bytes("a/2", data), store.write_blocks("a/3", pieces(data, 777))}
    assert seen == {inner.write("a/plain", file)}
    inner.delete(["a/plain"])
    assert {i.size for i in store.list("a/")} == {len(data)}
    assert all(read_bytes(store, f"a/{n}") == data for n in (1, 2, 3))
    assert not any(b"secret" in p.read_bytes() for p in (tmp_path / "s").rglob("*") if p.is_file())
    for name in encryption.CLEAR:
        store.write_bytes(f"a/{name}", b"{}")
        assert read_bytes(inner, f"a/{name}") == read_bytes(store, f"a/{name}") == b"{}"
    assert store.name_of("ab") != "ab" == inner.name_of("ab")
    assert (store.key_id, inner.key_id) == ("2026-01", "")


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    """What breaks off while it is encrypted does not appear."""

    def broken():
        yield b"x" * CHUNK * 3
        raise ConfigurationError("broken")

    store = EncryptedStore(FolderStore(tmp_path), KEYS)
    with pytest.raises(ConfigurationError):
        store.write_blocks("a/1", broken())
    assert list(store.list("a/")) == []


def test_a_folder_is_decrypted_by_hand(tmp_path: Path) -> None:
    """Without Airflow, with the key from a file and names found from the path; what is exempt is copied."""
    store = EncryptedStore(FolderStore(tmp_path / "s"), KEYS)
    store.write_bytes(NAME, b"x" * 200_000)
    store.write_bytes(f"{NAME[:-5]}manifest.json", b"{}")
    (key := tmp_path / "key").write_text(json.dumps({"keys": {"2026-01": text(OLD)}}))
    code = "import sys; sys.modules['airflow'] = None; from upkeep.adapters.encryption import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "decrypt", "--key-file", key, tmp_path / "s" / NAME[:-6], tmp_path / "o"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": "plugins"})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "o/1.dat").read_bytes() == b"x" * 200_000
    assert (tmp_path / "o/manifest.json").read_bytes() == b"{}"


def by_hand(*arguments: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = encryption.main([str(a) for a in arguments])
    return code, out.getvalue(), err.getvalue()


def test_by_hand_damage_leaves_no_file(tmp_path: Path) -> None:
    """An object that breaks off gives an error that names it, and no file; a name may be given."""
    (tmp_path / "key").write_text(f"2026-01 {text(OLD)}\n")
    (tmp_path / "x").write_bytes(sealed(os.urandom(3 * CHUNK)))
    (tmp_path / "cut").write_bytes((tmp_path / "x").read_bytes()[:-9])
    assert by_hand("decrypt", "--key-file", tmp_path / "key", "--name", NAME, tmp_path / "x", tmp_path / "o")[0] == 0
    for more in (("--name", NAME), ()):
        code, _, said = by_hand("decrypt", "--key-file", tmp_path / "key", *more, tmp_path / "cut", tmp_path / "p")
        assert (code, str(tmp_path / "cut") in said) == (1, True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut", "key", "o", "x"]


def test_the_naming_secret_by_hand(tmp_path: Path) -> None:
    """What `naming` writes is what a single key gives by itself."""
    (tmp_path / "key").write_text(f"2026-01 {text(OLD)}\n")
    code, out, _ = by_hand("naming", "--key-file", tmp_path / "key", "--key-id", "2026-01")
    rotated = keys_of("b", text(NEW), {"keys": {"2026-01": text(OLD)}, "naming": out.strip()}, "k")
    assert (code, rotated.name_of("ab")) == (0, KEYS.name_of("ab"))


def test_reading_goes_by_the_manifest(tmp_path: Path) -> None:
    """A backup of before encryption is read as it is; one whose key is not at hand is refused, not called damaged."""
    plain = FolderStore(tmp_path)
    store = EncryptedStore(plain, KEYS)
    manifest = type("M", (), {"key_id": "", "id": "i", "target": "shop/db"})()
    assert (reading(store, manifest), reading(plain, manifest)) == (plain, plain)
    manifest.key_id = "2026-01"
    assert reading(store, manifest) is store
    with pytest.raises(NoKeyError, match="names no keys"):
        reading(plain, manifest)
    manifest.key_id = "2025-01"
    with pytest.raises(NoKeyError, match=r"backup i of shop/db in .* was made with key 2025-01; .* 2026-01"):
        reading(store, manifest)
