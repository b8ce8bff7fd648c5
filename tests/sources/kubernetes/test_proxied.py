"""The API server behind proxies, of a kubeconfig and of the environment."""

import asyncio

import pytest

from mcsdns.sources.kubernetes import proxy as proxies
from mcsdns.sources.kubernetes.reflector import Trouble
from tests.certificates import authority
from tests.secured import (
    Make,
    Secured,
    access,
    api,
    ask,
    certificate,
    lacks,
    no_proxies,
    raw_server,
    refusal,
    silent,
)
from tests.waiting import free_port

__all__ = ["access", "api", "authority", "certificate", "no_proxies", "silent"]
pytestmark = pytest.mark.usefixtures("silent", "no_proxies")

TOKEN = "hush-token"


class Proxy:
    """A CONNECT proxy, or one that refuses; `heads` are the requests that it got."""

    def __init__(self, refusal: bytes = b"") -> None:
        self.heads: list[str] = []
        self._refusal = refusal

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        if self._refusal:
            writer.write(b"HTTP/1.1 " + self._refusal + b"\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        host, _, port = head.split()[1].rpartition(":")
        to_server, from_us = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(pump(reader, from_us), pump(to_server, writer))
        finally:
            from_us.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while octets := await reader.read(65536):
        writer.write(octets)
        await writer.drain()
    writer.close()


async def test_proxy_of_a_kubeconfig(api: Secured, access: Make) -> None:
    proxy = Proxy()
    async with raw_server(proxy.handle) as port:
        cluster = {"proxy-url": f"http://127.0.0.1:{port}"}
        await ask(access({"token": TOKEN}, cluster))
    assert [head.split()[:2] for head in proxy.heads] == [["CONNECT", f"127.0.0.1:{api.port}"]]
    assert api.requests[0].authorization == f"Bearer {TOKEN}"
    assert TOKEN not in proxy.heads[0]


async def test_proxy_with_a_password(api: Secured, access: Make) -> None:
    proxy = Proxy()
    async with raw_server(proxy.handle) as port:
        await ask(access(cluster={"proxy-url": f"http://me:hush@127.0.0.1:{port}"}))
    assert "Proxy-Authorization: Basic" in proxy.heads[0]
    assert "Proxy-Authorization" not in api.requests[0].headers


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback addresses count as those of other machines, which proxies are for."""
    monkeypatch.setattr(proxies, "is_loopback", lambda _: False)


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
@pytest.mark.usefixtures("far")
async def test_proxy_of_the_environment(
    api: Secured, access: Make, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    proxy = Proxy()
    async with raw_server(proxy.handle) as port:
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        await ask(access())
        assert len(proxy.heads) == 1
        monkeypatch.setenv("NO_PROXY", "other.example,127.0.0.1")
        await ask(access())
        assert len(proxy.heads) == 1
    assert len(api.requests) == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_proxy_of_the_environment_is_not_for_this_machine(
    api: Secured, access: Make, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    await ask(access(url=f"https://{host}:{api.port}"))
    assert len(api.requests) == 1


@pytest.mark.usefixtures("far")
async def test_proxy_of_the_environment_that_is_down_is_told(
    api: Secured, access: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:hush@127.0.0.1:{port}")
    error = await refusal(access({"token": TOKEN}))
    assert not lacks(error, api.url, str(port), "HTTPS_PROXY", "NO_PROXY")


@pytest.mark.parametrize("networks", ["127.0.0.0/8", "10.0.0.0/8,127.0.0.1/32"])
@pytest.mark.usefixtures("far")
async def test_no_proxy_takes_networks(
    api: Secured, access: Make, monkeypatch: pytest.MonkeyPatch, networks: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("NO_PROXY", networks)
    await ask(access())
    assert len(api.requests) == 1


@pytest.mark.usefixtures("far")
async def test_proxy_of_a_kubeconfig_outranks_the_environment(
    api: Secured, access: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    proxy = Proxy()
    async with raw_server(proxy.handle) as port:
        monkeypatch.setenv("NO_PROXY", "*")
        await ask(access(cluster={"proxy-url": f"http://127.0.0.1:{port}"}))
    assert len(proxy.heads) == 1


@pytest.mark.parametrize("status", ["403 Forbidden", "407 Proxy Authentication Required", "502 No"])
async def test_proxy_that_refuses_is_told(api: Secured, access: Make, status: str) -> None:
    proxy = Proxy(status.encode())
    async with raw_server(proxy.handle) as port:
        url = f"http://127.0.0.1:{port}"
        error = await refusal(access({"token": TOKEN}, {"proxy-url": url}))
    assert error.trouble is Trouble.LOST
    assert not lacks(error, api.url, "proxy", status.split()[0])
    assert api.requests == []


async def test_password_of_a_proxy_that_refuses_is_not_told(api: Secured, access: Make) -> None:
    async with raw_server(Proxy(b"403 Forbidden").handle) as port:
        url = f"http://me:hush@127.0.0.1:{port}"
        await refusal(access(cluster={"proxy-url": url}))


async def test_proxy_of_a_kubeconfig_that_refuses_is_named_by_its_setting(
    api: Secured, access: Make
) -> None:
    async with raw_server(Proxy(b"403 Forbidden").handle) as port:
        error = await refusal(access(cluster={"proxy-url": f"http://127.0.0.1:{port}"}))
    assert not lacks(error, "proxy-url")


async def test_proxy_that_is_down_is_told(api: Secured, access: Make) -> None:
    port = free_port()
    user, cluster = {"token": TOKEN}, {"proxy-url": f"http://me:hush@127.0.0.1:{port}"}
    error = await refusal(access(user, cluster))
    assert not lacks(error, api.url, "proxy cannot be reached", str(port), "proxy-url")


@pytest.mark.parametrize("url", ["socks5://me:hush@127.0.0.1:1", "me:hush@proxy", "x"])
async def test_proxy_that_is_none_is_told(api: Secured, access: Make, url: str) -> None:
    error = await refusal(access(cluster={"proxy-url": url}))
    assert not lacks(error, api.url)
