"""An API server that gives no answer, or one that is none: a line for each way."""

import asyncio
import json

import pytest
from aiohttp import web

from mcsdns.errors import ConfigError
from mcsdns.sources.kubernetes import api as cluster_module
from mcsdns.sources.kubernetes.api import ApiServer
from mcsdns.sources.kubernetes.reflector import Trouble
from tests.certificates import Authority, Certificate, authority
from tests.scripted import wire
from tests.secured import (
    Make,
    Secured,
    access,
    api,
    assert_silent,
    certificate,
    lacks,
    no_proxies,
    raw_server,
    refusal,
    refused,
    silent,
)
from tests.waiting import free_port

__all__ = ["access", "api", "authority", "certificate", "no_proxies", "silent"]
pytestmark = pytest.mark.usefixtures("silent", "no_proxies")

TOKEN = "hush-token"


# No answer.


async def test_refused_connection_is_told(access: Make) -> None:
    url = f"https://127.0.0.1:{free_port()}"
    error = await refusal(access({"token": TOKEN}, url=url))
    assert error.trouble is Trouble.LOST
    assert not error.of_identity
    assert not lacks(error, url, "no connection", "is it up?")


async def test_refused_connection_is_called_so(access: Make) -> None:
    error = await refusal(access(url=f"https://127.0.0.1:{free_port()}"))
    assert not lacks(error, "refused")


async def test_name_that_does_not_resolve_is_told(access: Make) -> None:
    url = "https://api.invalid:6443"
    error = await refusal(access({"token": TOKEN}, url=url))
    assert error.trouble is Trouble.LOST
    assert not lacks(error, url, "resolve", "name")


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:6443", "localhost", "ftp://127.0.0.1", "https://", "https://[", "//127.0.0.1",
     "https://127.0.0.1:port", "https://127.0.0.1:0", "https://127.0.0.1:65536", "https://:6443"],
)  # fmt: skip
def test_server_that_is_no_url_is_told_at_the_start(access: Make, url: str) -> None:
    given = access({"token": TOKEN}, url=url)
    with pytest.raises(ConfigError) as caught:
        ApiServer(given)
    assert not lacks(caught.value, given.kubeconfig, "'test'", "http or https URL")


def test_password_in_the_url_of_a_server_is_not_told(access: Make) -> None:
    with pytest.raises(ConfigError) as caught:
        ApiServer(access(url=f"https://me:hush@127.0.0.1:{free_port()}"))
    assert_silent(caught.value)


async def test_server_of_an_impossible_name_is_told(access: Make) -> None:
    url = "https://a..b"
    assert not lacks(await refusal(access({"token": TOKEN}, url=url)), url)


async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Listen and say nothing, until the other side has enough."""
    while await reader.read(65536):
        pass


async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def test_server_that_never_speaks_tls_is_given_up(access: Make) -> None:
    async with raw_server(silence) as port:
        url = f"https://127.0.0.1:{port}"
        error = await refusal(access({"token": TOKEN}, url=url), within_s=0.1)
    assert error.trouble is Trouble.LOST
    assert not lacks(error, url, "no answer in time")


async def test_proxy_that_never_answers_is_given_up(api: Secured, access: Make) -> None:
    async with raw_server(silence) as port:
        cluster = {"proxy-url": f"http://127.0.0.1:{port}"}
        error = await refusal(access(cluster=cluster), within_s=0.1)
    assert not lacks(error, api.url, "no answer in time")


async def test_server_that_never_answers_is_given_up(api: Secured, access: Make) -> None:
    never = asyncio.Event()

    async def answer(_: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    api.answer = answer
    error = await refusal(access({"token": TOKEN}), within_s=0.1)
    assert error.trouble is Trouble.LOST
    assert not lacks(error, api.url, "no answer in time")


async def test_refusal_whose_reason_never_comes_is_given_up(
    api: Secured, access: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=503)
        await response.prepare(request)
        await never.wait()
        return response

    api.answer = answer
    monkeypatch.setattr(cluster_module, "CONNECT_S", 0.1)
    error = await refusal(access({"token": TOKEN}))
    assert not lacks(error, api.url, "no answer in time")


async def test_server_that_hangs_up_is_told(access: Make) -> None:
    async with raw_server(hang_up) as port:
        url = f"https://127.0.0.1:{port}"
        error = await refusal(access({"token": TOKEN}, url=url))
    assert error.trouble is Trouble.LOST
    assert not lacks(error, url)


async def test_server_that_hangs_up_after_the_request_is_told(api: Secured, access: Make) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    api.answer = answer
    error = await refusal(access({"token": TOKEN}))
    assert not lacks(error, api.url, "closed")


async def test_answer_that_breaks_off_is_told(api: Secured, access: Make) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    api.answer = answer
    error = await refusal(access({"token": TOKEN}))
    assert error.trouble is Trouble.LOST
    assert not lacks(error, api.url)


async def test_server_that_is_no_http_is_told(access: Make) -> None:
    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        await writer.drain()

    async with raw_server(speak) as port:
        for scheme in ("http", "https"):
            url = f"{scheme}://127.0.0.1:{port}"
            error = await refusal(access({"token": TOKEN}, url=url))
            assert not lacks(error, url)


# Answers that are none.


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("is_secure", [True, False], ids=["https", "http"])
async def test_redirect_is_not_followed(
    api: Secured,
    access: Make,
    authority: Authority,
    certificate: Certificate,
    code: int,
    *,
    is_secure: bool,
) -> None:
    context = authority.server_context(certificate) if is_secure else None
    async with Secured(context) as other:

        async def answer(_: web.Request) -> web.StreamResponse:
            return web.Response(status=code, headers={"Location": f"{other.url}/sign-in"})

        api.answer = answer
        error = await refusal(access({"token": TOKEN}))
        assert error.trouble is Trouble.UNAVAILABLE
        assert not lacks(error, f"{api.url}/version", str(code))
        assert other.requests == []


async def test_redirect_to_itself_is_not_followed(api: Secured, access: Make) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(request.path)

    api.answer = answer
    error = await refusal(access({"token": TOKEN}))
    assert error.trouble is Trouble.UNAVAILABLE
    assert not lacks(error, f"{api.url}/version", "302")
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (400, Trouble.NOT_SUPPORTED),
        (403, Trouble.FORBIDDEN),
        (404, Trouble.NOT_FOUND),
        (410, Trouble.EXPIRED),
        (422, Trouble.NOT_SUPPORTED),
        (429, Trouble.THROTTLED),
        (500, Trouble.UNAVAILABLE),
        (503, Trouble.UNAVAILABLE),
        (204, Trouble.UNAVAILABLE),
    ],
)
@pytest.mark.parametrize("body", [b"", b"no\nway", b"\xff", b"{", b'{"message": "no way"}'])
async def test_refusal_has_its_path_and_code(
    api: Secured, access: Make, code: int, expected: Trouble, body: bytes
) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=code, body=body if code != 204 else None)

    api.answer = answer
    error = await refusal(access({"token": TOKEN}), "/apis/x")
    assert error.trouble is expected
    assert not lacks(error, f"{api.url}/apis/x", str(code))
    assert code == 204 or b"way" not in body or not lacks(error, "no way")


@pytest.mark.parametrize(
    ("header", "seconds", "expected"),
    [("", 7, 7), ("3", 7, 3), ("3", 0, 3), ("soon", 7, 7), ("", 0, 0), ("0", 7, 0),
     ("3600", 7, 60), ("9" * 400, 0, 60), ("", 3600, 60), ("-1", 7, 7)],
)  # fmt: skip
async def test_server_says_when_to_ask_again(
    api: Secured, access: Make, header: str, seconds: int, expected: float
) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        details = {"retryAfterSeconds": seconds} if seconds else {}
        response = refused(429, "TooManyRequests", "later", **details)
        if header:
            response.headers["Retry-After"] = header
        return response

    api.answer = answer
    assert (await refusal(access())).retry_after_s == expected


async def test_status_that_comes_in_pieces_is_read_whole(api: Secured, access: Make) -> None:
    status = json.dumps(wire.too_large(2, 1, 1)).encode()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=504)
        await response.prepare(request)
        for part in (status[:40], status[40:]):
            await response.write(part)
            for _ in range(100):  # turns in which the client could read what is there
                await asyncio.sleep(0)
        return response

    api.answer = answer
    error = await refusal(access())
    assert error.trouble is Trouble.TOO_NEW


async def test_refusal_without_end_is_cut(api: Secured, access: Make) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=500)
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)

    api.answer = answer
    error = await refusal(access())
    assert error.trouble is Trouble.UNAVAILABLE
    assert len(str(error)) < 400
