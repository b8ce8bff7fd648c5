"""ServiceImports and EndpointSlices from the watch streams of a Kubernetes API server.

One follower for each kind and namespace. Here is what concerns all of them: which API version
serves the imports, what is wrong in one line, and how old the objects may be.
"""

import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Final, NoReturn

import anyio
import msgspec

from mcsdns.errors import ObjectError, SourceError
from mcsdns.objects.events import Event, Init, InitDone
from mcsdns.objects.model import Kind, Problem
from mcsdns.sources.kubernetes import discovery
from mcsdns.sources.kubernetes.api import ApiError, ApiServer
from mcsdns.sources.kubernetes.auth import Place
from mcsdns.sources.kubernetes.reflector import Trouble
from mcsdns.sources.kubernetes.settings import KubernetesSettings
from mcsdns.sources.kubernetes.watched import Statistics
from mcsdns.sources.kubernetes.watcher import Follower, Timing
from mcsdns.sources.manifests.documents import Located

logger = logging.getLogger(__name__)

_GIVES_UP: Final = {Trouble.THROTTLED, Trouble.UNAVAILABLE, Trouble.EXPIRED, Trouble.TOO_NEW}
"""What a source that is read once waits for; all else ends it."""


class Standing(msgspec.Struct, frozen=True):
    """How the source is doing.

    Attributes:
        reasons: what is wrong, a line each, for people; empty when all is well.
        why: the same in a few words that every client may read.
        imports_only: slices cannot be read at all, imports can.
        crd_gone: the API server has no ServiceImports, though it had.
    """

    reasons: tuple[str, ...] = ()
    why: str = ""
    imports_only: bool = False
    crd_gone: bool = False


class KubernetesSource:
    """Follows an API server and tells a sink; `hear` learns whenever the standing changes."""

    def __init__(
        self,
        cluster: ApiServer,
        sink: Callable[[Event], None],
        settings: KubernetesSettings,
        *,
        hear: Callable[[Standing], None] | None = None,
        complete: Callable[[InitDone], Awaitable[None]] | None = None,
        timing: Timing | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Ask nothing before `run`.

        `complete` takes the end of a list in place of `sink`, and may take several turns for it.
        """
        self.standing = Standing()
        self.api_version = ""
        self.restored = False
        self._cluster = cluster
        self._sink = sink
        self._hear = hear
        self._complete = complete
        self._timing = timing or Timing()
        self._missing_s = settings.missing_s
        rng = rng or random.Random()
        self._followers = [
            Follower(scope, cluster, self, self._timing, rng) for scope in settings.scopes()
        ]
        self._lock = anyio.Lock()
        self._missing_since_s: float | None = None
        self._is_emptied = False
        self._logged: dict[Follower, str] = {}
        self._settled = anyio.Event()
        self._logs = True

    @property
    def name(self) -> str:
        """Say what is followed, for people."""
        version = f"{self.api_version} at " if self.api_version else ""
        return version + self.place.url

    @property
    def place(self) -> Place:
        """Which API server it is."""
        return self._cluster.place

    @property
    def synced(self) -> bool:
        """Whether every list has been complete once."""
        return all(follower.synced for follower in self._followers)

    def fresh_s(self) -> float:
        """Return up to when everything is known, by the clock of the timing."""
        return min(follower.fresh_s for follower in self._followers)

    def problems(self) -> Iterator[Problem]:
        """Iterate over what is wrong with objects."""
        for follower in self._followers:
            for problems in follower.problems.values():
                yield from problems

    def located_problems(self) -> Iterator[Located]:
        """Iterate over what is wrong with objects, as sources of files do; they have no place."""
        return (Located("", problem) for problem in self.problems())

    def statistics(self) -> list[Statistics]:
        """Return the counters of all followers."""
        return [follower.statistics() for follower in self._followers]

    async def run(self) -> NoReturn:
        """Follow until cancelled."""
        try:
            async with anyio.create_task_group() as group:
                for follower in self._followers:
                    group.start_soon(follower.run)
        finally:
            with anyio.CancelScope(shield=True):
                await self._cluster.close()
        raise AssertionError("followers do not end")

    async def load(self) -> None:
        """Read everything once.

        Raises:
            SourceError: it cannot be read.
        """
        self._logs = False  # who asked gets the reason
        async with anyio.create_task_group() as group:
            group.start_soon(self.run)
            await self._settled.wait()
            group.cancel_scope.cancel()
        if not self.synced:
            raise SourceError("; ".join(self.standing.reasons))

    def take(self, event: Event) -> None:
        """Pass an event on; for followers."""
        self._sink(event)

    async def complete(self, event: InitDone) -> None:
        """Pass the end of a list on; for followers."""
        if self._complete:
            await self._complete(event)
        else:
            self._sink(event)

    def changed(self, follower: Follower) -> None:
        """See how the source is doing now; for followers."""
        self._log_change(follower)
        standing = self._stand()
        if standing != self.standing:
            self.standing = standing
            if self._hear:
                self._hear(standing)
        failed = follower.failure is not None and follower.failure.trouble not in _GIVES_UP
        if failed or self.synced:
            self._settled.set()

    async def discover(self, follower: Follower) -> str:
        """Return the API version that serves a kind; for followers.

        Raises:
            ApiError: none does, or it cannot be found out.
        """
        if follower.scope.kind is Kind.ENDPOINT_SLICE:
            return discovery.SLICE_API
        async with self._lock:
            try:
                self.api_version = await self._discover_imports(follower.refused_version)
            except ApiError as error:
                if error.trouble is Trouble.NOT_FOUND:
                    await self._miss_imports()
                else:
                    self._missing_since_s = None  # only what is not there all the time is gone
                raise
            self._missing_since_s = None
            self._is_emptied = False
            return self.api_version

    async def _discover_imports(self, refused: str) -> str:
        """Return the preferred API version; one whose list was not found only if it is the one."""
        fallback = ""
        try:
            async with aclosing(self._served_versions()) as versions:
                async for version in versions:
                    if version != refused:
                        return version
                    fallback = version
        except ObjectError as error:
            raise ApiError(Trouble.UNREADABLE, f"{self.place.url}: {error}") from None
        except ApiError as error:
            if error.trouble is not Trouble.NOT_FOUND and not fallback:
                raise
        if fallback:
            return fallback
        group = discovery.GROUPS[_IMPORTS]
        raise ApiError(
            Trouble.NOT_FOUND,
            f"{self.place.url} has no serviceimports.{group}; install the CRDs of your "
            "implementation of the MCS API",
        )

    async def _served_versions(self) -> AsyncGenerator[str]:
        """Iterate over the API versions that have ServiceImports, the preferred one first."""
        try:
            group = await self._read(discovery.group_path())
        except ApiError as error:
            if error.trouble is not Trouble.FORBIDDEN:
                raise
            async for version in self._try_versions():  # discovery may be closed, objects open
                yield version
            return
        for version in discovery.candidates(group):
            path = f"{discovery.group_path()}/{version}"
            resources = await self._read_if_there(path)
            if resources is not None and discovery.serves_imports(resources):
                yield path.removeprefix("/apis/")

    async def _try_versions(self) -> AsyncGenerator[str]:
        """Find the versions by asking for objects, where discovery is not permitted."""
        namespace = self._followers[0].scope.namespace
        for version in discovery.known_versions():
            path = discovery.path_of(_IMPORTS, version, namespace)
            if await self._read_if_there(path + "?limit=1") is not None:
                yield version

    async def _read_if_there(self, path: str) -> bytes | None:
        try:
            return await self._read(path)
        except ApiError as error:
            if error.trouble is Trouble.NOT_FOUND:
                return None
            raise

    async def _read(self, path: str) -> bytes:
        within_s = self._timing.answer_s
        async with self._cluster.get(path, within_s=within_s) as response:
            with anyio.move_on_after(within_s):
                return await response.read()
        raise ApiError(Trouble.LOST, f"{self.place.url}{path}: no answer in time")

    async def _miss_imports(self) -> None:
        """Note that there are no ServiceImports; after a while that is an empty list.

        Only where there were some: before the first list a missing CRD says nothing.
        """
        imports = [each for each in self._followers if each.scope.kind is _IMPORTS]
        if not (self.restored or any(each.synced for each in imports)):
            return
        now_s = self._timing.clock()
        if self._missing_since_s is None:
            self._missing_since_s = now_s
        elif now_s - self._missing_since_s > self._missing_s and not self._is_emptied:
            self._is_emptied = True
            logger.warning("no ServiceImports since %.0f s: they count as gone", self._missing_s)
            for each in imports:
                self._sink(Init(_IMPORTS, each.scope.namespace))
                await self.complete(InitDone(_IMPORTS, each.scope.namespace))

    def _stand(self) -> Standing:
        failed = [each for each in self._followers if each.failure is not None]
        unread = [each for each in self._followers if not each.synced]
        return Standing(
            tuple(dict.fromkeys(_describe(each) for each in failed)),
            ", ".join(dict.fromkeys(_hint(each) for each in failed or unread)),
            bool(unread) and all(map(_is_barred, unread)),
            self._missing_since_s is not None,
        )

    def _log_change(self, follower: Follower) -> None:
        """Log a failure once, and when it is over; followers that fail alike share a line."""
        before = self._logged.get(follower, "")
        now = _describe(follower) if follower.failure else ""
        if now == before or not self._logs:
            return
        if now and now not in self._logged.values():
            logger.warning("%s", now)
        self._logged[follower] = now
        if not now and not any(self._logged.values()):
            logger.info("the API server answers again: %s", self.name)


_IMPORTS: Final = Kind.SERVICE_IMPORT


def _is_barred(follower: Follower) -> bool:
    """Say whether slices cannot be read at all, as opposed to not yet."""
    failure = follower.failure
    return (
        follower.scope.kind is Kind.ENDPOINT_SLICE
        and failure is not None
        and failure.trouble in {Trouble.FORBIDDEN, Trouble.NOT_FOUND}
    )


def _describe(follower: Follower) -> str:
    """Say what failed and what to do, for the log and for people."""
    failure, scope = follower.failure, follower.scope
    assert failure is not None
    if failure.trouble is Trouble.FORBIDDEN:
        return f"{failure}; {discovery.rule_for(scope.kind, scope.namespace)}"
    return str(failure)


def _hint(follower: Follower) -> str:
    """Say it in a few words that any client may read."""
    plural = discovery.PLURALS[follower.scope.kind]
    if follower.failure is None:
        return f"{plural} have not been read yet"
    return f"{plural}: {follower.failure.trouble.value}"
