"""Follows one resource of the API server: sends what its reflector asks for, and keeps the time.

    request -> ApiServer -> octets -> Decoder -> message -> Reflector -> events and the next request

Each request is read by one coroutine that ends before the next one begins, so the lines of an
abandoned watch are dropped with it. Which request follows what is for the reflector alone; here is
how long to wait for it:

- A pause is longer each time, with jitter, and short again after a request that lived for a while.
  The `Retry-After` of a 429 outranks it; that of a 503 does not (a server that starts says 5 s and
  is there before).
- A watch is one response without an end, and a connection can die without a word. `timeoutSeconds`
  says when the API server ends it, and bookmarks come about once a minute. `_Silence` calls a watch
  dead when it outlived its timeout, or missed three bookmarks of the interval that was seen.
- A streaming list that says nothing for ten seconds is given up for pages: an API server without
  the feature ignores `sendInitialEvents` and would never send the bookmark that ends the list.

- Beside the watch, a list now and then finds what the watch missed (`recheck` has the theory). It
  begins after `recheck_s`, spread over as long again so that watchers which began together do not
  list together; only while the watch is open, and later where the API server is busy. `Compare`
  also tells the number of objects, where there is no selector: a number that is not ours, twice,
  some seconds apart, starts a list at once. It is a hint: an equal one proves nothing.

A failure is logged when it begins and when it is over. What happens to every watch now and then
(410, a silent connection that is opened anew) is none.
"""

import asyncio
import contextlib
import functools
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec

from mcsdns.errors import ObjectError
from mcsdns.objects.decode import SliceProfile
from mcsdns.objects.events import Delete, Event, Init, InitDone
from mcsdns.objects.model import Kind, Problem
from mcsdns.objects.store import ObjectKey
from mcsdns.sources.kubernetes import codec, recheck
from mcsdns.sources.kubernetes.codec import (
    ApiError,
    ApiStatus,
    Decoder,
    Page,
    Reading,
    TooLargeError,
    read_page,
    words,
)
from mcsdns.sources.kubernetes.discovery import newest, path_of
from mcsdns.sources.kubernetes.recheck import Recheck
from mcsdns.sources.kubernetes.reflector import (
    Bookmark,
    Compare,
    Discover,
    Ended,
    Gone,
    ListPage,
    Message,
    Newest,
    PageEnd,
    Phase,
    Reflector,
    Request,
    Shown,
    Step,
    StreamList,
    Trouble,
    Watch,
)
from mcsdns.sources.timeslice import Timeslice

if TYPE_CHECKING:
    from mcsdns.sources.kubernetes.api import ApiResponse, ApiServer

logger = logging.getLogger(__name__)

PAGE_OBJECTS: Final = 500
_LEAST_PAGE: Final = 2
"""So many objects always fit `codec.MOST_BYTES`."""
MOST_PROBLEMS: Final = 2000
"""So many objects are kept with the texts of their problems, and counted only beyond that."""
_LOGGED_PER_LIST: Final = 20
_MISSED_BOOKMARKS: Final = 3.25
_SLICE_S: Final = 0.001
"""Longest slice of the loop that decoding takes; what it found is published within the same one."""
_SHORT_S: Final = 1.0
"""What follows a watch that ended as soon as this comes after a pause only."""
_NORMAL: Final = frozenset({Trouble.EXPIRED, Trouble.NOT_SUPPORTED, Trouble.NO_END, Trouble.DEAD})
"""What happens to every watch and list now and then, and is mended by the next request."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Every wait, in seconds, and the clock they are measured by.

    Attributes:
        watch_least_s, watch_most_s: `timeoutSeconds` of a watch is drawn between them.
        settle_s: the same for the first watch of an older API version, to twice it.
        overdue_s: a watch that should have ended this long ago is dead.
        bookmark_s: usual time between bookmarks; three that are missed tell of a dead watch.
        answer_s: until the headers of an answer. page_s: until a whole page.
        quiet_list_s: silence after which a streaming list is given up for pages.
        first_pause_s, longest_pause_s: between attempts.
        healthy_s: a request that lived as long was no failure; pauses begin anew.
        recheck_s: between lists that find what a watch missed; 0 for none.
        doubt_s: until an odd number of objects is counted again, or a list put off is tried again.
        clock: monotonic seconds. rng: where jitter comes from.
    """

    watch_least_s: int = 300
    watch_most_s: int = 600
    settle_s: int = 10
    overdue_s: float = 30.0
    bookmark_s: float = 60.0
    answer_s: float = 30.0
    page_s: float = 60.0
    quiet_list_s: float = 10.0
    first_pause_s: float = 0.1
    longest_pause_s: float = 10.0
    healthy_s: float = 10.0
    recheck_s: float = 0.0
    doubt_s: float = 5.0
    clock: Callable[[], float] = time.monotonic
    rng: random.Random = msgspec.field(default_factory=random.Random)


class Scope(msgspec.Struct, frozen=True):
    """What a watcher follows: a kind in a namespace (`""`: all), by a label selector."""

    kind: Kind
    namespace: str = ""
    selector: str = ""
    profile: SliceProfile = SliceProfile.MCS


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot of one watcher.

    Attributes:
        lists, watches: begun. lines: of watches. bookmarks: among them.
        problems: objects with something wrong. skipped: the same by reason, an object once each.
        troubles: how often a request failed, by way. ended: watches that ended in order.
        heard_age_s: seconds since anything was received. known_age_s: since everything was known, 0
            while the watch is open.
    """

    kind: Kind
    namespace: str
    synced: bool
    connected: bool
    lists: int
    watches: int
    lines: int
    bookmarks: int
    problems: int
    troubles: Mapping[Trouble, int]
    ended: int = 0
    heard_age_s: float = 0.0
    known_age_s: float = 0.0
    skipped: Mapping[str, int] = {}
    rechecks: recheck.Statistics = recheck.Statistics()


class Watcher:
    """Sends the objects of one scope, and their changes.

    Attributes:
        synced: whether a list has been complete once.
        failure: why the last request failed, until one succeeds.
        refused_version: API version whose list was not found, though it may be announced.
        problems: what is wrong with which object.
    """

    def __init__(
        self,
        scope: Scope,
        api: "ApiServer",
        timing: Timing,
        *,
        apply: Callable[[Event], Awaitable[None]],
        changed: Callable[["Watcher"], None],
        discover: Callable[["Watcher"], Awaitable[str]],
    ) -> None:
        """Ask nothing before `run`.

        `apply` takes every event; the end of a list may take away many objects and so takes its
        time. `changed` is called when `synced`, `connected` or
        `failure` may be others. `discover` returns the API version, with its group, that serves the
        scope, or raises ApiError.
        """
        self.scope = scope
        self.synced = False
        self.refused_version = ""
        self.failure: ApiError | None = None
        self._fresh_s = self._received_s = timing.clock()
        self.problems: dict[ObjectKey, tuple[Problem, ...]] = {}
        self._api = api
        self._timing = timing
        self._apply = apply
        self._changed = changed
        self._discover = discover
        self._reflector = Reflector(scope.kind, scope.namespace)
        self._backoff = Backoff(timing.rng, timing.first_pause_s, timing.longest_pause_s)
        self._api_version = self._path = ""
        self._decoder = Decoder(scope.kind, "", scope.profile, api.secrets)
        self._silence = _Silence(timing, 0, 0.0)
        self._is_open = self._failed_within = False
        self._is_settled = True
        self._timeslice = Timeslice(_SLICE_S)
        self._retry_after_s = 0.0
        self._logged = 0
        self._lists = self._watches = self._lines = self._bookmarks = self._ended = 0
        self._troubles: dict[Trouble, int] = {}
        self._skipped: Counter[str] = Counter()
        self._confirmed: set[ObjectKey] = set()
        self._limit = ""
        self._known: dict[ObjectKey, str] = {}
        self._recheck: Recheck | None = None
        self._doubt = asyncio.Event()
        self._rechecked = self._put_off = self._found = 0

    @property
    def connected(self) -> bool:
        """Whether a watch is open, and its list complete: nothing can be newer."""
        return self._is_open and self._reflector.state is Phase.WATCHING

    @property
    def fresh_s(self) -> float:
        """Up to when everything is known."""
        return self._timing.clock() if self.connected else self._fresh_s

    def statistics(self) -> Statistics:
        """Return the counters so far."""
        now_s = self._timing.clock()
        return Statistics(
            self.scope.kind,
            self.scope.namespace,
            self.synced,
            self.connected,
            self._lists,
            self._watches,
            self._lines,
            self._bookmarks,
            len(self.problems),
            dict(self._troubles),
            self._ended,
            now_s - self._received_s,
            0.0 if self.connected else now_s - self._fresh_s,
            dict(self._skipped),
            recheck.Statistics(self._rechecked, self._put_off, self._found),
        )

    async def run(self) -> NoReturn:
        """Follow until cancelled."""
        request: Request = Discover()
        while True:
            request = await self._perform(request)

    async def _perform(self, request: Request) -> Request:
        """Ask once, read what comes, wait if need be; return what is to be asked next."""
        began_s, self._retry_after_s = self._timing.clock(), 0.0
        try:
            step = await self._ask(request)
        except ApiError as error:
            step = await self._fail(error)
        except ObjectError as error:
            step = await self._fail(ApiError(Trouble.UNREADABLE, f"{self._path}: {error}"))
        finally:
            self._is_open = False
        self._changed(self)
        lived_s = self._timing.clock() - began_s
        if lived_s > self._timing.healthy_s:
            self._backoff.reset()
        assert step.request is not None
        if step.pause or (isinstance(request, Watch) and lived_s < _SHORT_S):
            await self._pause()
        return step.request

    async def _ask(self, request: Request) -> Step:
        if isinstance(request, Watch) and await self._is_superseded():
            request = Discover()
        match request:
            case Discover():
                return await self._start()
            case ListPage(continue_token=token):
                return await self._read_page(token)
            case Compare():
                return await self._compare()
            case StreamList():
                self._lists += 1
                parameters = {
                    "sendInitialEvents": "true",
                    "resourceVersionMatch": "NotOlderThan",
                }
                return await self._read_watch(parameters)
            case Watch(resource_version=version):
                return await self._read_watch({"resourceVersion": version})

    async def _start(self) -> Step:
        api_version = await self._discover(self)
        scope = self.scope
        self.refused_version = ""
        self._api_version = api_version
        self._path = path_of(scope.kind, api_version, scope.namespace)
        self._decoder = Decoder(scope.kind, api_version, scope.profile, self._api.secrets)
        self._is_settled = api_version == newest(scope.kind)
        return await self._send(self._reflector.start())

    async def _is_superseded(self) -> bool:
        """Returns whether another API version is preferred by now to the one that is followed.

        The versions of a CRD that is made anew come one after the other, and the newest may have
        been refused a moment before. So while an older one is followed, each watch asks again, and
        the first one is short.
        """
        if self._api_version == newest(self.scope.kind):
            return False
        try:
            return await self._discover(self) != self._api_version
        except ApiError as error:
            if error.trouble is Trouble.NOT_FOUND:
                raise
            return False  # the watch will say it

    async def _read_page(self, token: str) -> Step:
        """Read a page; without a token the first one, of the newest list there is."""
        if token:
            parameters = {"limit": self._limit, "continue": token}
        else:
            parameters = {"limit": str(PAGE_OBJECTS)}
            self._lists += 1
        octets = await self._read_whole(parameters)
        self._limit = parameters["limit"]
        self._succeed()
        page = read_page(octets)
        for item in page.items or []:
            await self._take(self._decoder.item(item))
            await self._timeslice.checkpoint()
        meta = page.metadata
        return await self._receive(PageEnd(meta.resource_version or "", meta.continue_token or ""))

    async def _compare(self) -> Step:
        """Read the newest resource version, with no more objects than need be."""
        page = read_page(await self._read_whole({"limit": "1"}))
        if self._is_odd(page):
            self._doubt.set()
        return await self._receive(Newest(page.metadata.resource_version or ""))

    def _is_odd(self, page: Page) -> bool:
        """Returns whether the API server counts other objects than we do, where it counts."""
        meta, number = page.metadata, len(page.items or [])
        if meta.continue_token and meta.remaining is None:
            return False  # with a selector it does not say
        return number + (meta.remaining or 0) != len(self._known)

    async def recheck(self) -> NoReturn:
        """Find what the watch missed, now and then, until cancelled."""
        timing = self._timing
        wait_s = timing.recheck_s * timing.rng.uniform(0.5, 1.5)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._doubt.wait()
            wait_s = timing.recheck_s * timing.rng.uniform(0.5, 1.5)
            try:
                if not self._doubt.is_set() or await self._is_still_odd():
                    await self._compare_all()
            except (ApiError, ObjectError) as error:
                self._put_off += 1
                after_s = error.retry_after_s if isinstance(error, ApiError) else 0.0
                wait_s = max(timing.doubt_s, after_s, wait_s / 10) * timing.rng.uniform(1, 2)
                logger.debug("%s: the list beside the watch is put off: %s", self._path, error)

    async def _is_still_odd(self) -> bool:
        """Count again a little later, when what was on its way has come."""
        await asyncio.sleep(self._timing.doubt_s * self._timing.rng.uniform(0.5, 1.5))
        self._doubt.clear()
        return self._is_odd(read_page(await self._read_whole({"limit": "1"})))

    async def _compare_all(self) -> None:
        """Read a list beside the watch, and send what the watch missed.

        Raises:
            ApiError, ObjectError: it cannot be read whole; nothing was sent.
        """
        if not self.connected:
            raise ApiError(Trouble.LOST, "no watch is open")
        known, timeslice = self._known, Timeslice(_SLICE_S)
        run = Recheck(self.scope.kind, known, self._reflector.resource_version)
        self._recheck = run
        parameters, version = {"limit": str(PAGE_OBJECTS)}, ""
        while parameters:
            page = read_page(await self._read_whole(parameters))
            for item in page.items or []:
                message = self._decoder.item(item).message
                if isinstance(message, Shown):
                    run.see(message)
                await timeslice.checkpoint()
            token, version = page.metadata.continue_token, page.metadata.resource_version or ""
            parameters = parameters | {"continue": token} if token else {}
        if self._recheck is not run or self._reflector.state is not Phase.WATCHING:
            raise ApiError(Trouble.LOST, "a new list began meanwhile")
        events = run.settle(version)
        self._rechecked += 1
        self._found += len(events)
        if events:
            logger.warning(
                "%s: the watch had missed %d changes, which a list shows; they are taken from it "
                "(an API server or etcd that was formed anew can leave events out)",
                self._path,
                len(events),
            )
        for event in events:
            key = event.key if isinstance(event, Delete) else event.object.key
            if self._recheck is run and not run.is_told(key):
                await self._apply(event)
            await timeslice.checkpoint()
        run.is_sent = True

    async def _read_whole(self, parameters: dict[str, str]) -> bytes:
        """Read a page; where so many objects are too large, `limit` becomes what is not.

        The pages of one list may be of any sizes: the token says where the next one begins.
        """
        while True:
            limit = _within(
                self._timing.page_s, Trouble.LOST, f"{self._path}: a page takes too long"
            )
            try:
                async with self._get(parameters) as response, limit:
                    return await response.read()
            except TooLargeError:
                objects = int(parameters["limit"])
                if objects <= _LEAST_PAGE:
                    raise
                parameters["limit"] = str(max(objects // 4, _LEAST_PAGE))

    async def _read_watch(self, parameters: dict[str, str]) -> Step:
        """Read a watch until something else is to be asked."""
        least_s, most_s = self._timing.watch_least_s, self._timing.watch_most_s
        if not self._is_settled:
            least_s, most_s = self._timing.settle_s, 2 * self._timing.settle_s
            self._is_settled = True
        timeout_s = self._timing.rng.randint(least_s, most_s)
        parameters |= {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(timeout_s),
        }
        async with self._get(parameters) as response:
            self._watches += 1
            self._silence = _Silence(self._timing, timeout_s, self._timing.clock())
            self._is_open = True
            self._succeed()
            return await self._read_lines(response)

    def _get(
        self, parameters: dict[str, str]
    ) -> "contextlib.AbstractAsyncContextManager[ApiResponse]":
        if self.scope.selector:
            parameters["labelSelector"] = self.scope.selector
        return self._api.request(self._path, parameters, within_s=self._timing.answer_s)

    async def _read_lines(self, response: "ApiResponse") -> Step:
        rest = bytearray()
        while chunk := await self._read_some(response):
            lines: list[bytes] = []
            if b"\n" in chunk:  # else nothing is copied: a line may come in thousands of pieces
                end = chunk.rindex(b"\n")
                lines = (bytes(rest) + chunk[:end]).split(b"\n")
                rest, chunk = bytearray(), chunk[end + 1 :]
            rest += chunk
            for line in filter(None, lines):
                self._lines += 1
                step = await self._take(self._decoder.line(line))
                if step.request is not None:
                    return step
                await self._timeslice.checkpoint()
            if len(rest) > codec.MOST_BYTES:
                raise TooLargeError(self._path, "a line of the watch")
        if rest:
            raise ApiError(Trouble.LOST, f"{self._path}: the watch ended within a line")
        self._ended += 1
        return await self._receive(Ended())

    async def _read_some(self, response: "ApiResponse") -> bytes:
        """Wait for what comes next; a watch that is silent for too long is dead."""
        if self._reflector.state is Phase.STREAMING:
            limit_s, trouble = self._timing.quiet_list_s, Trouble.NO_END
        else:
            limit_s = self._silence.limit_s(self._timing.clock(), self._received_s)
            trouble = Trouble.DEAD
        async with _within(limit_s, trouble, f"{self._path}: the watch is silent for too long"):
            chunk = await response.read_some()
        self._note_activity()
        return chunk

    def _note_activity(self) -> None:
        now_s = self._received_s = self._timing.clock()
        if self.connected:
            self._fresh_s = now_s

    async def _take(self, reading: Reading) -> Step:
        """Hand one item or line to the reflector."""
        message = reading.message
        if isinstance(message, ApiStatus):
            text = f"{self._path}: {message.code} {self._words(message.message or '')}".strip()
            return await self._fail(ApiError(message.trouble, text, message.retry_after_s))
        if isinstance(message, Shown | Gone):
            if self._recheck is not None and self._recheck.tell(message):
                return await self._receive(Bookmark(message.resource_version))
            if self._recheck is not None and self._recheck.is_over(message.resource_version):
                self._recheck = None
            if isinstance(message, Shown):
                self._known[message.key] = message.resource_version
            else:
                self._known.pop(message.key, None)
            self._note_problems(message.key, reading.problems)
        elif isinstance(message, Bookmark):
            self._bookmarks += 1
            self._silence.bookmark(self._timing.clock(), periodic=not message.ends_list)
        elif reading.problems:
            self._note_problems(("", ""), reading.problems)
        if self.failure is not None:
            self._succeed(within=True)
        return await self._receive(message) if message is not None else Step()

    async def _receive(self, message: Message) -> Step:
        """Hand on a message to the reflector, and its events to the source."""
        return await self._send(self._reflector.receive(message))

    async def _send(self, step: Step) -> Step:
        for event in step.events:
            if isinstance(event, Init):
                self._confirmed.clear()
                self._known = {}
                self._recheck = None
            await self._apply(event)
            if isinstance(event, InitDone):
                self._note_list()
        return step

    def _note_list(self) -> None:
        """Note that a list is complete."""
        self.synced = True
        self._logged = 0
        for key in self.problems.keys() - self._confirmed:
            self._note_problems(key, ())  # of objects that went while nobody watched
        self._note_activity()
        self._changed(self)

    async def _fail(self, error: ApiError) -> Step:
        """Note a failure, and let the reflector say what follows."""
        self._retry_after_s = error.retry_after_s
        if error.trouble is Trouble.NOT_FOUND and self._reflector.state is not Phase.IDLE:
            self.refused_version = self._api_version
        self._troubles[error.trouble] = self._troubles.get(error.trouble, 0) + 1
        broke_off = self._is_open and error.trouble is Trouble.LOST  # the next try will tell
        if broke_off or error.trouble in _NORMAL:
            logger.debug("%s", error)
        else:
            self.failure = error
            self._failed_within = self._is_open
        return await self._receive(error.trouble)

    def _succeed(self, *, within: bool = False) -> None:
        """Note that a request was answered, or that a line came: which ends its own failures."""
        self._note_activity()
        if self.failure is not None and (within or not self._failed_within):
            self.failure = None
            self._changed(self)

    async def _pause(self) -> None:
        """Wait as long as the API server wants, or longer each time, with jitter."""
        pause_s = self._backoff.next_s()
        if self._retry_after_s:
            pause_s = self._retry_after_s * self._timing.rng.uniform(1, 1.25)
        await asyncio.sleep(pause_s)

    def _words(self, text: str) -> str:
        """Return what others wrote, bounded and printable, without what is ours."""
        return words(self._api.secrets.hide(text))

    def _note_problems(self, key: ObjectKey, problems: tuple[Problem, ...]) -> None:
        """Log what is wrong with an object, once, and not without end in one list."""
        known = self.problems.get(key, ())
        problems = tuple(
            Problem(each.reason, *map(self._words, (each.subject, each.path, each.text)))
            for each in problems
        )
        if not problems and not known:
            return
        self._skipped.subtract({problem.reason for problem in known})
        self._skipped.update({problem.reason for problem in problems})
        if not problems:
            del self.problems[key]
            return
        if key not in self.problems and len(self.problems) >= MOST_PROBLEMS:
            problems = tuple(map(_without_text, sorted({each.reason for each in problems})))
        self.problems[key] = problems
        self._confirmed.add(key)
        for problem in problems:
            if problem not in known and problem.subject:
                self._logged += self._reflector.state is not Phase.WATCHING
                _log(problem, self._logged)


class Backoff:
    """Delays that double, each between half of itself and the whole."""

    def __init__(self, rng: random.Random, first_s: float, most_s: float) -> None:
        """Begin at `first_s` and stay at `most_s`, in seconds."""
        self._rng = rng
        self._first_s = self._delay_s = first_s
        self._most_s = most_s

    def next_s(self) -> float:
        """Return the seconds to wait before the next attempt."""
        delay_s = self._delay_s
        self._delay_s = min(2 * delay_s, self._most_s)
        return delay_s * self._rng.uniform(0.5, 1)

    def reset(self) -> None:
        """Begin anew: it went well for a while."""
        self._delay_s = self._first_s


class _Silence:
    """When a silent watch is dead: it should have ended long ago, or misses its bookmarks."""

    def __init__(self, timing: Timing, timeout_s: float, now_s: float) -> None:
        """Begin with a watch of so many seconds."""
        self._ends_s = now_s + timeout_s + timing.overdue_s
        self._least_s = timing.bookmark_s
        self._interval_s = 0.0
        self._bookmark_s = now_s

    def bookmark(self, now_s: float, *, periodic: bool) -> None:
        """Take a bookmark; the interval is that of those that come by themselves."""
        if periodic:
            self._interval_s = max(self._least_s, now_s - self._bookmark_s)
        self._bookmark_s = now_s

    def limit_s(self, now_s: float, received_s: float) -> float:
        """Return for how many seconds more silence is all right."""
        limit_s = self._ends_s - now_s
        if self._interval_s:
            limit_s = min(limit_s, received_s + _MISSED_BOOKMARKS * self._interval_s - now_s)
        return max(limit_s, 0.0)


@contextlib.asynccontextmanager
async def _within(limit_s: float, trouble: Trouble, text: str) -> AsyncGenerator[None]:
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError as error:
        raise ApiError(trouble, text) from error


@functools.lru_cache(maxsize=64)
def _without_text(reason: str) -> Problem:
    """Return what is kept of one problem of very many: that it is there, in no space."""
    return Problem(reason, "", "", "")


def _log(problem: Problem, number: int) -> None:
    """Log a problem; of one list the first ones only."""
    if number <= _LOGGED_PER_LIST:
        logger.warning("%s: %s: %s", problem.subject, problem.path, problem.text)
    elif number == _LOGGED_PER_LIST + 1:
        logger.warning("there are more such objects; `mcsdns explain NAME` says what is wrong")
