"""The objects of the fake API server and how they came about; versions, compaction, restore.

No HTTP here. Objects are plain mappings without `apiVersion` and `kind`, never changed in place.
"""

import copy
from dataclasses import dataclass
from typing import Any

SERVICE_IMPORT = "ServiceImport"
ENDPOINT_SLICE = "EndpointSlice"
FIRST_VERSION = 1000

Plain = dict[str, Any]
Key = tuple[str, str, str]
"""Kind, namespace, name."""


class CompactedError(Exception):
    """The version asked for is below the compaction floor."""


@dataclass(frozen=True)
class Change:
    """One write: what an object was and what it became; None where it was not there."""

    version: int
    key: Key
    before: Plain | None
    after: Plain | None


class History:
    """Objects with a version counter that all kinds share, as etcd has it."""

    def __init__(self) -> None:
        self.version = FIRST_VERSION
        self.floor = FIRST_VERSION
        self._changes: list[Change] = []
        self._base: dict[Key, Plain] = {}
        self._objects: dict[Key, Plain] = {}

    def put(self, thing: Plain) -> Change:
        """Create or replace an object; an equal one is written too, with a new version."""
        stored = copy.deepcopy(thing)
        kind = stored.pop("kind")
        stored.pop("apiVersion", None)
        metadata = stored["metadata"]
        key = (kind, metadata.setdefault("namespace", "default"), metadata["name"])
        return self._write(key, stored)

    def delete(self, key: Key) -> Change | None:
        """Remove an object; None where there is none."""
        return self._write(key, None) if key in self._objects else None

    def objects(self, kind: str, namespace: str = "") -> list[Plain]:
        """The objects as they are now, in the order of lists."""
        found = [
            (path_of(thing), thing)
            for key, thing in self._objects.items()
            if key[0] == kind and namespace in ("", key[1])
        ]
        return [thing for _, thing in sorted(found, key=lambda pair: pair[0])]

    def since(self, version: int) -> list[Change]:
        """The writes after a version.

        Raises:
            CompactedError: the version is below the floor.
        """
        if version < self.floor:
            raise CompactedError
        return [change for change in self._changes if change.version > version]

    def compact(self, floor: int | None = None) -> None:
        """Forget what was before a version (default: the one in force)."""
        self.floor = max(self.floor, self.version if floor is None else floor)

    def forget(self) -> None:
        """Fold what is below the floor into the base, which bounds the memory of long runs."""
        while self._changes and self._changes[0].version <= self.floor:
            change = self._changes.pop(0)
            _step(self._base, change)

    def restore(self, version: int) -> None:
        """Be what it was at a version, the counter too; later writes never happened.

        Raises:
            ValueError: the version was forgotten, or is still to come.
        """
        oldest = self._changes[0].version - 1 if self._changes else self.version
        if not oldest <= version <= self.version:
            raise ValueError(f"version {version} is not in {oldest}..{self.version}")
        self._changes = [change for change in self._changes if change.version <= version]
        self.version = version
        self.floor = min(self.floor, version)
        self._objects = dict(self._base)
        for change in self._changes:
            _step(self._objects, change)

    def _write(self, key: Key, after: Plain | None) -> Change:
        self.version += 1
        if after is not None:
            after["metadata"]["resourceVersion"] = str(self.version)
        change = Change(self.version, key, self._objects.get(key), after)
        self._changes.append(change)
        _step(self._objects, change)
        return change


def path_of(thing: Plain) -> str:
    """Where etcd keeps an object below its kind; lists are in this order."""
    return f"{thing['metadata']['namespace']}/{thing['metadata']['name']}"


def _step(objects: dict[Key, Plain], change: Change) -> None:
    if change.after is None:
        objects.pop(change.key, None)
    else:
        objects[change.key] = change.after
