"""The API server as we reach it: one session, and a clear line for each way it fails.

HTTP is that of kubernetes_asyncio (aiohttp below it), its answers are read raw. This file and
`identity` are the ones that touch their loosely typed objects.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncGenerator, Generator, Mapping
from typing import Any, Final

import aiohttp
import anyio

from mcsdns import __version__
from mcsdns.sources.kubernetes import codec
from mcsdns.sources.kubernetes.auth import Access, Identity, IdentityError
from mcsdns.sources.kubernetes.codec import (
    ApiError,
    TooLargeError,
    clamp_retry_after,
    read_status,
    words,
)
from mcsdns.sources.kubernetes.proxy import proxy_for
from mcsdns.sources.kubernetes.reflector import Trouble
from mcsdns.sources.kubernetes.secrets import Secrets

_SPARE_CONNECTIONS: Final = 4
"""Connections for discovery, besides one for each watch."""
CONNECT_S: Final = 10.0
_TURNS_TO_CLOSE: Final = 3
_MAX_STATUS_BYTES: Final = 1 << 16
_READ_BUFFER_BYTES: Final = 1 << 21
_DONE: Final = (200, 201)
_KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""An API server that is gone without a word is found out after 30 seconds, not after bookmarks."""
_CHECK_PROXY: Final = "check proxy-url of the kubeconfig, HTTPS_PROXY and NO_PROXY"


class ApiResponse:
    """An answer that is being read; it may quote our secrets."""

    def __init__(self, response: Any, url: str) -> None:  # noqa: ANN401 - of aiohttp
        self._response = response
        self._url = url

    async def read(self) -> bytes:
        """Read all of it, up to `codec.MOST_BYTES`.

        Raises:
            ApiError: the connection broke, or (`TooLargeError`) there is more.
        """
        chunks: list[bytes] = []
        size_bytes = 0
        while chunk := await self.read_some():
            chunks.append(chunk)
            size_bytes += len(chunk)
            if size_bytes > codec.MOST_BYTES:
                raise TooLargeError(self._url, "an answer")
        return b"".join(chunks)

    async def read_some(self) -> bytes:
        """Read what has arrived, at least one octet; empty at the end.

        Raises:
            ApiError: the connection broke.
        """
        with _failures(self._url):
            octets: bytes = await self._response.content.readany()
            return octets


class _Response(aiohttp.ClientResponse):
    """An answer that takes its connection along where it was not read to its end."""

    def close(self) -> None:
        """End the connection at once, also where a cancelled request waits for its headers."""
        if self.connection is not None and self.connection.transport is not None:
            self.connection.transport.abort()  # a polite end of TLS may outlive the event loop
        super().close()


class _Session:
    """One pool of connections with one identity; closed when it is outdated and nobody reads.

    The library makes the connector with its TLS; requests are ours: without redirects, which could
    lead anywhere, without ~/.netrc, and with NO_PROXY as client-go reads it.
    """

    def __init__(
        self,
        configuration: Any,  # noqa: ANN401
        connections: int,
        url: str,
        secrets: Secrets,
    ) -> None:
        from kubernetes_asyncio.client.rest import RESTClientObject  # noqa: PLC0415

        self._configuration = configuration
        self._library: Any = RESTClientObject(configuration, maxsize=connections)
        self._session = aiohttp.ClientSession(
            connector=self._library.pool_manager.connector,
            connector_owner=False,
            response_class=_Response,
            read_bufsize=_READ_BUFFER_BYTES,
            auto_decompress=False,  # a thousandfold; we ask for `identity`, see `_check_coding`
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
        )
        self._proxy: str | None = configuration.proxy or proxy_for(url, os.environ)
        self._secrets = secrets
        if self._proxy:
            secrets.know_proxy(self._proxy)
        self.readers = 0
        self.is_outdated = False

    async def request(
        self, url: str, parameters: Mapping[str, str], document: bytes
    ) -> aiohttp.ClientResponse:
        """Send a request, a POST where there is a document, and wait for the head of the answer."""
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"mcsdns/{__version__}",
        }
        if document:
            headers["Content-Type"] = "application/json"
        token: str | None = await self._configuration.get_api_key_with_prefix("BearerToken")
        if token:
            headers["Authorization"] = token.strip()
            self._secrets.know(token)
        response = await self._session.request(
            "POST" if document else "GET",
            url,
            params=parameters,
            data=document or None,
            headers=headers,
            allow_redirects=False,
            proxy=self._proxy,
            proxy_headers=self._configuration.proxy_headers,
            server_hostname=self._configuration.tls_server_name,
        )
        if response.connection is not None and response.connection.transport is not None:
            for level, option, value in _KEEPALIVE:
                sock = response.connection.transport.get_extra_info("socket")
                sock.setsockopt(level, option, value)
        return response

    async def close(self) -> None:
        """End all connections."""
        await self._session.close()
        await self._library.close()


class ApiServer:
    """One API server and our identity there.

    Attributes:
        place: which one it is; known once made, before anything is asked.
        secrets: what it was shown, and may quote.
    """

    def __init__(self, access: Access, watches: int = 2) -> None:
        """Take how to reach it, and how many watches will be open at the same time.

        Raises:
            ConfigError: nothing says where it is.
        """
        self._identity = Identity(access)
        self.place = self._identity.place
        self._connections = watches + _SPARE_CONNECTIONS
        self.secrets = Secrets()
        self._session: _Session | None = None
        self._lock = anyio.Lock()

    async def read(self, path: str, *, within_s: float, document: bytes = b"") -> bytes:
        """Read all that a path has, or what it answers to a JSON document that is posted to it.

        The headers must come `within_s`, and the rest in as long again.

        Raises:
            ApiError: no connection, no answer in time, or it is refused.
        """
        async with self.request(path, document=document, within_s=within_s) as response:
            with anyio.move_on_after(within_s):
                return self.secrets.hide_octets(await response.read())
        raise ApiError(Trouble.LOST, f"{self.place.url}{path}: no answer in time")

    @contextlib.asynccontextmanager
    async def request(
        self,
        path: str,
        parameters: Mapping[str, str] | None = None,
        *,
        within_s: float,
        document: bytes = b"",
    ) -> AsyncGenerator[ApiResponse]:
        """Ask for a path, or post a JSON document to it; the headers must come `within_s`.

        Raises:
            ApiError: no connection, or it is refused.
        """
        url = self.place.url
        session = await self._enter()
        try:
            with _failures(url):
                async with asyncio.timeout(within_s):
                    response = await session.request(url + path, parameters or {}, document)
            try:
                _check_coding(response, url)
                if response.status not in _DONE:
                    raise await _refusal(response, url, path, self.secrets)
                yield ApiResponse(response, url)
            finally:
                if response.content.at_eof():
                    response.release()
                else:
                    response.close()
        except ApiError as error:
            session.is_outdated |= error.of_identity
            error.args = (self.secrets.hide(str(error)),)
            raise
        finally:
            session.readers -= 1
            if session.is_outdated and not session.readers:
                await session.close()

    async def close(self) -> None:
        """End the session; what is being read breaks."""
        self._identity.close()
        session, self._session = self._session, None
        if session:
            await session.close()
            for _ in range(_TURNS_TO_CLOSE):
                await asyncio.sleep(0)  # transports are closed by the loop

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
            configuration = await self._identity.configuration()
            return _Session(configuration, self._connections, self.place.url, self.secrets)
        except IdentityError as error:
            why = words(self.secrets.hide(str(error)))  # it may quote what a plugin printed
            raise ApiError(Trouble.UNAUTHORIZED, why) from None
        except (OSError, ValueError) as error:  # of the ssl module, which names no file
            reason = getattr(error, "reason", None) or type(error).__name__
            raise ApiError(
                Trouble.UNAUTHORIZED,
                f"{self.place.url}: TLS cannot be set up ({reason}); check certificate-authority, "
                "client-certificate and client-key of the kubeconfig, which must be PEM and fit",
            ) from None


def _check_coding(response: Any, url: str) -> None:  # noqa: ANN401 - of aiohttp
    """Refuse an answer that is compressed: none was asked for, and octets are bounded as read."""
    coding: str = response.headers.get("Content-Encoding", "")
    if coding.strip().lower() not in {"", "identity"}:
        raise ApiError(
            Trouble.UNREADABLE,
            f"{url}: the answer is compressed ({words(coding)}), which was not asked for; what "
            "stands between us and the API server must not do that",
        )


async def _refusal(
    response: Any,  # noqa: ANN401 - of aiohttp
    url: str,
    path: str,
    secrets: Secrets,
) -> ApiError:
    """Say why the API server did not do it."""
    octets = b""
    with _failures(url):
        async with asyncio.timeout(CONNECT_S):
            while len(octets) < _MAX_STATUS_BYTES and (some := await response.content.readany()):
                octets += some
    status = read_status(octets[:_MAX_STATUS_BYTES], response.status, secrets.hide)
    after_s = status.retry_after_s
    header: str = response.headers.get("Retry-After", "")
    if header.isdecimal():
        after_s = clamp_retry_after(float(header))
    if status.trouble is not Trouble.THROTTLED:
        after_s = 0.0  # a server that starts says 5 s with its 503, and is there before
    said = words(secrets.hide(status.message or response.reason or ""))
    why = f"{url}{path}: {response.status} {said}".rstrip()
    if status.trouble is Trouble.UNAUTHORIZED:
        why += "; the API server does not know the token or certificate that we show"
    return ApiError(status.trouble, why, after_s)


@contextlib.contextmanager
def _failures(url: str) -> Generator[None]:
    """Turn what fails below HTTP into an ApiError that says what to look at.

    Nothing is chained: the errors below hold the proxy's URL, which may have a password in it.
    """
    try:
        yield
    except TimeoutError:
        raise ApiError(Trouble.LOST, f"{url}: no answer in time") from None
    except aiohttp.ClientError as error:
        is_tls = isinstance(error, aiohttp.ClientSSLError)
        raise ApiError(Trouble.LOST, f"{url}: {_why(error)}", of_identity=is_tls) from None
    except OSError as error:
        raise ApiError(Trouble.LOST, f"{url}: {error.strerror or type(error).__name__}") from None
    except ApiError:
        raise
    except Exception as error:  # of a token file that is being replaced, of a malformed proxy
        why = f"the request cannot be made ({type(error).__name__}); check the token and the proxy"
        raise ApiError(Trouble.UNAUTHORIZED, f"{url}: {why}") from None


def _why(error: aiohttp.ClientError) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return (
                f"its certificate is not accepted: {error.certificate_error}; "
                "check certificate-authority and tls-server-name of the kubeconfig"
            )
        case aiohttp.ClientConnectorSSLError():
            return f"TLS fails ({_system(error)}); is it https, and our certificate one it takes?"
        case aiohttp.ClientProxyConnectionError():
            where = f"{error.host}:{error.port}"
            return f"the proxy cannot be reached ({where}): {_system(error)}; {_CHECK_PROXY}"
        case aiohttp.ClientHttpProxyError():
            return f"the proxy refuses: {error.status} {error.message}; {_CHECK_PROXY}"
        case aiohttp.ClientConnectorDNSError():
            return f"the name cannot be resolved: {_system(error)}; check the server's name"
        case aiohttp.ClientConnectorError():
            return f"no connection: {_system(error)}; is it up?"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return "it closed the connection"
        case aiohttp.ClientOSError():
            return f"the connection broke: {error.strerror}"
        case aiohttp.InvalidURL():
            return f"the URL of the server or its proxy is malformed; {_CHECK_PROXY}"
        case _:
            return f"the connection broke ({type(error).__name__})"


def _system(error: aiohttp.ClientConnectorError) -> str:
    """Return the system's words: asyncio's name the address again and not the reason."""
    number = error.os_error.errno
    return os.strerror(number) if number and number > 0 else str(error.os_error.strerror)
