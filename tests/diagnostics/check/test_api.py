"""An API server that does not answer, or says odd things, holds nothing up."""

import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from mcsdns.diagnostics.check.api import Api, check_versions
from mcsdns.diagnostics.check.finding import Report
from mcsdns.sources.kubernetes.api import ApiServer
from mcsdns.sources.kubernetes.auth import Access
from mcsdns.sources.kubernetes.codec import ApiError
from mcsdns.sources.kubernetes.reflector import Trouble
from tests.scripted import FakeApi, faults
from tests.waiting import DEADLINE_S


@contextlib.asynccontextmanager
async def asking(kubeconfig: Path, within_s: float = DEADLINE_S) -> AsyncIterator[Api]:
    cluster = ApiServer(Access(kubeconfig=str(kubeconfig)))
    try:
        yield Api(cluster, within_s=within_s)
    finally:
        await cluster.close()


async def test_server_that_never_answers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "c", "cluster": {"server": url}}],
                    "users": [{"name": "u", "user": {"token": "t"}}],
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "x",
                }
            )
        )
        async with asking(kubeconfig, 0.2) as api:
            with pytest.raises(ApiError, match="no answer in time"):
                await check_versions(Report(), api)


async def test_server_that_stops_in_the_middle(tmp_path: Path) -> None:
    async with FakeApi() as fake:
        fake.fault(faults.Hang(headers=True), faults.DISCOVERY)
        async with asking(fake.write_kubeconfig(tmp_path / "kubeconfig"), 0.2) as api:
            with pytest.raises(ApiError, match="no answer in time"):
                await check_versions(Report(), api)


async def test_document_that_is_none(tmp_path: Path) -> None:
    async with FakeApi() as fake, asking(fake.write_kubeconfig(tmp_path / "kubeconfig")) as api:
        path = "/apis/multicluster.x-k8s.io/v1beta1"
        with pytest.raises(ApiError, match="is not understood") as raised:
            await api.read_as(path, list[int])
        assert raised.value.trouble is Trouble.UNREADABLE
        assert await api.read_as("/apis/nothing/v1", msgspec.Raw) is None


async def test_discovery_that_is_not_permitted_is_said(tmp_path: Path) -> None:
    async with FakeApi() as fake:
        refusal = faults.Reply(403, {"kind": "Status", "code": 403, "reason": "Forbidden"})
        fake.fault(refusal, faults.DISCOVERY, times=None)
        async with asking(fake.write_kubeconfig(tmp_path / "kubeconfig")) as api:
            report = Report()
            await check_versions(report, api)
    assert not report.findings
    assert report.skipped[0].startswith("API versions: discovery is not permitted")
