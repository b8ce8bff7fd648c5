"""What an API server says, without the credentials that it was shown."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from mcsdns.config import Settings
from mcsdns.objects.decode import SliceProfile
from mcsdns.objects.model import Kind
from mcsdns.server.zone_state import ZoneState
from mcsdns.sources.kubernetes.api import ApiServer
from mcsdns.sources.kubernetes.codec import ApiError, Decoder
from mcsdns.sources.kubernetes.secrets import Secrets
from mcsdns.sources.kubernetes.source import KubernetesSettings, KubernetesSource
from tests.certificates import authority
from tests.scripted.followed import QUICK, service_import
from tests.secured import (
    Make,
    Secured,
    access,
    api,
    certificate,
    no_proxies,
    refusal,
    refused,
    shell,
    silent,
)
from tests.waiting import until

__all__ = ["access", "api", "authority", "certificate", "no_proxies", "silent"]
pytestmark = pytest.mark.usefixtures("silent", "no_proxies")

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtY3NkbnMifQ.c2lnbmF0dXJlLW9mLWl0"
SIGNATURE = TOKEN.rpartition(".")[2]


def echo(request: web.Request) -> str:
    return request.headers["Authorization"].partition(" ")[2]


def by_numbers(text: str) -> str:
    """As JSON may write it."""
    return "".join(f"\\u{ord(each):04X}" for each in text)


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


@pytest.mark.parametrize("write", [by_numbers, lambda token: token[:9] + by_numbers(token[9:])])
@pytest.mark.parametrize("place", ["name", "type", "message"])
def test_a_token_that_an_object_has_by_numbers_is_hidden(
    place: str, write: Callable[[str], str]
) -> None:
    secrets = Secrets()
    secrets.know(f"Bearer {TOKEN}")
    decoder = Decoder(Kind.SERVICE_IMPORT, "", SliceProfile.MCS, secrets)
    thing = service_import("web", ips=["10.0.0.1"], type="TYPE")
    thing["status"] = {"conditions": [{"type": "Ready", "message": "a / b"}]}
    match place:
        case "name":
            thing["metadata"]["name"] = TOKEN
        case "type":
            thing["spec"]["type"] = TOKEN
        case _:
            thing["spec"]["type"] = "Headless"
            thing["status"]["conditions"][0]["message"] = f"a \n {TOKEN}"
    item = json.dumps(thing).replace(TOKEN, write(TOKEN)).replace("/", "\\/")
    line = f'{{"type": "ADDED", "object": {item}}}'
    for reading in (decoder.item(item.encode()), decoder.line(line.encode())):
        assert "[hidden]" in str(reading)
        assert TOKEN not in str(reading)


@pytest.mark.parametrize("token", [TOKEN, "with/slash+and="])
@pytest.mark.parametrize(
    "body", ['{{"message": "no {0}"}}', "no {0}", '<pre>{{"message": "no {0}"}}', '"{0}" ' * 9999]
)
async def test_a_token_by_numbers_is_not_in_the_words_of_a_refusal(
    api: Secured, access: Make, body: str, token: str
) -> None:
    for written in (
        by_numbers(token),
        token.replace("/", "\\/"),
        json.dumps(by_numbers(token))[1:-1],
    ):

        async def answer(_: web.Request, written: str = written) -> web.StreamResponse:
            return web.Response(status=500, text=body.format(written))

        api.answer = answer
        error = await refusal(access({"token": token}))
        assert "[hidden]" in str(error)
        assert token not in str(error)


async def test_what_an_exec_plugin_prints_is_shown_without_the_token(
    api: Secured, access: Make, tmp_path: Path
) -> None:
    status = {"token": TOKEN}
    given = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "x", "status": status}
    script = f"""
        [ -e "$0.ran" ] || {{ touch "$0.ran"; echo '{json.dumps(given)}'; exit; }}
        printf '%s \033[2J' '{f"{TOKEN} " * 20} {by_numbers(TOKEN)}' >&2; exit 1"""
    api.token = "other"
    server = ApiServer(access(shell(tmp_path, script)))
    told = []
    try:
        for _ in range(2):
            with pytest.raises(ApiError) as caught:
                await server.read("/apis", within_s=60)
            told.append(str(caught.value))
    finally:
        await server.close()
    assert "run the plugin by hand" in told[1]
    assert "[hidden]" in told[1]
    assert told[1].isprintable()
    assert not [part for part in (*TOKEN.split("."), TOKEN[:9]) if part in told[1]]


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
