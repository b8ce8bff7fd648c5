"""What the fake API server answers to a request: refusals, discovery, lists, watches."""

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from tests.scripted import asked, faults, wire
from tests.scripted.asked import Asked
from tests.scripted.faults import Action
from tests.scripted.history import CompactedError, Plain
from tests.scripted.pages import Pages
from tests.scripted.pipes import CutError, Pipe, reset
from tests.scripted.watches import Watch
from tests.scripted.wire import IMPORT_GROUP, SLICE_GROUP

if TYPE_CHECKING:
    from tests.scripted.api import FakeApi


class Serving:
    """Answers requests from the state of a `FakeApi`."""

    def __init__(self, api: "FakeApi", pages: Pages) -> None:
        self._api = api
        self._pages = pages

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Record a request, take the fault that waits for it, answer."""
        now_s = asyncio.get_running_loop().time()
        query = asked.read(request.method, request.path, request.query, request.headers, now_s)
        self._api.requests.append(query)
        action = self._api.take_fault(query)
        pipe = Pipe(request, action)
        try:
            await self._answer(query, request, action, pipe)
        except CutError:
            pass
        except ConnectionError:
            reset(request)
        return pipe.response if pipe.response.prepared else web.Response()

    async def _answer(
        self, query: Asked, request: web.Request, action: Action | None, pipe: Pipe
    ) -> None:
        match action:
            case faults.Reply(code, body, headers):
                pipe.response.headers.update(headers)
                await self._reply(pipe, body, code)
            case faults.Hang(headers):
                if headers:
                    await pipe.open()
                await self._api.calm.wait()  # unless the client goes away before
                reset(request)
            case faults.InStream(status, then):
                await pipe.open()
                await pipe.write(wire.event("ERROR", status) + then)
            case _:
                await self._serve(query, request, action, pipe)

    async def _serve(
        self, query: Asked, request: web.Request, action: Action | None, pipe: Pipe
    ) -> None:
        refused = self._refusal(query)
        if refused is not None:
            await self._reply(pipe, refused)
        elif query.nature == faults.DISCOVERY:
            await self._reply(pipe, self._discovered(query))
        elif query.verb == "watch":
            await self._watch(query, request, action, pipe)
        else:
            await self._list(query, action, pipe)

    async def _reply(self, pipe: Pipe, body: Plain | str, code: int = 0) -> None:
        """Answer with one document; a Status says its own code."""
        if body == wire.not_found() and self._api.plain_404:
            body = wire.PLAIN_404
        if isinstance(body, str):
            pipe.response.content_type = "text/plain"
            octets, code = body.encode(), code or 404
        else:
            octets = wire.line(body)
            code = code or (body["code"] if body["kind"] == "Status" else 200)
            after_s = body.get("details", {}).get("retryAfterSeconds")
            if after_s:
                pipe.response.headers["Retry-After"] = str(after_s)
        await pipe.open(len(octets), code)
        await pipe.write(octets)

    # Refusals and discovery

    def _refusal(self, query: Asked) -> Plain | None:
        """401, 403 and 404, in the order of the real one."""
        token = self._api.token
        if token and query.headers.get("Authorization") != f"Bearer {token}":
            return wire.unauthorized()
        if query.resource and not self._may(query):
            return wire.forbidden(query.verb, query.group, query.resource, query.namespace)
        return None if self._is_served(query) else wire.not_found()

    def _may(self, query: Asked) -> bool:
        verb, resource = query.verb, query.resource
        wanted = {(verb, resource, ""), (verb, resource, query.namespace)}
        return not self._api.grants.isdisjoint(wanted)

    def _is_served(self, query: Asked) -> bool:
        versions = self._resources_of(query.group)
        if query.nature == faults.DISCOVERY:
            return bool(versions) if not query.version else query.version in versions
        return bool(query.resource) and query.resource in versions.get(query.version, [])

    def _resources_of(self, group: str) -> dict[str, list[str]]:
        """What each version of a group serves."""
        if group == SLICE_GROUP:
            return {"v1": ["endpointslices"]}
        if group != IMPORT_GROUP:
            return {}
        served = {version: ["serviceexports", "serviceimports"] for version in self._api.versions}
        listed = {version: ["serviceexports"] for version in self._api.listed_versions}
        return listed | served

    def _discovered(self, query: Asked) -> Plain:
        versions = self._resources_of(query.group)
        if not query.version:
            return wire.group(query.group, list(versions))
        return wire.resources(f"{query.group}/{query.version}", versions[query.version])

    # Lists

    async def _list(self, query: Asked, action: Action | None, pipe: Pipe) -> None:
        if isinstance(action, faults.Garbage):
            await pipe.open(len(action.bytes))
            await pipe.write(action.bytes)
            return
        page = self._pages.page(query, action)
        if isinstance(action, faults.HalfPage):
            octets = wire.line(page)
            await pipe.open(len(octets) // 2)
            await pipe.write(octets[: len(octets) // 2])
            return
        await self._reply(pipe, page)

    # Watches

    async def _watch(
        self, query: Asked, request: web.Request, action: Action | None, pipe: Pipe
    ) -> None:
        refused = self._watch_refusal(query)
        if refused is not None:
            await self._reply(pipe, refused)
            return
        api = self._api
        watch = Watch(query, request)
        self._begin(watch, query, action)
        api.watches.append(watch)
        timeout_s = api.watch_timeout_s or float(query.query.get("timeoutSeconds") or 0) or 1800
        timer = asyncio.get_running_loop().call_later(timeout_s, watch.end)
        try:
            await pipe.open()
            await watch.run(pipe, lambda: api.bookmark_interval_s, lambda: api.version)
        finally:
            timer.cancel()
            api.watches.remove(watch)

    def _watch_refusal(self, query: Asked) -> Plain | None:
        """What is wrong with a watch, where it is said by HTTP status."""
        if "sendInitialEvents" in query.query and (
            self._api.streaming_lists == "422"
            or query.query.get("resourceVersionMatch") != "NotOlderThan"
        ):
            return wire.no_watch_list()
        error = self._version_error(query)
        if error is None or self._form_of(error) != "status":
            return None
        return error

    def _version_error(self, query: Asked) -> Plain | None:
        """410 or 504 for the version that a watch begins at."""
        api, wanted = self._api, query.resource_version
        if wanted > api.version:
            return wire.too_large(wanted, api.version, api.retry_after_s)
        if wanted and query.nature == faults.WATCH and wanted < api.history.floor:
            return wire.expired(api.expired_reason, wanted, api.history.floor)
        return None

    def _form_of(self, error: Plain) -> str:
        return self._api.expired_as if error["code"] == 410 else self._api.future_versions

    def _begin(self, watch: Watch, query: Asked, action: Action | None) -> None:
        """Queue what a watch starts with."""
        if isinstance(action, faults.Garbage):
            watch.send(action.bytes)
        error = self._version_error(query)
        if query.nature == faults.STREAM and self._api.streaming_lists == "error":
            why = "a watch stream was requested by the client but the required storage feature"
            error = wire.status(500, "InternalError", f"{why} RequestWatchProgress is disabled")
        if error is not None and self._form_of(error) != "hold":
            watch.send(wire.event("ERROR", error))
            watch.end()
        elif query.nature == faults.STREAM or query.takes_any_version:
            self._send_initial(watch, query, action)
        else:
            self._send_backlog(watch)

    def _send_initial(self, watch: Watch, query: Asked, action: Action | None) -> None:
        view = watch.view
        is_empty = isinstance(action, faults.EmptyList)
        for item in [] if is_empty else self._api.objects(view.kind, view.namespace):
            if view.selects(item):
                watch.send(view.event("ADDED", item))
        is_ended = not isinstance(action, faults.NoEndBookmark) and watch.wants_bookmarks
        if query.nature == faults.STREAM and is_ended:
            watch.send(view.bookmark(self._api.version, initial_end=True))

    def _send_backlog(self, watch: Watch) -> None:
        try:
            changes = self._api.history.since(watch.opened_at)
        except CompactedError:  # pragma: no cover - refused before
            return
        for change in changes:
            watch.tell(change)
