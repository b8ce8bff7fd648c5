"""What any source tells the index, as kube-rs names it: apply, delete, and a whole new list.

A new list is `Init`, then an `InitApply` for each object, then `InitDone`: what was there before
and was not among them is gone. Each kind of object has lists of its own. Between `Init` and
`InitDone` nothing is taken away, so a reader never sees less than the truth. A list is of one
namespace, or of all of them (`""`).
"""

import msgspec

from mcsdns.objects.model import Kind, Object


class Init(msgspec.Struct, frozen=True, gc=False):
    """A new list of this kind begins; an unfinished earlier one is void."""

    kind: Kind
    namespace: str = ""


class InitApply(msgspec.Struct, frozen=True, gc=False):
    """An object of the new list."""

    object: Object


class InitDone(msgspec.Struct, frozen=True, gc=False):
    """The new list is complete."""

    kind: Kind
    namespace: str = ""


class Apply(msgspec.Struct, frozen=True, gc=False):
    """An object was added or changed."""

    object: Object


class Delete(msgspec.Struct, frozen=True, gc=False):
    """An object is gone; `key` is its namespace and name."""

    kind: Kind
    key: tuple[str, str]


Event = Init | InitApply | InitDone | Apply | Delete
