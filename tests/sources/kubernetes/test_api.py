"""The API server as it is reached: TLS, tokens, a pod, and what is told of them."""

import asyncio
import datetime
import gc
import json
import socket
import ssl
import urllib.parse
from pathlib import Path

import anyio
import pytest
from aiohttp import web

from mcsdns.sources.kubernetes import auth
from mcsdns.sources.kubernetes.auth import Access
from mcsdns.sources.kubernetes.codec import ApiError
from mcsdns.sources.kubernetes.reflector import Trouble
from tests.certificates import Authority, Certificate, authority
from tests.secured import (
    LOOPBACK,
    Make,
    Secured,
    access,
    api,
    ask,
    asked_by,
    assert_silent,
    certificate,
    get,
    lacks,
    no_proxies,
    refusal,
    refused,
    shell,
    silent,
    written,
)
from tests.waiting import DEADLINE_S

__all__ = ["access", "api", "authority", "certificate", "no_proxies", "silent"]
pytestmark = pytest.mark.usefixtures("silent", "no_proxies")

TOKEN = "hush-token"


# What arrives.


async def test_server_is_asked_as_an_api_server_is(api: Secured, access: Make) -> None:
    assert await ask(access({"token": TOKEN}), "/apis?limit=1") == b"{}"
    (request,) = api.requests
    assert request.path == "/apis?limit=1"
    assert request.authorization == f"Bearer {TOKEN}"
    assert request.headers["Accept"] == "application/json"
    assert request.headers["User-Agent"].startswith("mcsdns/")


async def test_parameters_are_encoded(api: Secured, access: Make) -> None:
    async with asked_by(access()) as cluster:
        parameters = {"labelSelector": "a=b,c in (d)", "continue": "+/="}
        async with cluster.request("/x", parameters, within_s=DEADLINE_S) as response:
            await response.read()
    query = urllib.parse.urlsplit(api.requests[0].path).query
    assert urllib.parse.parse_qsl(query, strict_parsing=True) == list(parameters.items())


async def test_nobody_is_asked_before_the_first_request(api: Secured, access: Make) -> None:
    async with asked_by(access({"tokenFile": "gone"})) as cluster:
        assert cluster.place.url == api.url
        assert api.requests == []


@pytest.mark.parametrize("how", ["token", "tokenFile"])
async def test_tokens_lose_the_end_of_their_line(
    api: Secured, access: Make, tmp_path: Path, how: str
) -> None:
    value = TOKEN + "\n" if how == "token" else str(written(tmp_path / "token", TOKEN + "\n"))
    await ask(access({how: value}))
    assert api.requests[0].authorization == f"Bearer {TOKEN}"


async def test_user_without_anything_shows_nothing(api: Secured, access: Make) -> None:
    await ask(access())
    assert api.requests[0].authorization == ""
    assert api.requests[0].client == ""


@pytest.mark.parametrize("embedded", [False, True], ids=["files", "data"])
async def test_client_certificate_is_shown(
    api: Secured, access: Make, authority: Authority, *, embedded: bool
) -> None:
    client = authority.client("dns-server")
    files = {"client-certificate": str(client.cert), "client-key": str(client.key)}
    data = {"client-certificate-data": client.cert_data, "client-key-data": client.key_data}
    await ask(access(data if embedded else files))
    assert api.requests[0].client == "dns-server"


async def test_answer_is_read_piece_by_piece(api: Secured, access: Make) -> None:
    more = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one")
        await more.wait()
        await response.write(b"two")
        return response

    api.answer = answer
    async with asked_by(access()) as cluster, cluster.request("/", within_s=DEADLINE_S) as response:
        assert await response.read_some() == b"one"
        more.set()
        assert await response.read_some() == b"two"
        assert await response.read_some() == b""


# Whom we trust.


@pytest.mark.parametrize("how", ["file", "relative", "data"])
async def test_authority_of_a_kubeconfig(
    api: Secured, access: Make, authority: Authority, tmp_path: Path, how: str
) -> None:
    written(tmp_path / "pki" / "ca.crt", authority.ca.cert.read_text())
    cluster = {
        "file": {"certificate-authority": str(authority.ca.cert)},
        "relative": {"certificate-authority": "pki/ca.crt"},
        "data": {"certificate-authority-data": authority.ca.cert_data},
    }[how]
    await ask(access(cluster=cluster, trust=False))
    assert len(api.requests) == 1


async def test_unknown_authority_is_told(api: Secured, access: Make) -> None:
    error = await refusal(access({"token": TOKEN}, trust=False))
    assert error.trouble is Trouble.LOST
    assert not lacks(error, api.url, "certificate", "certificate-authority")
    assert api.requests == []


async def test_authority_of_another_cluster_is_told(
    api: Secured, access: Make, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other", "an impostor")
    error = await refusal(access({"token": TOKEN}, {"certificate-authority": str(other.ca.cert)}))
    assert not lacks(error, api.url, "certificate", "certificate-authority")
    assert api.requests == []


async def test_authority_that_is_put_right_is_read_again(
    api: Secured, access: Make, authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other", "an impostor")
    file = written(tmp_path / "ca.crt", other.ca.cert.read_text())
    async with asked_by(access(cluster={"certificate-authority": str(file)})) as cluster:
        with pytest.raises(ApiError) as caught:
            await get(cluster)
        assert caught.value.of_identity
        written(file, authority.ca.cert.read_text())
        await get(cluster)
    assert len(api.requests) == 1


async def test_expired_certificate_is_told(
    api: Secured, access: Make, authority: Authority
) -> None:
    context = authority.server_context(authority.expired_server(*LOOPBACK))
    async with Secured(context) as expired:
        error = await refusal(access({"token": TOKEN}, url=expired.url))
        assert not lacks(error, expired.url, "expired")
        assert expired.requests == []


async def test_wrong_host_name_is_told(api: Secured, access: Make, authority: Authority) -> None:
    context = authority.server_context(authority.server("DNS:api.example"))
    async with Secured(context) as other:
        error = await refusal(access({"token": TOKEN}, url=other.url))
        assert not lacks(error, other.url, "certificate", "tls-server-name")
        assert other.requests == []
        await ask(access(url=other.url, cluster={"tls-server-name": "api.example"}))
        wrong = access(url=other.url, cluster={"tls-server-name": "www.example"})
        assert not lacks(await refusal(wrong), other.url, "www.example", "tls-server-name")


async def test_verification_can_be_left_out(api: Secured, access: Make) -> None:
    await ask(access(cluster={"insecure-skip-tls-verify": True}, trust=False))
    refused_ = access(cluster={"insecure-skip-tls-verify": False}, trust=False)
    assert not lacks(await refusal(refused_), "certificate")


async def test_tls_is_spoken_to_plain_http(access: Make) -> None:
    async with Secured(None) as plain:
        url = f"https://127.0.0.1:{plain.port}"
        assert not lacks(await refusal(access({"token": TOKEN}, url=url)), url, "TLS", "https")
        assert plain.requests == []


async def test_plain_http_is_spoken_to_tls(api: Secured, access: Make) -> None:
    url = f"http://127.0.0.1:{api.port}"
    error = await refusal(access({"token": TOKEN}, url=url))
    assert not lacks(error, url)
    assert api.requests == []


async def test_client_certificate_of_another_authority_is_told(
    api: Secured, access: Make, tmp_path: Path
) -> None:
    client = Authority(tmp_path / "other").client("impostor")
    user = {"client-certificate": str(client.cert), "client-key": str(client.key)}
    error = await refusal(access(user))
    assert not lacks(error, api.url)
    assert_silent(error, *client.key_lines)


@pytest.mark.parametrize("text", ["", "not a certificate", "-----BEGIN CERTIFICATE-----\nx\n"])
async def test_authority_that_is_no_certificate_is_told(
    api: Secured, access: Make, tmp_path: Path, text: str
) -> None:
    path = written(tmp_path / "ca.crt", text)
    error = await refusal(access(cluster={"certificate-authority": str(path)}))
    assert error.trouble is Trouble.UNAUTHORIZED
    assert not lacks(error, api.url, "TLS", "certificate-authority", "PEM")
    assert api.requests == []


async def test_key_of_another_certificate_is_told(
    api: Secured, access: Make, authority: Authority
) -> None:
    one, other = authority.client("one"), authority.client("other")
    user = {"client-certificate": str(one.cert), "client-key": str(other.key)}
    error = await refusal(access(user))
    assert_silent(error, *other.key_lines)
    assert not lacks(error, api.url, "TLS", "client-key")


# Tokens that are not taken.


async def test_unknown_token_is_told(api: Secured, access: Make) -> None:
    api.token = "hush-other"
    error = await refusal(access({"token": TOKEN}), "/apis")
    assert error.trouble is Trouble.UNAUTHORIZED
    assert error.of_identity
    assert not lacks(error, f"{api.url}/apis", "401", "Unauthorized")


def prints(token: str) -> str:
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": token},
    }
    return f"echo '{json.dumps(credential)}'"


async def test_plugin_gives_a_new_token_after_401(
    api: Secured, access: Make, tmp_path: Path
) -> None:
    script = 'echo x >> "$0.runs"\n' + prints("hush-N") + ' | sed "s/N/$(($(wc -l < "$0.runs")))/"'
    api.token = "hush-1"
    async with asked_by(access(shell(tmp_path, script))) as cluster:
        await get(cluster)
        await get(cluster)
        api.token = "hush-2"
        with pytest.raises(ApiError, match="401"):
            await get(cluster)
        await get(cluster)
        await get(cluster)
    shown = [request.authorization[-1] for request in api.requests]
    assert shown == ["1", "1", "1", "2", "2"]


async def test_plugin_that_fails_is_told_and_asked_again(
    api: Secured, access: Make, tmp_path: Path
) -> None:
    script = 'test -e "$0.ready" || { echo "sign in first" >&2; exit 7; }\n' + prints(TOKEN)
    async with asked_by(access(shell(tmp_path, script))) as cluster:
        with pytest.raises(ApiError) as caught:
            await get(cluster)
        assert caught.value.trouble is Trouble.UNAUTHORIZED
        assert not lacks(caught.value, str(tmp_path / "config"), "7", "sign in first", "by hand")
        written(tmp_path / "plugin.ready", "")
        await get(cluster)
    assert len(api.requests) == 1


async def test_token_file_is_read_again_after_401(
    api: Secured, access: Make, tmp_path: Path
) -> None:
    file = written(tmp_path / "token", "hush-1")
    api.token = "hush-1"
    async with asked_by(access({"tokenFile": str(file)})) as cluster:
        await get(cluster)
        written(file, "hush-2")
        api.token = "hush-2"
        with pytest.raises(ApiError, match="401"):
            await get(cluster)
        await get(cluster)


async def test_watch_goes_on_when_another_request_is_not_taken(api: Secured, access: Make) -> None:
    more = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path != "/watch":
            return refused(401, "Unauthorized", "Unauthorized")
        response = web.StreamResponse()
        await response.prepare(request)
        await more.wait()
        await response.write(b"a line")
        return response

    api.answer = answer
    async with (
        asked_by(access()) as cluster,
        cluster.request("/watch", within_s=DEADLINE_S) as watch,
    ):
        with pytest.raises(ApiError, match="401"):
            await get(cluster)
        more.set()
        assert await watch.read_some() == b"a line"


async def test_session_that_was_replaced_is_closed_when_its_last_reader_is_cancelled(
    api: Secured, access: Make
) -> None:
    never = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path != "/watch":
            return refused(401, "Unauthorized", "Unauthorized")
        response = web.StreamResponse()
        await response.prepare(request)
        await never.wait()
        return response

    api.answer = answer
    async with asked_by(access()) as cluster:
        with anyio.CancelScope() as scope:
            async with cluster.request("/watch", within_s=DEADLINE_S) as watch:
                for _ in range(2):
                    with pytest.raises(ApiError, match="401"):
                        await get(cluster)
                scope.cancel()
                await watch.read_some()
    gc.collect()  # a session that was left open warns


def test_request_that_is_cancelled_leaves_no_connection(
    access: Make, authority: Authority, certificate: Certificate
) -> None:
    """Over TLS the other side may take its time to say goodbye: the loop may end before it."""

    async def cancelled(listening: socket.socket) -> ssl.SSLSocket:
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        async with asked_by(access(url=url)) as cluster:
            task = asyncio.create_task(get(cluster, within_s=DEADLINE_S))
            connection, _ = await asyncio.to_thread(listening.accept)
            context = authority.server_context(certificate)
            secured = await asyncio.to_thread(context.wrap_socket, connection, server_side=True)
            await asyncio.to_thread(secured.recv, 4096)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return secured

    with socket.create_server(("127.0.0.1", 0)) as listening, asyncio.run(cancelled(listening)):
        gc.collect()  # a transport that was left open warns


@pytest.mark.parametrize("token", ["hush\nX-Other: 1", "hush\r\nx", "hush\0"])
async def test_token_that_no_header_can_hold_is_not_told(
    api: Secured, access: Make, token: str
) -> None:
    error = await refusal(access({"token": token}))
    assert not lacks(error, api.url)
    assert api.requests == []


async def test_token_is_shown_whatever_the_netrc_says(
    api: Secured, access: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = written(tmp_path / "netrc", "machine 127.0.0.1 login me password hush")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    await ask(access({"token": TOKEN}))
    assert api.requests[0].authorization == f"Bearer {TOKEN}"


# A pod.


@pytest.fixture
def pod(
    api: Secured, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder of a service account, in a pod whose API server is that of the test."""
    from kubernetes_asyncio.config import incluster_config

    folder = tmp_path / "serviceaccount"
    written(folder / "token", "hush-1")
    written(folder / "ca.crt", authority.ca.cert.read_text())
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(folder / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(folder / "ca.crt"))
    monkeypatch.setattr(auth, "SERVICE_ACCOUNT_CA", str(folder / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(api.port))
    return folder


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token is old as soon as it was read."""
    from kubernetes_asyncio.config import incluster_config

    monkeypatch.setattr(incluster_config, "TOKEN_REFRESH_PERIOD", datetime.timedelta(0))


IN_CLUSTER = Access(in_cluster=True)


async def test_pod_shows_its_token(api: Secured, pod: Path) -> None:
    await ask(IN_CLUSTER)
    assert api.requests[0].authorization == "Bearer hush-1"


@pytest.mark.usefixtures("no_waiting")
async def test_token_of_a_pod_is_read_again_as_it_rotates(api: Secured, pod: Path) -> None:
    async with asked_by(IN_CLUSTER) as cluster:
        for number in range(1, 4):
            written(pod / "token", f"hush-{number}\n")
            await get(cluster)
    assert [request.authorization[-6:] for request in api.requests] == [
        f"hush-{number}" for number in range(1, 4)
    ]


async def test_token_of_a_pod_is_read_again_after_401(api: Secured, pod: Path) -> None:
    api.token = "hush-1"
    async with asked_by(IN_CLUSTER) as cluster:
        await get(cluster)
        written(pod / "token", "hush-2")
        api.token = "hush-2"
        with pytest.raises(ApiError, match="401"):
            await get(cluster)
        await get(cluster)


@pytest.mark.parametrize("text", [None, ""], ids=["gone", "empty"])
@pytest.mark.usefixtures("no_waiting")
async def test_token_that_goes_while_running_is_told_and_comes_back(
    api: Secured, pod: Path, text: str | None
) -> None:
    async with asked_by(IN_CLUSTER) as cluster:
        await get(cluster)
        (pod / "token").unlink() if text is None else (pod / "token").write_text(text)
        with pytest.raises(ApiError) as caught:
            await get(cluster)
        assert not lacks(caught.value, api.url)
        written(pod / "token", "hush-2")
        await get(cluster)
    assert api.requests[-1].authorization == "Bearer hush-2"


async def test_authority_of_a_pod_is_checked(api: Secured, pod: Path, tmp_path: Path) -> None:
    written(pod / "ca.crt", Authority(tmp_path / "other").ca.cert.read_text())
    assert not lacks(await refusal(IN_CLUSTER), api.url, "certificate")
    assert api.requests == []
