"""Octets of an API server -> messages for the reflector: pages, lines of watches, failures.

Everything is decoded by msgspec into the fields of spec.md 4 and nothing else. An object of a
wrong type costs only itself: it counts as not there, and is reported.

Source: Kubernetes API conventions, "Response Status Kind"; API concepts, "Watch bookmarks",
"Retrieving large results sets in chunks".
"""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

import msgspec

from mcsdns.errors import ObjectError, SourceError
from mcsdns.objects.decode import (
    RawEndpointSlice,
    RawMetadata,
    RawServiceImport,
    SliceProfile,
    decode_import,
    decode_slice,
)
from mcsdns.objects.model import Kind, Problem
from mcsdns.objects.store import ObjectKey
from mcsdns.sources.kubernetes.reflector import Bookmark, Gone, Shown, Trouble
from mcsdns.sources.kubernetes.secrets import UNREADABLE, Secrets

MOST_BYTES: Final = 8 << 20
"""Of an answer and of a line: etcd takes objects of 1.5 MB, which are 2 MB or so in JSON."""
MAX_RETRY_AFTER_S: Final = 60.0
_MOST_WORDS: Final = 2000
"""Characters of what went wrong, of which an API server may have said most."""
_MOST_SHOWN: Final = 400
"""Characters of what a peer says."""
_MOST_PLAIN_BYTES: Final = 200
"""Of a failure that is no Status, as of a proxy."""
_TOO_NEW_CAUSE: Final = "ResourceVersionTooLarge"
_TROUBLE_OF_CODE: Final = {
    400: Trouble.NOT_SUPPORTED,
    401: Trouble.UNAUTHORIZED,
    403: Trouble.FORBIDDEN,
    404: Trouble.NOT_FOUND,
    410: Trouble.EXPIRED,
    422: Trouble.NOT_SUPPORTED,
    429: Trouble.THROTTLED,
}


_Form = TypeVar("_Form")


class ApiError(SourceError):
    """The API server could not be asked, or did not do it.

    Attributes:
        trouble: which of the ways to fail. retry_after_s: when to ask again, 0 if not said.
        of_identity: whether who we are, or who they are, was not accepted.
    """

    def __init__(
        self,
        trouble: Trouble,
        why: str,
        retry_after_s: float = 0.0,
        *,
        of_identity: bool = False,
    ) -> None:
        super().__init__(why if len(why) <= _MOST_WORDS else f"{why[:_MOST_WORDS]} ...")
        self.trouble = trouble
        self.retry_after_s = retry_after_s
        self.of_identity = of_identity or trouble is Trouble.UNAUTHORIZED


class TooLargeError(ApiError):
    """An answer or a line that is longer than is read."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(
            Trouble.UNREADABLE,
            f"{where}: {what} is longer than {MOST_BYTES >> 20} MiB and is not read on; is it an "
            "API server, and which object there is so large?",
        )


class _Marks(msgspec.Struct, gc=False):
    """The one annotation of bookmarks that is read."""

    end_of_list: str | None = msgspec.field(default=None, name="k8s.io/initial-events-end")


class _Metadata(msgspec.Struct, gc=False, rename="camel"):
    name: str = ""
    namespace: str | None = None
    resource_version: str | None = None
    annotations: _Marks | None = None


class _Thing(msgspec.Struct, gc=False):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


class _PageMetadata(msgspec.Struct, gc=False):
    continue_token: str | None = msgspec.field(default=None, name="continue")
    resource_version: str | None = msgspec.field(default=None, name="resourceVersion")
    remaining: int | None = msgspec.field(default=None, name="remainingItemCount")


class Page(msgspec.Struct, gc=False):
    """One page of a list; items stay octets until `Decoder.item`."""

    metadata: _PageMetadata
    items: list[msgspec.Raw] | None = None


class _Line(msgspec.Struct, Generic[_Form], gc=False):
    type: str
    object: _Form


class _Cause(msgspec.Struct, gc=False):
    reason: str | None = None


class _Details(msgspec.Struct, gc=False, rename="camel"):
    causes: list[_Cause] | None = None
    retry_after_seconds: float | None = None


class ApiStatus(msgspec.Struct, gc=False):
    """Why an API server did not do what was asked; `code` is that of HTTP."""

    code: int = 0
    reason: str | None = None
    message: str | None = None
    details: _Details | None = None

    @property
    def retry_after_s(self) -> float:
        """After how many seconds the server wants to be asked again; 0 where it does not say."""
        asked_s = (self.details.retry_after_seconds or 0.0) if self.details else 0.0
        return clamp_retry_after(asked_s)

    @property
    def trouble(self) -> Trouble:
        """What this means for what comes next."""
        causes = (self.details.causes if self.details else None) or []
        if any(cause.reason == _TOO_NEW_CAUSE for cause in causes):
            return Trouble.TOO_NEW
        if self.reason in {"Expired", "Gone"}:
            return Trouble.EXPIRED
        return _TROUBLE_OF_CODE.get(self.code, Trouble.UNAVAILABLE)


def words(text: str) -> str:
    """Return what a peer says so that it can stand in a log: one line, printable, bounded."""
    line = " ".join(text[: 2 * _MOST_SHOWN].split())
    shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)
    return (
        shown
        if len(shown) <= _MOST_SHOWN
        else f"{shown[:_MOST_SHOWN]} ... ({len(text)} characters)"
    )


_Raw = RawServiceImport | RawEndpointSlice


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What one item or line says: a message for the reflector, or a status; and problems."""

    message: Shown | Gone | Bookmark | ApiStatus | None
    problems: tuple[Problem, ...] = ()


_pages = msgspec.json.Decoder(Page)
_lines = msgspec.json.Decoder(_Line[msgspec.Raw])
_things = msgspec.json.Decoder(_Thing)
_statuses = msgspec.json.Decoder(ApiStatus)


def clamp_retry_after(seconds: float) -> float:
    """Return a wait that a server asked for, within reason."""
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def read_page(octets: bytes) -> Page:
    """Read a page without its items.

    Raises:
        ObjectError: it is not one.
    """
    try:
        return _pages.decode(octets)
    except UNREADABLE as error:
        raise ObjectError(f"the answer is not a list: {error}") from None


def read_status(octets: bytes, code: int, hide: Callable[[str], str] = str) -> ApiStatus:
    """Read the body of a failure, which may be plain text; `code` is that of HTTP.

    `hide` takes secrets out of a text before it is cut: half of one would not be found.
    """
    try:
        status = _statuses.decode(octets)
    except UNREADABLE:
        text = hide(octets.decode(errors="replace")).encode()[:_MOST_PLAIN_BYTES]
        return ApiStatus(code, message=text.decode(errors="replace").strip())
    return msgspec.structs.replace(status, code=code)


class Decoder:
    """Reads objects of one kind, under one API version, without the secrets that are known."""

    def __init__(
        self, kind: Kind, api_version: str, profile: SliceProfile, secrets: Secrets | None = None
    ) -> None:
        self._kind = kind
        self._api_version = api_version
        self._profile = profile
        self._secrets = secrets or Secrets()
        if kind is Kind.SERVICE_IMPORT:
            self._items = msgspec.json.Decoder(RawServiceImport)
            self._lines = msgspec.json.Decoder(_Line[RawServiceImport])
        else:
            self._items = msgspec.json.Decoder(RawEndpointSlice)
            self._lines = msgspec.json.Decoder(_Line[RawEndpointSlice])

    def item(self, octets: msgspec.Raw | bytes) -> Reading:
        """Read an object of a page."""
        octets = self._secrets.hide_octets(bytes(octets))
        try:
            return self._decoded(self._items.decode(octets))
        except UNREADABLE as error:
            return self._wrong(octets, str(error))

    def line(self, octets: bytes) -> Reading:
        """Read a line of a watch.

        Raises:
            ObjectError: it is no watch event; what follows cannot be trusted.
        """
        octets = self._secrets.hide_octets(octets)
        try:
            line = self._lines.decode(octets)
            if line.type == "DELETED":
                return _gone(line.object.metadata)
            if line.type in {"ADDED", "MODIFIED"}:
                return self._decoded(line.object)
        except msgspec.ValidationError:
            pass  # a bookmark, an error, or a wrong type
        except UNREADABLE as error:
            raise ObjectError(f"a line of the watch is not JSON: {error}") from None
        try:
            return self._odd_line(_lines.decode(octets))
        except UNREADABLE as error:
            raise ObjectError(f"a line of the watch is no watch event: {error}") from None

    def _odd_line(self, line: _Line[msgspec.Raw]) -> Reading:
        match line.type:
            case "ADDED" | "MODIFIED":
                return self.item(line.object)
            case "DELETED":
                return _gone(_things.decode(line.object).metadata)
            case "BOOKMARK":
                meta = _things.decode(line.object).metadata
                ends_list = meta.annotations is not None and meta.annotations.end_of_list == "true"
                return Reading(Bookmark(meta.resource_version or "", ends_list))
            case "ERROR":
                return Reading(_statuses.decode(line.object))
            case _:
                raise ObjectError(
                    f"a line of the watch is of the unknown type {words(line.type)!r}"
                )

    def _decoded(self, raw: _Raw) -> Reading:
        meta = raw.metadata
        key = (meta.namespace or "default", meta.name)
        version = meta.resource_version or ""
        try:
            if isinstance(raw, RawServiceImport):
                decoded = decode_import(raw, origin="", api_version=self._api_version)
            else:
                decoded = decode_slice(raw, origin="", profile=self._profile)
        except ObjectError as error:
            return Reading(Shown(key, None, version), (self._problem(key, error.path, str(error)),))
        return Reading(Shown(key, decoded.object, version), decoded.problems)

    def _wrong(self, octets: bytes, error: str) -> Reading:
        """Report an object with a field of a wrong type, which counts as not there."""
        text, _, path = error.rpartition(" - at `")
        try:
            meta = _things.decode(octets).metadata
        except UNREADABLE:
            meta = _Metadata()
        key: ObjectKey = (meta.namespace or "default", meta.name)
        problem = self._problem(key, path.rstrip("`") if text else "$", text or error)
        if not meta.name:
            return Reading(None, (problem,))
        return Reading(Shown(key, None, meta.resource_version or ""), (problem,))

    def _problem(self, key: ObjectKey, path: str, text: str) -> Problem:
        subject = f"{self._kind} {key[0]}/{key[1]}"
        return Problem("bad_object", subject, path, f"{text}; the object is not served")


def _gone(meta: _Metadata | RawMetadata) -> Reading:
    return Reading(Gone((meta.namespace or "default", meta.name), meta.resource_version or ""))
