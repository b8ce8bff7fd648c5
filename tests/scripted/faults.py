"""Faults that are put on single requests: what is done (an action) and to which (a fault)."""

from dataclasses import dataclass, field

from tests.scripted import wire
from tests.scripted.history import Plain

DISCOVERY, LIST, PAGE, WATCH, STREAM = "discovery", "list", "page", "watch", "stream"
COMPARE = "compare"
"""What a request is: LIST the first page of a list, PAGE a further one, STREAM a watch with initial
events, WATCH any other watch, COMPARE a list of one object, for its resource version."""
LISTS, WATCHES = f"{LIST} {PAGE}", f"{WATCH} {STREAM}"


@dataclass(frozen=True)
class Reply:
    """Answer with this and nothing else; text is sent as plain text, a mapping as JSON."""

    code: int
    body: Plain | str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class InStream:
    """A watch: answer 200 and then one ERROR event with this Status; `then` follows in one go."""

    status: Plain
    then: bytes = b""


@dataclass(frozen=True)
class Hang:
    """Take the request and say nothing, or (`headers`) nothing after the headers."""

    headers: bool = False


@dataclass(frozen=True)
class Reset:
    """Reset the connection after so many bytes of the body; before the headers where negative.

    An aiohttp client asks once more by itself where no header came: use `times=2`.
    """

    after_bytes: int = -1


@dataclass(frozen=True)
class Dribble:
    """Send the body byte by byte."""


@dataclass(frozen=True)
class HalfPage:
    """A list that is whole for HTTP, but stops in the middle for JSON."""


@dataclass(frozen=True)
class Garbage:
    """Send these bytes before all else; a list is nothing but them."""

    bytes: bytes = b"\x00<html>502 Bad Gateway</html>\n"


@dataclass(frozen=True)
class EmptyList:
    """Show no objects, at the version in force; pages, streams."""


@dataclass(frozen=True)
class NoEndBookmark:
    """A stream of initial events that never says where they end."""


@dataclass(frozen=True)
class ExpirePage:
    """410 for a page, with a new token for an inconsistent rest."""


Action = (
    Reply
    | InStream
    | Hang
    | Reset
    | Dribble
    | HalfPage
    | Garbage
    | EmptyList
    | NoEndBookmark
    | ExpirePage
)


@dataclass
class Fault:
    """An action for requests that fit; empty fields fit all, `times` None is until cleared.

    Attributes:
        of: one of DISCOVERY, LIST, PAGE, WATCH, STREAM, or several parted by blanks.
        used: how often it was used.
    """

    action: Action
    of: str = ""
    resource: str = ""
    namespace: str | None = None
    times: int | None = 1
    used: int = 0

    def fits(self, nature: str, resource: str, namespace: str) -> bool:
        """Say whether a request meets this fault."""
        return (
            (self.times is None or self.used < self.times)
            and (not self.of or nature in self.of.split())
            and self.resource in ("", resource)
            and self.namespace in (None, namespace)
        )


def unauthorized() -> Reply:
    return Reply(401, wire.unauthorized())


def forbidden(verb: str = "list", resource: str = "serviceimports", namespace: str = "") -> Reply:
    group = wire.GROUPS[wire.KINDS[resource]]
    return Reply(403, wire.forbidden(verb, group, resource, namespace))


def not_found(*, plain: bool = False) -> Reply:
    return Reply(404, wire.PLAIN_404 if plain else wire.not_found())


def expired(reason: str = "Expired") -> Reply:
    return Reply(410, wire.expired(reason))


def expired_in_stream(reason: str = "Expired", then: bytes = b"") -> InStream:
    return InStream(wire.expired(reason), then)


def no_watch_list() -> Reply:
    return Reply(422, wire.no_watch_list())


def too_many_requests(retry_after_s: int = 1) -> Reply:
    headers = {"Retry-After": str(retry_after_s)}
    return Reply(429, wire.too_many_requests(retry_after_s), headers)


def internal_error() -> Reply:
    return Reply(500, wire.status(500, "InternalError", "Internal error occurred: etcd is ill"))


def unavailable() -> Reply:
    why = "the server is currently unable to handle the request"
    return Reply(503, wire.status(503, "ServiceUnavailable", why))


def too_large(retry_after_s: float = 1) -> Reply:
    return Reply(504, wire.too_large(2, 1, retry_after_s))
