"""Everything is applied twice and upgraded, as at the API server of the other tests."""

from collections.abc import Iterator, Sequence
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
from tests.deploy.rendering import Object, Renderer
from tests.deploy.test_chart import RELEASES
from tests.kubernetes.cluster import IPV4, IPV6, Cluster


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


def test_two_installs_share_nothing(installer: Installer, tmp_path: Path) -> None:
    install_beside_another(installer, tmp_path)


def test_number_of_the_autoscaler_is_kept(installer: Installer, tmp_path: Path) -> None:
    number_of_the_autoscaler_is_kept(installer, tmp_path)


@pytest.fixture
def one_family(
    request: pytest.FixtureRequest, control_plane_binary: Path, tmp_path: Path
) -> Iterator[Cluster]:
    cluster = Cluster(control_plane_binary, tmp_path, request.param)
    try:
        yield cluster.start()
    finally:
        cluster.stop()


@pytest.mark.parametrize(
    ("one_family", "overlay"),
    [(IPV4, "stub-target"), (IPV6, "ipv6-only")],
    indirect=["one_family"],
)
def test_clusters_of_one_family(
    one_family: Cluster, overlay: str, render: Renderer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    installer = Installer(render, one_family, one_family.admin, validate=True)
    for how in APPLY:
        folder = tmp_path_factory.mktemp("mine")
        apply_twice_and_upgrade(installer, how, folder, overlay, ())
        installer.clean()
