"""Lists in pages: all of one list show the objects as its first page saw them."""

from tests.scripted import wire
from tests.scripted.asked import Asked
from tests.scripted.faults import PAGE, Action, EmptyList, ExpirePage
from tests.scripted.history import History, Plain, path_of
from tests.scripted.wire import View

_MAX_SNAPSHOTS = 64


class Pages:
    """The lists whose `continue` tokens are out."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._snapshots: dict[tuple[str, int], list[Plain]] = {}

    def expire(self, floor: int | None = None) -> None:
        """Forget the lists below a version; none given: all."""
        kept = {} if floor is None else self._snapshots
        self._snapshots = {key: items for key, items in kept.items() if key[1] >= (floor or 0)}

    def page(self, query: Asked, action: Action | None) -> Plain:
        """One page of a list, or the Status that it gets instead."""
        view, wanted, current = query.view, query.resource_version, self._history.version
        if wanted > current:
            return wire.too_large(wanted, current, 1)
        version, start = current, ""
        if query.nature == PAGE:
            version, start = wire.decode_token(query.query["continue"])
        items = self._items_at(view.kind, version, is_first=not start)
        if items is None or isinstance(action, ExpirePage):
            return wire.expired_page(start)
        shown = [] if isinstance(action, EmptyList) else items
        rest = [item for item in shown if path_of(item) >= start and view.selects(item)]
        limit = 0 if query.takes_any_version else int(query.query.get("limit") or 0)
        return _cut(view, version if version > 0 else current, rest, limit)

    def _items_at(self, kind: str, version: int, *, is_first: bool) -> list[Plain] | None:
        """All objects of a kind as a list first saw them; None where that is forgotten."""
        if version < 0:
            return self._history.objects(kind)  # the inconsistent rest that a 410 offers
        if is_first:
            self._snapshots[kind, version] = self._history.objects(kind)
        while len(self._snapshots) > _MAX_SNAPSHOTS:
            del self._snapshots[next(iter(self._snapshots))]
        return self._snapshots.get((kind, version))


def _cut(view: View, version: int, items: list[Plain], limit: int) -> Plain:
    """The first `limit` items, with the token for the rest."""
    metadata: Plain = {"resourceVersion": str(version)}
    if limit and len(items) > limit:
        metadata["continue"] = wire.encode_token(version, path_of(items[limit - 1]) + "\0")
        if not view.is_selective:
            metadata["remainingItemCount"] = len(items) - limit
        items = items[:limit]
    return wire.list_of(view.kind, view.api_version, items, metadata)
