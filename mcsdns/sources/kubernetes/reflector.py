"""The list/watch state machine of one resource, as a table; no input, no output, no clock.

`start` and `receive` return what happened (`events`, for the store) and what to ask the API server
next (`request`; None: go on reading what it sends). Who drives it keeps the time, waits where
`pause` says so, and drops the rest of a response as soon as there is a next request: so lines of an
abandoned watch never count.

    ┌─> STREAMING ──(end bookmark)──> WATCHING ──(410, versions go back)──> a new list
    │       └─(422, broken, no end)─> PAGING ──(last page)──> WATCHING
    └─ start                              any of them ──(404)──> IDLE, discover

Why each step is safe:

- A list begins with `Init` and ends with `InitDone`; what the store has and the list did not show
  goes at its end and not before. Whatever interrupts a list makes a new `Init`, which voids the old
  one, except that a page is asked for again with the same token: all pages of a token are of one
  resource version.
- The resource version is that of the last list, line or bookmark. A bookmark sends no object; it
  only moves the version on, so that a watch of a quiet resource does not grow too old.
- A watch that ends or breaks goes on from that version. If the API server does not have it any more
  it says 410, and only list-then-replace is safe: a watch cannot say what was deleted meanwhile.
  The 410 of a page offers a token too, which continues a list of mixed versions: it is not used.
- Versions that go back are a storage restored from a backup. A watch from a version that it never
  had would be silent for its whole time, so `Compare` asks for the newest version before each watch
  that goes on, and every line and bookmark is compared with the last one.
- 404 says nothing about objects: the CRD is gone, or another API version serves it. Nothing is
  deleted; `Discover` finds out.

Source: Kubernetes API concepts, "Efficient detection of changes", "Streaming lists",
"410 Gone responses", "Resource versions"; KEP-5504 on the order of resource versions.
"""

import enum
from typing import Final

import msgspec

from mcsdns.objects.events import Apply, Delete, Event, Init, InitApply, InitDone
from mcsdns.objects.model import Kind, Object
from mcsdns.objects.store import ObjectKey


class Phase(enum.Enum):
    """What is asked of the API server now."""

    IDLE = "idle"
    """Nothing: where the resource is served has to be found out first."""
    STREAMING = "streaming"
    """A watch that begins with a list: objects come until the bookmark that ends the list."""
    PAGING = "paging"
    """A list, page by page."""
    WATCHING = "watching"
    """Changes since the resource version of the last list, line or bookmark."""


class Trouble(enum.Enum):
    """How a request can fail, as far as it matters to what comes next."""

    EXPIRED = "the resource version is too old (410)"
    TOO_NEW = "the resource version is from a future that was lost (504)"
    NOT_SUPPORTED = "the request is not understood (422)"
    NO_END = "a streaming list without its end"
    NOT_FOUND = "no such resource (404)"
    UNAUTHORIZED = "not known to the API server (401)"
    FORBIDDEN = "not permitted (403)"
    THROTTLED = "asked to wait (429)"
    UNAVAILABLE = "the API server cannot answer"
    LOST = "no connection"
    DEAD = "a watch that is silent for too long"
    UNREADABLE = "an answer that is not understood"


class Shown(msgspec.Struct, frozen=True, gc=False):
    """An object of a list, or one that was added or changed; None where it is not for us."""

    key: ObjectKey
    object: Object | None
    resource_version: str = ""


class Gone(msgspec.Struct, frozen=True, gc=False):
    """An object was deleted, or left the selector."""

    key: ObjectKey
    resource_version: str = ""


class Bookmark(msgspec.Struct, frozen=True, gc=False):
    """Everything up to this resource version was sent; `ends_list`: and the list is complete."""

    resource_version: str
    ends_list: bool = False


class PageEnd(msgspec.Struct, frozen=True, gc=False):
    """A page was read; without a token it was the last one."""

    resource_version: str
    continue_token: str = ""


class Newest(msgspec.Struct, frozen=True, gc=False):
    """The newest resource version that the storage knows."""

    resource_version: str


class Ended(msgspec.Struct, frozen=True, gc=False):
    """The API server closed the watch in order, as it does after `timeoutSeconds`."""


Message = Shown | Gone | Bookmark | PageEnd | Newest | Ended | Trouble


class StreamList(msgspec.Struct, frozen=True):
    """Ask for a list and its changes in one stream (`sendInitialEvents=true`)."""


class ListPage(msgspec.Struct, frozen=True):
    """Ask for a page of the newest list; `continue_token` is that of the page before."""

    continue_token: str = ""


class Watch(msgspec.Struct, frozen=True):
    """Ask for changes after a resource version."""

    resource_version: str


class Compare(msgspec.Struct, frozen=True):
    """Ask for the newest resource version before watching on.

    A storage that was restored from a backup does not know ours; the API server then accepts the
    watch and stays silent (measured with 1.35: no event, no bookmark, until its time is over).
    """


class Discover(msgspec.Struct, frozen=True):
    """Find out where the resource is served, then `start` again."""


Request = StreamList | ListPage | Watch | Compare | Discover


class Step(msgspec.Struct, frozen=True, gc=False):
    """What a message led to.

    Attributes:
        events: for the index, in order.
        request: what to ask next; None: go on reading.
        pause: whether to wait before, longer each time.
    """

    events: tuple[Event, ...] = ()
    request: Request | None = None
    pause: bool = False


class Next(enum.Enum):
    """What follows a failure or an end."""

    LIST = "a new list"
    LIST_LATER = "a new list, after a pause"
    PAGES = "a new list, by pages; the server does not stream"
    PAGES_ONCE = "a new list, by pages this time"
    PAGES_LATER = "the same, after a pause"
    PAGE_LATER = "the same page, after a pause"
    WATCH = "watch on, where the storage is not older"
    WATCH_LATER = "watch on likewise, after a pause"
    DISCOVER = "find out where the resource is served"


_READ_ON: Final = Step()

_COLUMNS: Final = (Phase.STREAMING, Phase.PAGING, Phase.WATCHING)
TABLE: Final[dict[Trouble | type[Ended], tuple[Next, Next, Next]]] = {
    Ended: (Next.PAGES_LATER, Next.PAGE_LATER, Next.WATCH),
    # The 410 of a page has a token too, for an inconsistent list.
    Trouble.EXPIRED: (Next.LIST_LATER, Next.LIST_LATER, Next.LIST),
    Trouble.TOO_NEW: (Next.LIST_LATER, Next.LIST_LATER, Next.LIST_LATER),
    Trouble.NOT_SUPPORTED: (Next.PAGES, Next.LIST_LATER, Next.LIST_LATER),
    Trouble.NO_END: (Next.PAGES_ONCE, Next.PAGE_LATER, Next.WATCH_LATER),
    Trouble.NOT_FOUND: (Next.DISCOVER, Next.DISCOVER, Next.DISCOVER),
    Trouble.UNAUTHORIZED: (Next.LIST_LATER, Next.PAGE_LATER, Next.WATCH_LATER),
    Trouble.FORBIDDEN: (Next.LIST_LATER, Next.PAGE_LATER, Next.WATCH_LATER),
    Trouble.THROTTLED: (Next.LIST_LATER, Next.PAGE_LATER, Next.WATCH_LATER),
    Trouble.UNAVAILABLE: (Next.PAGES_LATER, Next.PAGE_LATER, Next.WATCH_LATER),
    Trouble.LOST: (Next.PAGES_LATER, Next.PAGE_LATER, Next.WATCH_LATER),
    Trouble.DEAD: (Next.PAGES_LATER, Next.PAGE_LATER, Next.WATCH_LATER),
    Trouble.UNREADABLE: (Next.PAGES_LATER, Next.LIST_LATER, Next.LIST_LATER),
}
"""What follows an end or a failure: while streaming a list, while paging, while watching."""


class Reflector:
    """Keeps the index equal to one resource of the API server.

    Attributes:
        state: see Phase. resource_version: up to which everything was sent; empty before a list.
    """

    def __init__(self, kind: Kind, namespace: str = "") -> None:
        """Reflect the objects of a kind, in one namespace or (`""`) in all."""
        self.state = Phase.IDLE
        self.resource_version = ""
        self._kind = kind
        self._namespace = namespace
        self._streams = True
        self._token = ""

    def start(self) -> Step:
        """Begin with a list: at first, and after each `Discover`."""
        self._streams = True
        return self._list()

    def receive(self, message: Message) -> Step:
        """Take what the API server sent, or how it failed."""
        match message:
            case Shown():
                return self._see(message)
            case Gone(key=key, resource_version=version):
                return self._advance(version, Delete(self._kind, key))
            case Bookmark(ends_list=True) if self.state is Phase.STREAMING:
                return self._complete(message.resource_version)
            case Bookmark() if self.state is Phase.STREAMING:
                return self._go_on(Trouble.NO_END)  # the first bookmark should have been the end
            case Bookmark(resource_version=version):
                return self._advance(version)
            case PageEnd(resource_version=version, continue_token=""):
                return self._complete(version, Watch(version))
            case PageEnd(continue_token=token):
                self._token = token
                return Step(request=ListPage(token))
            case Newest(resource_version=version):
                if goes_back(self.resource_version, version):
                    return self._list(pause=True)
                return Step(request=Watch(self.resource_version))
            case Ended() | Trouble():
                return self._go_on(message)

    def _see(self, seen: Shown) -> Step:
        if self.state is Phase.WATCHING:
            change = Apply(seen.object) if seen.object else Delete(self._kind, seen.key)
            return self._advance(seen.resource_version, change)
        if seen.object is None:  # a streaming list may have shown it as another before
            return Step((Delete(self._kind, seen.key),))
        return Step((InitApply(seen.object),))

    def _advance(self, version: str, *events: Event) -> Step:
        """Take a line of a watch; one below what we know tells of a storage that was restored."""
        if self.state is not Phase.WATCHING:
            return Step(events)  # within a streaming list; its end will tell the version
        if goes_back(self.resource_version, version):
            return self._list(pause=True)
        self.resource_version = version or self.resource_version
        return Step(events) if events else _READ_ON

    def _complete(self, version: str, following: Request | None = None) -> Step:
        if not version:  # a watch of no version would begin anywhere
            return self._go_on(Trouble.UNREADABLE)
        self.state = Phase.WATCHING
        self.resource_version = version
        return Step((InitDone(self._kind, self._namespace),), following)

    def _go_on(self, end: Ended | Trouble) -> Step:
        if self.state is Phase.IDLE:
            return Step(request=Discover(), pause=True)
        row = TABLE[Ended if isinstance(end, Ended) else end]
        following = row[_COLUMNS.index(self.state)]
        match following:
            case Next.LIST | Next.LIST_LATER:
                return self._list(pause=following is Next.LIST_LATER)
            case Next.PAGES | Next.PAGES_ONCE | Next.PAGES_LATER:
                self._streams = following is not Next.PAGES
                return self._list(by_pages=True, pause=following is Next.PAGES_LATER)
            case Next.PAGE_LATER:
                return Step(request=ListPage(self._token), pause=True)
            case Next.WATCH | Next.WATCH_LATER:
                return Step(request=Compare(), pause=following is Next.WATCH_LATER)
            case Next.DISCOVER:
                self.state = Phase.IDLE
                return Step(request=Discover(), pause=True)

    def _list(self, *, pause: bool = False, by_pages: bool = False) -> Step:
        self._token = ""
        streams = self._streams and not by_pages
        self.state = Phase.STREAMING if streams else Phase.PAGING
        begin = Init(self._kind, self._namespace)
        return Step((begin,), StreamList() if streams else ListPage(), pause)


def goes_back(known: str, seen: str) -> bool:
    """Returns whether a resource version is below another one.

    Those of the API server are decimal numbers that grow (KEP-5504); of others nothing is known.
    """
    if known.isdecimal() and seen.isdecimal():
        known, seen = known.lstrip("0"), seen.lstrip("0")
        return (len(seen), seen) < (len(known), known)
    return False
