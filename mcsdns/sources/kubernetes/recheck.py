"""Finds what a watch missed: a list beside the watch, compared with what is known; no I/O.

A watch can leave events out without a word: after an API server or etcd was formed anew, or where a
storage was restored and grew past the version that we watch from. No 410 tells of it, and nobody
would look again. So a list is read now and then while the watch goes on, and what it shows is
compared by resource versions, in the order of what happened:

    begin ---- list of version L is read ---- settle ----------> the watch passes L: over
       keys that the watch tells of are "told"    | lines up to L of other keys are old

- The list is consistent, so it is newer than all that the watch had told before the list began. For
  a key that is not told since, the list is right, whatever is known: a version that differs is
  taken, a key that it lacks is gone.
- Of a key that is told meanwhile the watch may know more than the list: it wins. What was missed of
  it is found by the next list.
- A line that comes after `settle` about a version up to L tells what the list has shown already, or
  what was over by then: it is passed over, or it would undo the list. Versions are numbers that
  grow (KEP-5504); where they are none, only the same version counts as old.
- A list of a version below what was known at its begin is from a server that lags, or a storage
  that was restored. The reflector finds out (`Compare`); here it proves nothing.
"""

import msgspec

from mcsdns.objects.events import Apply, Delete
from mcsdns.objects.model import Kind, Object
from mcsdns.objects.store import ObjectKey
from mcsdns.sources.kubernetes.reflector import Gone, Shown, goes_back


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot.

    Attributes:
        done: lists that were compared. put_off: those that had to wait, or broke off.
        found: objects that a watch had missed.
    """

    done: int = 0
    put_off: int = 0
    found: int = 0


class Recheck:
    """One list beside a watch.

    Attributes:
        is_sent: whether all that it found was sent.
    """

    def __init__(self, kind: Kind, known: dict[ObjectKey, str], version: str) -> None:
        """Begin: so much is known, by key and version, up to a version of the whole."""
        self._kind = kind
        self._known = known
        self._version = version
        self._unseen = set(known)
        self._told: set[ObjectKey] = set()
        self._differing: dict[ObjectKey, tuple[str, Object | None]] = {}
        self._settled = ""
        self.is_sent = False

    def tell(self, message: Shown | Gone) -> bool:
        """Take a line of the watch; returns whether it is old, so that it is passed over."""
        version, settled = message.resource_version, self._settled
        is_old = version == settled or goes_back(settled, version)
        if settled and is_old and message.key not in self._told:
            return True
        self._told.add(message.key)
        return False

    def see(self, shown: Shown) -> None:
        """Take an object of the list."""
        self._unseen.discard(shown.key)
        if self._known.get(shown.key) != shown.resource_version:
            self._differing[shown.key] = (shown.resource_version, shown.object)

    def is_told(self, key: ObjectKey) -> bool:
        """Returns whether the watch told of a key since the list began, and so outranks it."""
        return key in self._told

    def settle(self, version: str) -> list[Apply | Delete]:
        """End the list, which is of this version; return what the watch missed.

        Between sending two of them the watch may go on: what `is_told` then is not to be sent.
        """
        if not version or goes_back(self._version, version):
            self._differing.clear()
            return []
        self._settled = version
        events: list[Apply | Delete] = []
        for key, (its_version, thing) in self._differing.items():
            if key not in self._told:
                known = self._known.get(key)
                self._known[key] = its_version
                if thing is not None:
                    events.append(Apply(thing))
                elif known is not None:
                    events.append(Delete(self._kind, key))
        gone = [key for key in self._unseen - self._told if self._known.pop(key, None) is not None]
        events += [Delete(self._kind, key) for key in gone]
        self._differing.clear()
        self._unseen.clear()
        return events

    def is_over(self, version: str) -> bool:
        """Returns whether a watch that tells of this version brings nothing old any more."""
        return self.is_sent and (version == self._settled or goes_back(version, self._settled))
