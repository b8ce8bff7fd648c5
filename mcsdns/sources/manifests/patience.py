"""When a change is believed: files that are being written are not read, nor are they gone.

No clock and no file here: who looks tells what changed, and when.
"""

from collections.abc import Mapping

import msgspec

from mcsdns.sources.manifests.documents import FileState

Changes = Mapping[str, FileState | None]
"""Path -> state of a file that is new or changed, None of one that is gone."""


class Debounce(msgspec.Struct, frozen=True):
    """How long a change is watched before it is believed, in seconds.

    Attributes:
        still_s: a file is read once it has been still for so long: nobody is writing it.
        gone_s: a file counts as gone after so long: editors and generators write it anew.
        most_s: so long do changes that may be believed wait for those that may not.
        restless_s: a file that is never still is read after so long, as it may be.
        retry_s: so long after a reader died, what it was to read is tried again.
    """

    still_s: float = 0.1
    gone_s: float = 1.0
    most_s: float = 3.0
    restless_s: float = 30.0
    retry_s: float = 60.0


class _Change(msgspec.Struct):
    """A change, since when it is the same, and since when the file is not as it was read."""

    signature: FileState | None
    since: float
    first: float


class Pending:
    """The changes that were seen and are not done yet."""

    def __init__(self, patience: Debounce) -> None:
        self._patience = patience
        self._changes: dict[str, _Change] = {}

    def look(self, changes: Changes, now: float) -> dict[str, FileState | None]:
        """Note what differs now from what was read; return what of it may be believed."""
        before = self._changes
        self._changes = {}
        for path, signature in changes.items():
            change = before.get(path) or _Change(signature, now, now)
            if change.signature != signature:
                change = _Change(signature, now, change.first)
            self._changes[path] = change
        return {
            path: change.signature
            for path, change in self._changes.items()
            if self._may_be_believed(change, now)
        }

    def is_restless(self, path: str, now: float) -> bool:
        """Say whether a file has been changing for so long that it is read as it is."""
        change = self._changes.get(path)
        return change is not None and now - change.first >= self._patience.restless_s

    def done(self, path: str) -> None:
        """Forget a change: the file has been read."""
        self._changes.pop(path, None)

    def _may_be_believed(self, change: _Change, now: float) -> bool:
        if change.signature is None:
            return now - change.since >= self._patience.gone_s
        return (
            now - change.since >= self._patience.still_s
            or now - change.first >= self._patience.restless_s
        )
