"""API servers of tests behind TLS, kubeconfigs that lead to them, and what must stay secret."""

import asyncio
import contextlib
import json
import logging
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from aiohttp import web

from mcsdns.sources.kubernetes.api import ApiServer
from mcsdns.sources.kubernetes.auth import Access
from mcsdns.sources.kubernetes.codec import ApiError
from tests.certificates import Authority, Certificate
from tests.scripted.runner import Handle, runner_of
from tests.waiting import DEADLINE_S

SECRET = "hush"
"""Every token and password of these tests has this in it."""

Plain = dict[str, Any]
Make = Callable[..., Access]


@dataclass(frozen=True)
class Request:
    """What a server was asked."""

    path: str
    headers: Mapping[str, str]
    client: str

    @property
    def authorization(self) -> str:
        return self.headers.get("Authorization", "")


class Secured:
    """A server on loopback, in the event loop of the test; without a context it is plain HTTP.

    Attributes:
        requests: oldest first; `client` is the common name of a client's certificate.
        answer: what it answers; 200 and `{}` at first.
        token: the only one that it takes; None takes all.
    """

    def __init__(self, context: ssl.SSLContext | None, host: str = "127.0.0.1") -> None:
        self._context = context
        self._host = host
        self.port = 0
        self.requests: list[Request] = []
        self.answer: Handle = ok
        self.token: str | None = None

    @property
    def url(self) -> str:
        return f"http{'s' if self._context else ''}://{self._host}:{self.port}"

    async def __aenter__(self) -> "Secured":
        self._runner = await runner_of(self._handle)
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._context)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        shown = request.get_extra_info("peercert") or {}
        names = dict(pair for each in shown.get("subject", ()) for pair in each)
        asked = Request(request.path_qs, dict(request.headers), names.get("commonName", ""))
        self.requests.append(asked)
        if self.token is not None and asked.authorization != f"Bearer {self.token}":
            return refused(401, "Unauthorized", "Unauthorized")
        return await self.answer(request)


async def ok(_: web.Request) -> web.StreamResponse:
    return web.json_response({})


def refused(code: int, reason: str, message: str, **details: Any) -> web.Response:
    """A Status, as API servers answer."""
    status = {"kind": "Status", "code": code, "reason": reason, "message": message}
    return web.json_response(status | {"details": details}, status=code)


@contextlib.asynccontextmanager
async def raw_server(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """A port where connections are handled by a coroutine; they end with the test."""

    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await handle(reader, writer)
        writer.close()

    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(closing(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


# Kubeconfigs.


def config_of(
    server: str, cluster: Plain | None = None, user: Plain | None = None, name: str = "test"
) -> Plain:
    """A kubeconfig of one context; its cluster, user and context are called alike."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server, **(cluster or {})}}],
        "users": [{"name": name, "user": user or {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


def written(path: Path, config: object) -> Path:
    """Write a file, as JSON (which is YAML too) or as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    return path


def shell(folder: Path, script: str) -> Plain:
    """A user by an exec plugin."""
    path = written(folder / "plugin", f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(path)}}


# Asking.


async def ask(access: Access, path: str = "/version", *, within_s: float = DEADLINE_S) -> bytes:
    """Ask once by a cluster of its own."""
    async with asked_by(access) as cluster:
        return await get(cluster, path, within_s=within_s)


async def get(cluster: ApiServer, path: str = "/version", *, within_s: float = DEADLINE_S) -> bytes:
    async with cluster.request(path, within_s=within_s) as response:
        return await response.read()


@contextlib.asynccontextmanager
async def asked_by(access: Access) -> AsyncIterator[ApiServer]:
    cluster = ApiServer(access)
    try:
        yield cluster
    finally:
        await cluster.close()


async def refusal(
    access: Access, path: str = "/version", *, within_s: float = DEADLINE_S
) -> ApiError:
    """How it fails, and that it tells no secret and nothing of what is below."""
    with pytest.raises(ApiError) as caught:
        await ask(access, path, within_s=within_s)
    assert list(chain(caught.value)) == [caught.value]
    assert_silent(caught.value)
    return caught.value


def lacks(error: BaseException, *words: str) -> list[str]:
    """The words that a line should have and has not; a line it must be.

    A word without a slash counts outside of paths only: those of a test hold its name.
    """
    text = str(error)
    assert "\n" not in text, text
    bare = re.sub(r"/\S*", "", text)
    return [
        f"{word!r} is not in: {text}"
        for word in words
        if word not in (text if "/" in word else bare)
    ]


# Secrets.


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that led to it, as a traceback shows them."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def assert_silent(error: BaseException, *secrets: str) -> None:
    for each in chain(error):
        for secret in (SECRET, *secrets):
            assert secret not in str(each), f"{type(each).__name__} tells a secret: {each}"


@pytest.fixture
def silent(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No log record of the test, of whichever level, tells a secret."""
    caplog.set_level(logging.DEBUG)
    yield
    formatter = logging.Formatter()
    for record in caplog.get_records("call"):
        text = formatter.format(record)
        assert SECRET not in text, f"{record.name} tells a secret: {text}"
        assert "PRIVATE KEY" not in text


# An API server of every test; import these and `authority` into a module.

LOOPBACK = ("IP:127.0.0.1", "DNS:localhost")


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever runs the tests may have proxies and a netrc."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("NETRC", str(written(tmp_path / "netrc", "")))


@pytest.fixture(scope="session")
def certificate(authority: Authority) -> Certificate:
    return authority.server(*LOOPBACK)


@pytest.fixture
async def api(authority: Authority, certificate: Certificate) -> AsyncIterator[Secured]:
    async with Secured(authority.server_context(certificate, ask_client=True)) as served:
        yield served


@pytest.fixture
def access(api: Secured, authority: Authority, tmp_path: Path) -> Make:
    """Make access to the API server of the test, by a kubeconfig that is changed a little."""

    def make(
        user: Plain | None = None,
        cluster: Plain | None = None,
        *,
        url: str = "",
        trust: bool = True,
    ) -> Access:
        trusted = {"certificate-authority": str(authority.ca.cert)} if trust else {}
        config = config_of(url or api.url, trusted | (cluster or {}), user)
        return Access(kubeconfig=str(written(tmp_path / "config", config)))

    return make
