"""What is rendered runs: the arguments, the permissions and the paths of the probes, for real."""

import copy
import http.client
from pathlib import Path

import pytest

from tests.apiserver.process import ApiServer
from tests.conftest import Serve, addresses
from tests.deploy.rendering import Object, Renderer, mcsdns_of, of_kind, pods
from tests.kube import ApiServers, apiserver_data, apiservers
from tests.real.services import db, slice_of, web
from tests.waiting import DEADLINE_S, free_port, wait_until

__all__ = ["apiserver_data", "apiservers"]


@pytest.fixture
def guarded(apiservers: ApiServers) -> ApiServer:
    """An API server that asks who one is, with a service of each kind."""
    server = apiservers(auth=True)
    server.create_many([web("web", "10.96.0.1"), db("db"), slice_of("db", "east", "10.1.0.1")])
    return server


def here(container: Object, instead: dict[str, str]) -> list[str]:
    """The arguments of a container, some replaced by what can be had on this machine."""
    flags = [each.partition("=")[0] for each in container["args"]]
    assert instead.keys() <= set(flags)
    return [instead.get(flag, each) for flag, each in zip(flags, container["args"], strict=True)][
        1:
    ]


def answers(port: int, path: str) -> int:
    """The status with which a path of the probes is answered; 0 before anybody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except ConnectionError:
        return 0
    finally:
        connection.close()


def assert_probes_pass(container: Object, port: int) -> None:
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if probe in container:
            path = container[probe]["httpGet"]["path"]
            wait_until(lambda path=path: answers(port, path) == 200, path)


@pytest.mark.parametrize("overlay", ["stub-target", "namespaced"])
def test_stub_target_gets_ready_with_its_permissions(
    overlay: str, render: Renderer, guarded: ApiServer, serve: Serve, tmp_path: Path
) -> None:
    objects = render.kustomize(f"overlays/{overlay}")
    roles = [*of_kind("ClusterRole", objects), *of_kind("Role", objects)]
    guarded.set_permissions(roles=roles)
    ((_, pod),) = pods(objects)
    container = mcsdns_of(pod)
    port = free_port()
    arguments = here(
        container,
        {
            "--in-cluster": f"--kubeconfig={guarded.kubeconfig}",
            "--probes": f"--probes=127.0.0.1:{port}",
            "--admin": f"--admin=127.0.0.1:{free_port()}",
            "--lameduck": "--lameduck=0",
            "--snapshot": f"--snapshot={tmp_path / 'snapshot'}",
        },
    )
    server = serve(*arguments, ready=False)
    assert_probes_pass(container, port)
    assert answers(port, "/metrics") == 200
    server.wait_ready()
    assert addresses(server.ask("web.shop")) == ["10.96.0.1"]
    assert addresses(server.ask("db.shop")) == ["10.1.0.1"]
    assert ": 403 " not in server.log


RULES = ["serviceimports", "endpointslices"]


@pytest.mark.parametrize("verb", ["list", "watch"])
@pytest.mark.parametrize("resource", RULES)
@pytest.mark.parametrize(
    ("overlay", "kind"),
    [("stub-target", "ClusterRole"), ("node-local", "ClusterRole"), ("namespaced", "Role")],
)
def test_each_rule_is_needed(
    overlay: str,
    kind: str,
    resource: str,
    verb: str,
    render: Renderer,
    apiservers: ApiServers,
    serve: Serve,
) -> None:
    """Least means that without any one of them mcsdns is refused, and not ready before it is there.

    The API server has no streaming lists: to those `watch` alone would be enough.
    """
    objects = render.kustomize(f"overlays/{overlay}")
    ((_, pod),) = pods(objects)
    given = [each for each in mcsdns_of(pod)["args"] if each.startswith("--namespace=")]
    roles = of_kind(kind, objects)
    lacking = copy.deepcopy(roles)
    (rule,) = [each for each in lacking[0]["rules"] if each["resources"] == [resource]]
    rule["verbs"].remove(verb)
    server = apiservers(auth=True, watch_list=False)
    server.set_permissions(roles=lacking)
    mcsdns = serve("--kubeconfig", server.kubeconfig, *given, ready=False)
    mcsdns.wait_log(f'cannot {verb} resource "{resource}"')
    assert "ready" not in mcsdns.out
    server.set_permissions(roles=roles)
    mcsdns.wait_ready()


def test_stub_target_without_permissions_stays_unready(
    render: Renderer, guarded: ApiServer, serve: Serve, tmp_path: Path
) -> None:
    guarded.set_permissions()
    ((_, pod),) = pods(render.kustomize("overlays/stub-target"))
    container = mcsdns_of(pod)
    port = free_port()
    arguments = here(
        container,
        {
            "--in-cluster": f"--kubeconfig={guarded.kubeconfig}",
            "--probes": f"--probes=127.0.0.1:{port}",
            "--admin": "--admin=none",
            "--lameduck": "--lameduck=0",
            "--snapshot": f"--snapshot={tmp_path / 'snapshot'}",
        },
    )
    server = serve(*arguments, ready=False)
    wait_until(lambda: "give the account a ClusterRole" in server.log, "a refusal")
    liveness = container["livenessProbe"]["httpGet"]["path"]
    wait_until(lambda: answers(port, liveness) == 200, liveness)
    assert answers(port, container["readinessProbe"]["httpGet"]["path"]) == 503


def test_sidecar_starts_while_nobody_answers(
    render: Renderer, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((_, pod),) = pods(render.kustomize("overlays/sidecar"))
    container = mcsdns_of(pod)
    for each in container["env"]:
        monkeypatch.setenv(each["name"], each["value"].replace("10.96.0.", "127.0.0."))
    port = free_port()
    listen = f"--listen=127.0.0.1:{free_port()}"
    serve(*here(container, {"--listen": listen, "--probes": f"--probes=127.0.0.1:{port}"}))
    assert_probes_pass(container, port)
