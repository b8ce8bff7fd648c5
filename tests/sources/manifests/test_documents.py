"""Manifests to objects: what is served, what is ignored, and what is said about the rest."""

import pytest

from mcsdns.objects.model import EndpointSlice, Object, ServiceImport
from mcsdns.sources.manifests import documents
from mcsdns.sources.manifests.documents import ANYTHING, Identity

IMPORT = """\
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceImport
metadata: {name: web, namespace: shop}
spec:
  type: ClusterSetIP
  ips: [10.0.0.1]
  ports:
  - {name: http, port: 80}
"""
SLICE = """\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: db-1
  namespace: shop
  labels:
    multicluster.kubernetes.io/service-name: db
    multicluster.kubernetes.io/source-cluster: eu
addressType: IPv4
endpoints:
- addresses: [10.1.0.1]
ports: []
"""
WEB = ("ServiceImport", "shop", "web")
DB_1 = ("EndpointSlice", "shop", "db-1")


def read(text: str) -> documents.Manifest:
    return documents.read(text, "a.yaml")


def objects_of(manifest: documents.Manifest) -> list[Object]:
    return [*manifest.imports, *manifest.slices]


def names(manifest: documents.Manifest) -> list[str]:
    return [each.name for each in objects_of(manifest)]


def said(manifest: documents.Manifest) -> list[tuple[str, str, str]]:
    """Where, about what, and the path."""
    return [(each.origin, each.problem.subject, each.problem.path) for each in manifest.problems]


def test_objects_know_their_file_and_line() -> None:
    manifest = read(f"# comment\n{IMPORT}---\n\n{SLICE}")
    web, db = objects_of(manifest)
    assert isinstance(web, ServiceImport)
    assert isinstance(db, EndpointSlice)
    assert (web.origin, web.api_version) == ("a.yaml:2", "multicluster.x-k8s.io/v1alpha1")
    assert db.origin == "a.yaml:12"
    assert not manifest.problems


def indented(text: str) -> str:
    return "- " + text.strip().replace("\n", "\n  ") + "\n"


def without_kind(text: str) -> str:
    return "".join(line for line in text.splitlines(True) if "kind:" not in line[:5])


LISTS = [
    "kind: List\nitems:\n" + indented(IMPORT) + indented(SLICE),
    "items:\n" + indented(IMPORT) + indented(SLICE) + "kind: List\n",
    "kind: ServiceImportList\napiVersion: multicluster.x-k8s.io/v1beta1\nitems:\n"
    + indented(without_kind(IMPORT))
    + indented(SLICE),
    (
        "apiVersion: multicluster.x-k8s.io/v1beta1\nitems:\n"
        "- metadata: {name: web}\n  spec: {type: Headless}\n"
        "- metadata: {name: db-1}\n  spec: {type: Headless}\n"
        "kind: ServiceImportList\n"
    ),
    (
        '{"kind": "ServiceImportList", "apiVersion": "multicluster.x-k8s.io/v1beta1", "items": [\n'
        '{"metadata": {"name": "web"}, "spec": {"type": "Headless"}},\n'
        '{"metadata": {"name": "db-1"}, "spec": {"type": "Headless"}}]}'
    ),
]


@pytest.mark.parametrize("text", LISTS)
def test_items_of_lists_are_objects(text: str) -> None:
    manifest = read(text)
    assert sorted(names(manifest)) == ["db-1", "web"]
    assert not manifest.problems


IGNORED = [
    "kind: Service\napiVersion: v1\n",
    "kind: ServiceExport\napiVersion: multicluster.x-k8s.io/v1alpha1\n",
    "kind: ConfigMap\ndata: {a: !!binary aGk=, b: [*x], c: &x 1}\n".replace("b: [*x], ", ""),
    (
        "kind: ServiceImport\napiVersion: multicluster.x-k8s.io/v1alpha1\n"
        "metadata: {name: a, labels: {multicluster.kubernetes.io/service-name: a}}\n"
    ),
    "kind: EndpointSlice\napiVersion: discovery.k8s.io/v1\nmetadata: {name: kube-dns-x}\n",
    "kind: List\nitems:\n- kind: Pod\n",
    "kind: PodList\nitems:\n- metadata: {name: a}\n",
    "kind: Basket\nitems:\n- {fruit: apple}\n",
    "kind: Twice\na: 1\na: 2\n",
]


@pytest.mark.parametrize("text", IGNORED)
def test_other_kinds_are_counted_and_not_talked_about(text: str) -> None:
    manifest = read(text)
    assert (objects_of(manifest), manifest.problems, manifest.ignored) == ([], [], 1)


BROKEN: list[tuple[str, str, tuple[str, str, str], str, Identity | None]] = [
    # object, with what in place of what; place and path; text; what is lost
    (IMPORT, "port: 80", ("port: http", "8", "$.spec.ports[0].port"), "got `str`", WEB),
    (IMPORT, "port: 80", ("port: .nan", "8", "$.spec.ports[0].port"), "got `float`", WEB),
    (IMPORT, "port: 80", ("port: 80.5", "8", "$.spec.ports[0].port"), "got `float`", WEB),
    (IMPORT, "port: 80", ('port: "80"', "8", "$.spec.ports[0].port"), "got `str`", WEB),
    (IMPORT, "port: 80", ("port: yes", "8", "$.spec.ports[0].port"), "got `bool`", WEB),
    (IMPORT, "port: 80", (f"port: {'9' * 30}", "8", "$.spec.ports[0].port"), "no port", None),
    (IMPORT, "port: 80", ("port: -1", "8", "$.spec.ports[0].port"), "no port number", None),
    (IMPORT, "name: http", ("name: on", "8", "$.spec.ports[0].name"), "put it in quotes", WEB),
    (IMPORT, "name: http", ("name: 8080", "8", "$.spec.ports[0].name"), "put it in quotes", WEB),
    (IMPORT, "[10.0.0.1]", ("10.0.0.1", "6", "$.spec.ips"), "got `str`", WEB),
    (IMPORT, "[10.0.0.1]", ("[10.0.0]", "6", "$.spec.ips[0]"), "no IP address", None),
    (IMPORT, "[10.0.0.1]", ("[10.0]", "6", "$.spec.ips[0]"), "put it in quotes", WEB),
    (IMPORT, "type: ClusterSetIP", ("type: X", "5", "$.spec.type"), "neither", WEB),
    (IMPORT, "name: web", ("name: 5", "3", "$.metadata.name"), "put it in quotes", ANYTHING),
    (IMPORT, "name: web, ", ("", "3", "$.metadata"), "missing required field `name`", ANYTHING),
    (IMPORT, "namespace: shop", ("namespace: 5", "3", "$.metadata.namespace"), "quotes", ANYTHING),
    (IMPORT, "{name: web, namespace: shop}", ("web", "3", "$.metadata"), "got `str`", ANYTHING),
    (IMPORT, "io/v1alpha1", ("io/v1", "1", "$.apiVersion"), "did you mean", WEB),
    (IMPORT, "multicluster.x-k8s.io/v1alpha1", ("5", "1", "$.apiVersion"), "5 is not read", WEB),
    (SLICE, "discovery.k8s.io/v1", ("discovery.k8s.io/v2", "1", "$.apiVersion"), "v1?", DB_1),
    (SLICE, "name: db\n", ("name: 5\n", "7", ("$.metadata.labels.multicluster.kubernetes.io/"
                           "service-name")), "put it in quotes", DB_1),
    (SLICE, "cluster: eu", ("cluster: yes", "8", ("$.metadata.labels.multicluster.kubernetes.io/"
                            "source-cluster")), "put it in quotes", DB_1),
    (SLICE, "    multicluster.kubernetes.io/source-cluster: eu\n",
     ("", "6", "$.metadata.labels"), "source-cluster is missing", None),
    (SLICE, "[10.1.0.1]", ("[a, b]", "11", "$.endpoints[0].addresses[0]"), "no IPv4", None),
    (SLICE, "ports: []", ("ports: {}", "12", "$.ports"), "got `object`", DB_1),
    (SLICE, "ports: []", ("ports: []\nports: []", "13", "$.ports"), "stands twice", None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "old", "change", "why", "lost"),
    BROKEN,
    ids=[change[0] for _, _, change, _, _ in BROKEN],
)
def test_broken_object_is_told_with_line_and_path_and_costs_no_other(
    text: str, old: str, change: tuple[str, str, str], why: str, lost: Identity | None
) -> None:
    new, line, path = change
    other = IMPORT.replace("web", "other")
    assert text.count(old) == 1
    manifest = read(f"{text.replace(old, new)}---\n{other}")
    located = manifest.problems[0]
    assert located.origin == f"a.yaml:{line}"
    assert located.problem.path == path
    assert why in located.problem.text
    assert located.lost == lost
    assert ("other" in names(manifest), len(objects_of(manifest))) == (True, 1 if lost else 2)


def test_problems_of_an_item_have_the_path_from_the_list() -> None:
    text = (
        "kind: List\nitems:\n" + indented(SLICE) + indented(IMPORT.replace("port: 80", "port: x"))
    )
    assert said(read(text)) == [
        ("a.yaml:22", "ServiceImport shop/web", "$.items[1].spec.ports[0].port")
    ]


NOT_OBJECTS = [
    ("[1, 2]", "$", 1),
    ("5", "$", 1),
    ("text", "$", 1),
    ("\n{}", "$", 2),
    ("\nname: x", "$", 2),
    ("kind: 5", "$", 1),
    ("kind: [ServiceImport]", "$", 1),
    ("kind: List\nitems:\n- kind: Pod\n- 5\n", "$.items[1]", 4),
    ("kind: List\nitems:\n- kind: Pod\n- {a: 1}\n", "$.items[1]", 4),
    ('{"kind": "List", "items": [{"kind": "Pod"},\n[]]}', "$.items[1]", 2),
]


@pytest.mark.parametrize(("text", "path", "line"), NOT_OBJECTS)
def test_what_is_no_object_is_told(text: str, path: str, line: int) -> None:
    manifest = read(text)
    assert said(manifest) == [(f"a.yaml:{line}", "document", path)]
    assert manifest.problems[0].lost == ANYTHING


def test_list_that_breaks_serves_the_items_before() -> None:
    manifest = read("kind: List\nitems:\n" + indented(IMPORT) + indented(SLICE) + "- kind: [\n")
    assert names(manifest) == ["web", "db-1"]
    assert said(manifest) == [("a.yaml:24", "document", "$.items[2].kind[0]")]


def test_unreadable_document_may_have_been_anything() -> None:
    manifest = read(f"a: b: c\n---\n{IMPORT}")
    assert names(manifest) == ["web"]
    assert said(manifest) == [("a.yaml:1", "document", "$")]
    assert manifest.problems[0].lost == ANYTHING


def test_aliases_and_merges_make_objects() -> None:
    text = IMPORT.replace("spec:", "spec: &spec") + "---\n" + SLICE
    assert names(read(text)) == ["web", "db-1"]
    shared = f"kind: List\nitems:\n{indented(IMPORT)}".replace("spec:", "spec: &spec")
    shared += indented(IMPORT.partition("spec:")[0].replace("web", "other") + "spec: *spec\n")
    web, other = objects_of(read(shared))
    assert isinstance(web, ServiceImport)
    assert isinstance(other, ServiceImport)
    assert web.ips == other.ips
