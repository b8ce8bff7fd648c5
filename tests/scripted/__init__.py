"""A scripted Kubernetes API server, for faults that a real one will not produce on demand.

It runs in the event loop of the test, speaks plain HTTP on loopback and serves ServiceImports and
EndpointSlices in the wire format of the real one: discovery, lists with pages, watches with
bookmarks and initial events. `FakeApi` holds the objects; a test changes them and asks for faults:

    async with FakeApi() as api:
        api.put(service_import)
        api.fault(faults.too_many_requests(), faults.LIST, "serviceimports")

| fault | how |
| --- | --- |
| connections refused | `await api.refuse()`, back with `await api.accept()` |
| all connections reset | `api.reset_connections()`; one watch: `watch.reset()` |
| reset after N bytes | `fault(Reset(N))`: in the middle of a line; -1: before the headers |
| no answer; headers and nothing more | `fault(Hang())`, `fault(Hang(headers=True))` |
| byte by byte | `fault(Dribble())` |
| a page cut short, garbage | `fault(HalfPage())`, `fault(Garbage(b"..."))` |
| lines of garbage later on | `watch.send(b"...")` |
| 401 | `fault(unauthorized())`, or for good `api.token = "other"` |
| 403 | `fault(forbidden())`, or for good `api.revoke(resource, namespace)`, `api.grant(...)` |
| 404 | `fault(not_found(plain=True))`; `api.serve()`: no CRD; `api.plain_404` |
| another API version | `api.serve("v1alpha1")`; `api.listed_versions`: those of other CRDs |
| 422, streaming lists off | `api.streaming_lists = "422"`, or `"error"`: an ERROR event with 500 |
| 429 with Retry-After, 500, 503 | `too_many_requests(2)`, `internal_error()`, `unavailable()` |
| 410 for a watch | `api.compact()`, in the form of `api.expired_as` and `api.expired_reason` |
| 410 in an open watch | `api.expire_watches()`; `then=` lines that come after it |
| 410 for a page | `fault(ExpirePage(), PAGE)`, `api.expire_pages()` |
| 504, version too large | `fault(too_large())`; after `restore` as `api.future_versions` says |
| versions that go back | `api.restore(version)`; `api.bookmark(version)`, `watch.bookmarks_at` |
| an empty list | `fault(EmptyList())` |
| a stream without its end | `fault(NoEndBookmark())` |
| a clean end | `api.end_watches()`, `api.watch_timeout_s` |
| a dead watch | `watch.silence()`; `watch.speak()` sends all that was held back |
| lines for an abandoned watch | `watch.expire(then=...)`, `watch.speak` after the silence |
| an object of the wrong type | `api.put(...)`: nothing is checked |
"""

from tests.scripted import faults, wire
from tests.scripted.api import FakeApi
from tests.scripted.asked import Asked
from tests.scripted.history import ENDPOINT_SLICE, SERVICE_IMPORT, Plain
from tests.scripted.watches import Watch

__all__ = [
    "ENDPOINT_SLICE",
    "SERVICE_IMPORT",
    "Asked",
    "FakeApi",
    "Plain",
    "Watch",
    "faults",
    "wire",
]
