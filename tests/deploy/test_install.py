"""Everything is applied twice and upgraded, at an API server that allots addresses."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.deploy.installing import (
    APPLY,
    KUSTOMIZED,
    Installer,
    apply_twice_and_upgrade,
    install_and_upgrade,
    install_beside_another,
    list_of_one_address_is_refused,
    number_of_the_autoscaler_is_kept,
)
from tests.deploy.rendering import Object, RefusedError, Renderer
from tests.deploy.test_chart import RELEASES, STUB
from tests.kube import ApiServers, apiserver_data, apiservers

__all__ = ["apiserver_data", "apiservers"]

IPV4, IPV6 = "10.96.0.0/16", "fd00:10:96::/112"
TWO_FAMILIES = f"{IPV4},{IPV6}"


Ranges = Callable[[str], Installer]


@pytest.fixture
def installer_of(render: Renderer, apiservers: ApiServers, tmp_path: Path) -> Ranges:
    """The API server of a cluster whose Services have these ranges."""

    def start(ranges: str) -> Installer:
        server = apiservers(auth=True, service_ranges=ranges)
        admin = server.write_kubeconfig(tmp_path / "admin", server.ADMIN)
        return Installer(render, server, admin, validate=False)

    return start


@pytest.fixture
def installer(installer_of: Ranges) -> Installer:
    """The API server of a cluster with two families."""
    return installer_of(TWO_FAMILIES)


@pytest.mark.parametrize("how", APPLY, ids=" ".join)
@pytest.mark.parametrize(("overlay", "components"), KUSTOMIZED)
def test_applied_twice_and_upgraded(
    overlay: str,
    components: Sequence[str],
    how: Sequence[str],
    installer: Installer,
    tmp_path: Path,
) -> None:
    apply_twice_and_upgrade(installer, how, tmp_path, overlay, components)


@pytest.mark.parametrize(("namespace", "values"), RELEASES)
def test_installed_and_upgraded(namespace: str, values: Object, installer: Installer) -> None:
    install_and_upgrade(installer, namespace, values)


@pytest.mark.parametrize("how", APPLY, ids=" ".join)
def test_list_of_one_address_is_refused(how: Sequence[str], installer: Installer) -> None:
    list_of_one_address_is_refused(installer, how)


def test_second_address_comes_by_itself_and_stays(installer: Installer) -> None:
    objects = installer.render.kustomize("overlays/stub-target")
    for how in (*APPLY, *APPLY):
        installer.apply(how, objects)
        first, second = installer.service_addresses(objects)
        assert first == "10.96.0.53"
        assert second.startswith("fd00:10:96::")


@pytest.mark.parametrize(
    ("ranges", "overlay"),
    [(IPV4, "stub-target"), (IPV6, "ipv6-only"), (f"{IPV6},{IPV4}", "ipv6-only")],
)
def test_clusters_of_other_families(
    ranges: str, overlay: str, installer_of: Ranges, tmp_path: Path
) -> None:
    installer = installer_of(ranges)
    for how in APPLY:
        apply_twice_and_upgrade(installer, how, tmp_path, overlay, ())
        installer.clean()


def test_address_that_is_another_services_is_refused(installer: Installer) -> None:
    installer.apply(("apply",), installer.render.kustomize("overlays/stub-target"))
    with pytest.raises(RefusedError, match="already allocated"):
        installer.apply(("apply",), installer.render.helm("dns", STUB))


def test_two_installs_share_nothing(installer: Installer, tmp_path: Path) -> None:
    install_beside_another(installer, tmp_path)


def test_number_of_the_autoscaler_is_kept(installer: Installer, tmp_path: Path) -> None:
    number_of_the_autoscaler_is_kept(installer, tmp_path)
