"""The list of a backed up tree, in the store: writing it, reading it, and which objects it needs.

Objects lie beside the backups of their series, `<series>/objects/<first two>/<name>`, once for all of them. The name
is `Store.name_of` the SHA-256 of what is stored: a store that encrypts has names of its own, for a hash of the plain
content tells whoever holds the same file that it is here.
"""

from __future__ import annotations

import gzip
import hashlib
import io
from collections.abc import Iterable

from upkeep.adapters import encrypted_store
from upkeep.adapters.object_store import Store, read_bytes
from upkeep.core.backup import FileEntry, TreeManifest
from upkeep.core.errors import DamagedError
from upkeep.core.tree import LIST, OBJECTS, Entry, read_list, write_list

# A million files take about 100 MB of list.
_LIMIT = 2 << 30


def key_of(series: str, name: str) -> str:
    """Return the key of an object."""
    return f"{series}/{OBJECTS}/{name[:2]}/{name}"


def series_of(prefix: str) -> str:
    """Return the series of a backup's prefix, `<series>/<backup id>`."""
    return prefix.rsplit("/", 1)[0]


def write(store: Store, prefix: str, base: str, entries: Iterable[Entry]) -> FileEntry:
    """Store the list of a backup."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=0) as file:
        file.writelines(write_list(base, entries))
    written = store.write_bytes(f"{prefix}/{LIST}", packed.getvalue())
    return FileEntry(name=LIST, size=written.size, sha256=written.sha256)


def read(store: Store, manifest: TreeManifest, prefix: str) -> tuple[str, list[Entry]]:
    """Read the list of a backup: its base and its entries.

    :raises DamagedError: it is missing or is not what the manifest says.
    :raises ConfigurationError: it is encrypted and the key is not at hand.
    """
    place, store = f"{store.location}/{prefix}/{LIST}", encrypted_store.reading(store, manifest)
    said = next((f for f in manifest.files if f.name == LIST), None)
    data = read_bytes(store, f"{prefix}/{LIST}", _LIMIT)
    if said is None or (len(data), hashlib.sha256(data).hexdigest()) != (said.size, said.sha256):
        raise DamagedError(f"{place} is not the list that the manifest names", "make a new backup")
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            return read_list(file, place)
    except (OSError, EOFError) as error:
        raise DamagedError(f"{place} cannot be unpacked: {error}", "make a new backup") from None


def objects(entries: Iterable[Entry]) -> set[str]:
    """Return the names of the objects that entries need."""
    return {entry.object for entry in entries if entry.object}


def contents(store: Store, manifest: TreeManifest, prefix: str) -> set[str]:
    """Return the keys of the objects that a backup needs, beside what lies in its own folder.

    :param prefix: `<series>/<backup id>`.
    :raises DamagedError, ConfigurationError: the list cannot be read: it is not known, and nothing may be removed.
    """
    series = series_of(prefix)
    return {key_of(series, name) for name in objects(read(store, manifest, prefix)[1])}
