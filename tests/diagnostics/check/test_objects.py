"""Objects that no implementation should write, from manifests: no cluster is needed."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.diagnostics.check.conftest import Check

Write = Callable[[str], Path]
SERVICE, CLUSTER = (
    f"multicluster.kubernetes.io/{each}" for each in ("service-name", "source-cluster")
)


def imported(name: str = "db", *ips: str, **parts: object) -> dict[str, object]:
    spec: dict[str, object] = {"type": "ClusterSetIP" if "ips" in parts else "Headless"}
    status = parts.pop("status", None)
    given: dict[str, object] = {
        "apiVersion": "multicluster.x-k8s.io/v1beta1",
        "kind": "ServiceImport",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {**spec, "ports": [{"name": "main", "port": 80}], **parts},
    }
    return {**given, "status": status} if status else given


def endpoint(address: str, hostname: str = "", ready: bool = True) -> dict[str, object]:
    host = {"hostname": hostname} if hostname else {}
    return {"addresses": [address], "conditions": {"ready": ready}, **host}


def piece(
    name: str, *endpoints: dict[str, object], cluster: str = "eu", port: int = 80, of: str = "db"
) -> dict[str, object]:
    labels = {SERVICE: of, CLUSTER: cluster} if cluster else {SERVICE: of}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "shop", "labels": labels},
        "addressType": "IPv4",
        "endpoints": list(endpoints),
        "ports": [{"name": "main", "port": port}],
    }


@pytest.fixture
def check_objects(check: Check, manifests: Write) -> Callable[..., dict[str, str]]:
    """Check objects; return the one finding."""

    def run(*objects: object) -> dict[str, str]:
        path = manifests(yaml.safe_dump_all(objects))
        found = check("--manifests", path, "--json")
        (finding,) = found.json["findings"]
        assert found.status == (1 if finding["severity"] == "error" else 0)
        return dict(finding)

    return run


CheckObjects = Callable[..., dict[str, str]]
GOOD = endpoint("10.0.0.1", "db-0")


@pytest.mark.parametrize(
    "objects",
    [
        [imported(), piece("a", GOOD)],
        [imported(), piece("a", GOOD), piece("b", endpoint("10.1.0.1", "db-0"), cluster="us")],
        [imported(), piece("a", GOOD), piece("b", GOOD)],
        [imported("web", ips=["10.9.0.1"])],
        [imported(ips=["10.9.0.1"]), piece("a", GOOD, port=8080)],
    ],
    ids=["headless", "two clusters", "an endpoint twice", "no slices", "target ports"],
)
def test_what_implementations_write_is_clean(
    check: Check, manifests: Write, objects: list[object]
) -> None:
    found = check("--manifests", manifests(yaml.safe_dump_all(objects)))
    assert (found.status, found.out.splitlines()[0]) == (0, "found    nothing wrong")


def test_slice_without_source_cluster(check_objects: CheckObjects) -> None:
    finding = check_objects(imported(), piece("a", GOOD), piece("b", GOOD, cluster=""))
    assert (finding["severity"], finding["reason"]) == ("error", "bad_object")
    assert (
        "EndpointSlice shop/b: label multicluster.kubernetes.io/source-cluster is missing"
        in (finding["what"])
    )
    assert finding["mend"] == "have the exporting controller set it"
    assert "objects.yaml:" in finding["where"]


def test_object_that_cannot_be_read(check_objects: CheckObjects) -> None:
    finding = check_objects(imported(), piece("a", GOOD), imported("web", ips="10.0.0.1"))
    assert (finding["severity"], finding["reason"]) == ("error", "bad_object")
    assert "$.spec.ips of ServiceImport shop/web" in finding["where"]


def test_port_that_is_none_is_a_warning(check_objects: CheckObjects) -> None:
    ports = [{"name": "main", "port": 80}, {"name": "far", "port": 70000}]
    finding = check_objects(imported(ports=ports), piece("a", GOOD))
    assert (finding["severity"], finding["reason"]) == ("warning", "bad_object")


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ([imported()], "headless service shop/db has no EndpointSlice"),
        (
            [imported(), piece("a", endpoint("10.0.0.1", ready=False))],
            "headless service shop/db has 1 endpoint, but none is ready: eu (1)",
        ),
        ([imported(), piece("a")], "has EndpointSlices without any endpoint"),
    ],
    ids=["no slice", "none ready", "empty slice"],
)
def test_headless_without_ready_endpoint(
    check_objects: CheckObjects, objects: list[object], said: str
) -> None:
    finding = check_objects(*objects)
    assert (finding["severity"], finding["reason"]) == ("error", "no_ready_endpoint")
    assert said in finding["what"]
    assert "ServiceImport shop/db (headless)" in finding["where"]


def test_status_is_told_of_what_has_no_slices(check_objects: CheckObjects) -> None:
    condition = {"type": "Ready", "status": "False", "reason": "Pending", "message": "later"}
    status = {"clusters": [{"cluster": "eu"}], "conditions": [condition]}
    finding = check_objects(imported(status=status))
    assert "has no EndpointSlice, though its status names eu" in finding["what"]
    assert "its status says Ready is False (Pending: later)" in finding["what"]


def test_clusterset_ip_without_address(check_objects: CheckObjects) -> None:
    finding = check_objects(imported(ips=[]))
    assert (finding["severity"], finding["reason"]) == ("error", "no_address")
    finding = check_objects(imported(ips=[]), piece("a", GOOD))
    assert "--clusterset-ips slices" in finding["mend"]


def test_clusterset_ip_that_nobody_is_behind(check_objects: CheckObjects) -> None:
    finding = check_objects(
        imported(ips=["10.9.0.1"]), piece("a", endpoint("10.0.0.1", ready=False))
    )
    assert (finding["severity"], finding["reason"]) == ("warning", "no_ready_endpoint")


def test_cluster_that_exports_and_has_no_slice(check_objects: CheckObjects) -> None:
    status = {"clusters": [{"cluster": "eu"}, {"cluster": "us"}]}
    finding = check_objects(imported(status=status), piece("a", GOOD))
    assert (finding["severity"], finding["reason"]) == ("warning", "cluster_without_slice")
    assert finding["what"].startswith("us exports shop/db")


def test_conflict_of_an_import_that_resolves(check_objects: CheckObjects) -> None:
    condition = {"type": "Conflict", "status": "True", "reason": "PortConflict", "message": "80"}
    status = {"clusters": [{"cluster": "eu"}], "conditions": [condition]}
    finding = check_objects(imported(status=status), piece("a", GOOD))
    assert (finding["severity"], finding["reason"]) == ("warning", "condition")
    assert "Conflict is True (PortConflict: 80)" in finding["what"]


FOUR_CONDITIONS = {
    "conditions": [
        {"type": "Conflict", "status": "True"},
        {"type": "ConflictingPorts", "status": "True"},
        {"type": "Ready", "status": "Unknown"},
        {"type": "Foo", "status": "False"},
    ]
}


def test_conditions_are_judged_by_the_one_rule(check: Check, manifests: Write) -> None:
    objects = [imported(status=FOUR_CONDITIONS), piece("a", GOOD)]
    found = check("--manifests", manifests(yaml.safe_dump_all(objects)), "--json")
    assert [each["reason"] for each in found.json["findings"]] == ["condition"] * 3
    assert [each["what"].rpartition("says ")[2] for each in found.json["findings"]] == [
        "Conflict is True",
        "ConflictingPorts is True",
        "Ready is Unknown",
    ]


@pytest.mark.parametrize("parts", [{}, {"ips": []}], ids=["headless", "ClusterSetIP"])
def test_bad_conditions_are_told_once_of_what_does_not_resolve(
    check_objects: CheckObjects, parts: dict[str, object]
) -> None:
    what = check_objects(imported(status=FOUR_CONDITIONS, **parts))["what"]
    assert what.count("Conflict is True, ConflictingPorts is True and Ready is Unknown") == 1
    assert what.count("Ready is Unknown") == 1
    assert "Foo" not in what


def test_slices_without_import(check_objects: CheckObjects) -> None:
    finding = check_objects(piece("a", GOOD), piece("b", cluster="us"))
    assert (finding["severity"], finding["reason"]) == ("error", "slices_without_import")
    assert finding["what"].startswith("db.shop does not resolve: 2 EndpointSlices of eu and us")


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        (
            [piece("a", GOOD), piece("b", endpoint("10.0.0.2", "db-0"))],
            "host db-0 of eu is 10.0.0.1 and 10.0.0.2",
        ),
        (
            [piece("a", endpoint("10.0.0.1")), piece("b", endpoint("10.0.0.1", ready=False))],
            "endpoint 10.0.0.1 of eu is ready in one slice and not ready in another",
        ),
        (
            [piece("a", GOOD), piece("b", GOOD, cluster="us")],
            "eu and us have the same endpoint, 10.0.0.1",
        ),
    ],
    ids=["host", "readiness", "address"],
)
def test_slices_that_disagree(check_objects: CheckObjects, pieces: list[object], said: str) -> None:
    finding = check_objects(imported(), *pieces)
    assert (finding["severity"], finding["reason"]) == ("warning", "slices_disagree")
    assert finding["what"].startswith(said)
    assert "EndpointSlice shop/a and " in finding["where"]
    assert finding["where"].endswith("EndpointSlice shop/b")


def test_ports_that_conflict(check_objects: CheckObjects) -> None:
    ports = [{"name": "main", "port": 80}, {"name": "main", "port": 81}]
    finding = check_objects(imported(ports=ports), piece("a", GOOD))
    assert (finding["severity"], finding["reason"]) == ("error", "ports_conflict")
    assert finding["what"].startswith("port main/tcp is 80 and 81 at once")
    other = piece("b", endpoint("10.1.0.1"), cluster="us", port=8080)
    finding = check_objects(imported(), piece("a", GOOD), other)
    assert (finding["severity"], finding["reason"]) == ("warning", "ports_conflict")
    assert "port main/tcp of shop/db is 80 in eu and 8080 in us" in finding["what"]


def test_worst_comes_first_and_causes_before_effects(check: Check, manifests: Write) -> None:
    bad_port = imported("web", ips=["10.9.0.1"], ports=[{"name": "a", "port": 70000}])
    objects = [bad_port, imported(), piece("a", GOOD, cluster=""), piece("b", of="other")]
    found = check("--manifests", manifests(yaml.safe_dump_all(objects)), "--json")
    assert [(each["severity"], each["reason"]) for each in found.json["findings"]] == [
        ("error", "bad_object"),
        ("error", "slices_without_import"),
        ("error", "no_ready_endpoint"),
        ("warning", "bad_object"),
    ]
    assert (found.json["errors"], found.json["warnings"], found.json["notes"]) == (3, 1, 0)


def test_many_of_a_kind_are_shortened_in_text_alone(check: Check, manifests: Write) -> None:
    path = manifests(yaml.safe_dump_all([imported(f"db-{number}") for number in range(25)]))
    text = check("--manifests", path).out
    assert text.count("does not resolve") == 10
    assert "error    15 more of no_ready_endpoint; --json has them all" in text
    assert "found    25 errors" in text
    assert len(check("--manifests", path, "--json").json["findings"]) == 25


def test_names_of_objects_write_nothing_to_the_terminal(check: Check, manifests: Write) -> None:
    text = yaml.safe_dump(imported("web", ips=["\x1b[31mred"]))
    found = check("--manifests", manifests(text))
    assert "\x1b" not in found.out


@pytest.mark.parametrize(
    ("endpoints", "max_records", "is_told"),
    [(99, 0, False), (100, 0, True), (300, 200, True), (300, 100, False)],
)
def test_large_service_is_told_with_the_setting_that_helps(
    check: Check, manifests: Write, endpoints: int, max_records: int, is_told: bool
) -> None:
    many = [endpoint(f"10.0.{n >> 8}.{n & 255}", f"db-{n}") for n in range(endpoints)]
    path = manifests(yaml.safe_dump_all([imported(), piece("a", *many)]))
    found = check("--manifests", path, "--max-records", max_records, "--json")
    assert found.status == 0
    assert found.reasons("note") == ["many_records"] * is_told
    if is_told:
        finding = found.finding("many_records")
        assert f"db.shop has {endpoints} records of one type: behind BIND" in finding["what"]
        assert "--max-records 100" in finding["mend"]
