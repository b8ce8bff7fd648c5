"""What a person reads in the log when an API server does not do as it is asked."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mcsdns.config import Settings
from mcsdns.server.zone_state import ZoneState
from mcsdns.sources.kubernetes.api import ApiServer
from mcsdns.sources.kubernetes.auth import Access
from mcsdns.sources.kubernetes.source import KubernetesSettings, KubernetesSource
from tests.certificates import authority
from tests.scripted import wire
from tests.scripted.followed import QUICK
from tests.secured import (
    Make,
    Secured,
    access,
    api,
    certificate,
    no_proxies,
    refused,
    shell,
    silent,
)
from tests.waiting import free_port, until

__all__ = ["access", "api", "authority", "certificate", "no_proxies", "silent"]
pytestmark = pytest.mark.usefixtures("silent", "no_proxies")

TOKEN = "hush-token"


class Listening:
    """A source that meets an API server and is told off."""

    def __init__(self, access: Access, *namespaces: str) -> None:
        settings = KubernetesSettings(namespaces=namespaces)
        self.source = KubernetesSource(
            ApiServer(access), ZoneState(Settings().zone_settings()), settings, timing=QUICK
        )

    async def reasons(self, number: int) -> tuple[str, ...]:
        """Follow until so many reasons are there."""
        task = asyncio.create_task(self.source.run())
        try:
            await until(lambda: len(self.source.standing.reasons) == number or task.done())
            assert not task.done()
            return self.source.standing.reasons
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("namespaces", "where"), [((), "a ClusterRole"), (("shop",), "a Role in namespace shop")]
)
async def test_refusal_is_logged_with_the_rule_to_add(
    api: Secured,
    access: Make,
    caplog: pytest.LogCaptureFixture,
    namespaces: tuple[str, ...],
    where: str,
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path.count("/") < 4:
            document: Any = wire.resources("multicluster.x-k8s.io/v1beta1", ["serviceimports"])
            document |= wire.group("multicluster.x-k8s.io", ["v1beta1"])
            return web.json_response(document)
        return refused(403, "Forbidden", "the user cannot list it")

    api.answer = answer
    reasons = await Listening(access({"token": TOKEN}), *namespaces).reasons(2)
    logged = warnings_of(caplog)
    for group, resource in (
        ("multicluster.x-k8s.io", "serviceimports"),
        ("discovery.k8s.io", "endpointslices"),
    ):
        rule = f"{{apiGroups: [{group}], resources: [{resource}], verbs: [list, watch]}}"
        for lines in (reasons, logged):
            (line,) = (line for line in lines if rule in line)
            assert where in line
            assert api.url in line
            assert "403" in line


async def test_401_is_logged_once_with_what_to_look_at(
    api: Secured, access: Make, caplog: pytest.LogCaptureFixture
) -> None:
    api.token = "hush-other"
    listening = Listening(access({"token": TOKEN}))
    await listening.reasons(2)
    logged = warnings_of(caplog)
    assert len(logged) == 2
    for line in logged:
        assert "401" in line
        assert "token or certificate" in line


async def test_refused_connection_is_logged_once(
    access: Make, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"https://127.0.0.1:{free_port()}"
    await Listening(access({"token": TOKEN}, url=url)).reasons(1)
    (line,) = warnings_of(caplog)
    assert url in line
    assert "is it up?" in line


async def test_failing_plugin_is_not_blamed_on_the_server(
    access: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await Listening(access(shell(tmp_path, "echo 'sign in first' >&2; exit 7"))).reasons(1)
    (line,) = warnings_of(caplog)
    assert "sign in first" in line
    assert "the API server does not know" not in line
