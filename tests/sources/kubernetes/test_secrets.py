"""What an API server says, without the credentials that it was shown."""

import asyncio

import pytest
from aiohttp import web

from mcsdns.config import Settings
from mcsdns.server.zone_state import ZoneState
from mcsdns.sources.kubernetes.api import ApiServer
from mcsdns.sources.kubernetes.codec import ApiError
from mcsdns.sources.kubernetes.secrets import Secrets
from mcsdns.sources.kubernetes.source import KubernetesSettings, KubernetesSource
from tests.certificates import authority
from tests.scripted.followed import QUICK
from tests.secured import Make, Secured, access, api, certificate, no_proxies, refused, silent
from tests.waiting import until

__all__ = ["access", "api", "authority", "certificate", "no_proxies", "silent"]
pytestmark = pytest.mark.usefixtures("silent", "no_proxies")

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtY3NkbnMifQ.c2lnbmF0dXJlLW9mLWl0"
SIGNATURE = TOKEN.rpartition(".")[2]


def echo(request: web.Request) -> str:
    return request.headers["Authorization"].partition(" ")[2]


@pytest.mark.parametrize("code", [401, 403, 404, 429, 500])
async def test_a_refusal_that_quotes_the_token_is_shown_without_it(
    api: Secured, access: Make, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return refused(code, "Bad", f"no such token={echo(request)} ({SIGNATURE})")

    api.answer = answer
    zone = ZoneState(Settings().zone_settings())
    source = KubernetesSource(
        ApiServer(access({"token": TOKEN})), zone, KubernetesSettings(), timing=QUICK
    )
    task = asyncio.create_task(source.run())
    try:
        await until(lambda: source.standing.reasons or task.done(), "a reason")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert "[hidden] ([hidden])" in source.standing.reasons[0] or code == 404
    shown = f"{source.standing} {source.states()} {caplog.text}"
    assert TOKEN not in shown
    assert SIGNATURE not in shown


async def test_a_token_in_an_object_is_hidden_wherever_the_octets_are_cut(
    api: Secured, access: Make
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for octet in f'{{"name": "{echo(request)}"}}':
            await response.write(octet.encode())
        return response

    api.answer = answer
    server = ApiServer(access({"token": TOKEN}))
    try:
        assert await server.read("/apis", within_s=60) == b'{"name": "[hidden]"}'
    finally:
        await server.close()


async def test_long_words_are_cut(api: Secured, access: Make) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return refused(500, "Bad", "x" * 60_000)

    api.answer = answer
    server = ApiServer(access({"token": TOKEN}))
    try:
        with pytest.raises(ApiError) as caught:
            await server.read("/apis", within_s=60)
    finally:
        await server.close()
    assert len(str(caught.value)) < 1000
    assert "60000 characters" in str(caught.value)


def test_passwords_of_proxies_are_known_and_short_words_are_none() -> None:
    secrets = Secrets()
    secrets.know_proxy("http://me:pass%2Fword@proxy.example:3128")
    secrets.know_proxy("http://proxy.example:3128")
    secrets.know_proxy("http://[")
    secrets.know("Basic bWU6cGFzc3dvcmQ=")
    secrets.know("Bearer x")
    text = "x pass/word pass%2Fword bWU6cGFzc3dvcmQ="
    assert secrets.hide(text) == "x [hidden] [hidden] [hidden]"
    assert secrets.hide_octets(text.encode()) == b"x [hidden] [hidden] [hidden]"


def test_only_the_last_tokens_are_kept() -> None:
    secrets = Secrets()
    for number in range(100):
        secrets.know(f"Bearer secret-{number:04}")
    assert secrets.hide("secret-0000 secret-0099") == "secret-0000 [hidden]"
