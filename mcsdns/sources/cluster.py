"""The API server as we reach it: one session, and a clear line for each way it fails.

HTTP is that of kubernetes_asyncio (aiohttp below it), its answers are read raw. This file and
`identity` are the ones that touch their loosely typed objects.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator, Mapping
from typing import Any, Final

import aiohttp
import anyio

from mcsdns import __version__
from mcsdns.errors import ConfigError, SourceError
from mcsdns.sources.identity import Access, Identity, IdentityError
from mcsdns.sources.reflector import Trouble
from mcsdns.sources.responses import read_status

_SPARE_CONNECTIONS: Final = 4
"""Connections for discovery, besides one for each watch."""
_CONNECT_S: Final = 10.0
_MAX_STATUS_BYTES: Final = 1 << 16


class ApiError(SourceError):
    """The API server could not be asked, or did not do it.

    Attributes:
        trouble: which of the ways to fail. retry_after_s: when to ask again, 0 if not said.
    """

    def __init__(self, trouble: Trouble, why: str, retry_after_s: float = 0.0) -> None:
        super().__init__(why)
        self.trouble = trouble
        self.retry_after_s = retry_after_s


class Response:
    """An answer that is being read."""

    def __init__(self, response: Any, url: str) -> None:  # noqa: ANN401 - of aiohttp
        self._response = response
        self._url = url

    async def read(self) -> bytes:
        """Read all of it.

        Raises:
            ApiError: the connection broke.
        """
        with _failures(self._url):
            octets: bytes = await self._response.read()
            return octets

    async def read_some(self) -> bytes:
        """Read what has arrived, at least one octet; empty at the end.

        Raises:
            ApiError: the connection broke.
        """
        with _failures(self._url):
            octets: bytes = await self._response.content.readany()
            return octets


class _Session:
    """One pool of connections with one identity; closed when it is outdated and nobody reads."""

    def __init__(self, configuration: Any, connections: int) -> None:  # noqa: ANN401
        from kubernetes_asyncio.client.rest import RESTClientObject  # noqa: PLC0415

        self._configuration = configuration
        self._client: Any = RESTClientObject(configuration, maxsize=connections)
        self.readers = 0
        self.is_outdated = False

    async def get(self, url: str, parameters: Mapping[str, str]) -> Any:  # noqa: ANN401
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"mcsdns/{__version__}",
        }
        token = await self._configuration.get_api_key_with_prefix("BearerToken")
        if token:
            headers["Authorization"] = token.strip()
        return await self._client.request(
            "GET",
            url,
            query_params=list(parameters.items()),
            headers=headers,
            _preload_content=False,
            _request_timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
        )

    async def close(self) -> None:
        await self._client.close()


class Cluster:
    """One API server and our identity there.

    Attributes:
        place: which one it is; known once made, before anything is asked.
    """

    def __init__(self, access: Access, watches: int = 2) -> None:
        """Take how to reach it, and how many watches will be open at the same time.

        Raises:
            ConfigError: nothing says where it is.
        """
        self._identity = Identity(access)
        self.place = self._identity.place
        self._connections = watches + _SPARE_CONNECTIONS
        self._session: _Session | None = None
        self._lock = anyio.Lock()

    @contextlib.asynccontextmanager
    async def get(
        self, path: str, parameters: Mapping[str, str] | None = None, *, within_s: float
    ) -> AsyncGenerator[Response]:
        """Ask for a path; the headers of the answer must come `within_s`.

        Raises:
            ApiError: no connection, or another status than 200.
        """
        url = self.place.url
        session = await self._enter()
        try:
            with _failures(url):
                async with asyncio.timeout(within_s):
                    response = await session.get(url + path, parameters or {})
            async with contextlib.aclosing(_Closing(response)):
                if response.status != 200:  # noqa: PLR2004
                    raise await _refusal(response, url, path)
                yield Response(response, url)
        except ApiError as error:
            is_ours = isinstance(error.__cause__, aiohttp.ClientSSLError)
            session.is_outdated |= is_ours or error.trouble is Trouble.UNAUTHORIZED
            raise
        finally:
            session.readers -= 1
            if session.is_outdated and not session.readers:
                await session.close()

    async def close(self) -> None:
        """End the session; what is being read breaks."""
        session, self._session = self._session, None
        if session:
            await session.close()

    async def _enter(self) -> _Session:
        """Return the session, with a fresh identity where the last one was not accepted."""
        async with self._lock:
            session = self._session
            if session is None or session.is_outdated:
                session = self._session = await self._make_session()
            session.readers += 1
            return session

    async def _make_session(self) -> _Session:
        try:
            return _Session(await self._identity.configuration(), self._connections)
        except (IdentityError, ConfigError, OSError) as error:
            raise ApiError(Trouble.UNAUTHORIZED, str(error)) from error


class _Closing:
    """Lets go of an answer: what was not read to its end takes its connection along."""

    def __init__(self, response: Any) -> None:  # noqa: ANN401 - of aiohttp
        self._response = response

    async def aclose(self) -> None:
        self._response.release() if self._response.content.at_eof() else self._response.close()


async def _refusal(response: Any, url: str, path: str) -> ApiError:  # noqa: ANN401 - of aiohttp
    """Say why the API server did not do it."""
    with _failures(url):
        async with asyncio.timeout(_CONNECT_S):
            octets: bytes = await response.content.read(_MAX_STATUS_BYTES)
    status = read_status(octets, response.status)
    after_s = status.retry_after_s
    header: str = response.headers.get("Retry-After", "")
    if header.isdecimal():
        after_s = float(header)
    said = " ".join((status.message or response.reason or "").split())
    why = f"{url}{path}: {response.status} {said}".rstrip()
    return ApiError(status.trouble, why, after_s)


@contextlib.contextmanager
def _failures(url: str) -> Generator[None]:
    """Turn what fails below HTTP into an ApiError that says what to look at."""
    try:
        yield
    except TimeoutError as error:
        raise ApiError(Trouble.LOST, f"{url}: no answer in time") from error
    except aiohttp.ClientError as error:
        raise ApiError(Trouble.LOST, f"{url}: {_why(error)}") from error
    except (OSError, ValueError) as error:
        raise ApiError(Trouble.LOST, f"{url}: {error}") from error


def _why(error: aiohttp.ClientError) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return (
                f"its certificate is not accepted: {error.certificate_error}; "
                "check certificate-authority and tls-server-name of the kubeconfig"
            )
        case aiohttp.ClientConnectorSSLError():
            return f"TLS fails: {error}; is it https, and the client certificate one that it takes?"
        case aiohttp.ClientProxyConnectionError():
            return f"the proxy cannot be reached: {error}; check proxy-url and HTTPS_PROXY"
        case aiohttp.ClientHttpProxyError():
            return f"the proxy refuses: {error.status} {error.message}; check HTTPS_PROXY, NO_PROXY"
        case aiohttp.ClientConnectorDNSError():
            return f"the name cannot be resolved: {error.os_error}; check the server's name"
        case aiohttp.ClientConnectorError():
            return f"no connection: {error.os_error.strerror or error.os_error}; is it up?"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return "it closed the connection"
        case _:
            return f"the connection broke: {error or type(error).__name__}"
