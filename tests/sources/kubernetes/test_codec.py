"""Pages, lines of watches and failures, as octets of an API server."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcsdns.errors import ObjectError
from mcsdns.objects.decode import SliceProfile
from mcsdns.objects.model import EndpointSlice, ImportType, Kind, ServiceImport
from mcsdns.sources.kubernetes.codec import (
    MAX_RETRY_AFTER_S,
    ApiStatus,
    Decoder,
    Reading,
    read_page,
    read_status,
)
from mcsdns.sources.kubernetes.reflector import Bookmark, Gone, Shown, Trouble

V1BETA1 = "multicluster.x-k8s.io/v1beta1"
IMPORTS = Decoder(Kind.SERVICE_IMPORT, V1BETA1, SliceProfile.MCS)
SLICES = Decoder(Kind.ENDPOINT_SLICE, "discovery.k8s.io/v1", SliceProfile.MCS)
BY_KARMADA = Decoder(Kind.ENDPOINT_SLICE, "discovery.k8s.io/v1", SliceProfile.KARMADA)
DECODERS = [
    pytest.param(IMPORTS, id="imports"),
    pytest.param(SLICES, id="slices"),
    pytest.param(BY_KARMADA, id="slices by Karmada"),
]
LABELS = {
    "multicluster.kubernetes.io/service-name": "web",
    "multicluster.kubernetes.io/source-cluster": "eu",
}
KARMADA_LABELS = {
    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.karmada.io",
    "kubernetes.io/service-name": "derived-web",
}
DEEP = b"[" * 5000 + b"]" * 5000

Plain = dict[str, Any]


def an_import(**changed: Any) -> Plain:
    """An import; `metadata__name=...` sets a field of a field, None stays null."""
    return changed_in(
        {
            "metadata": {"namespace": "shop", "name": "web", "resourceVersion": "7", "uid": "u"},
            "spec": {
                "type": "ClusterSetIP",
                "ips": ["10.0.0.1"],
                "ports": [{"name": "http", "protocol": "TCP", "port": 80}],
            },
            "status": {"clusters": [{"cluster": "eu"}], "conditions": [{"type": "Ready"}]},
        },
        changed,
    )


def a_slice(**changed: Any) -> Plain:
    return changed_in(
        {
            "metadata": {
                "namespace": "shop",
                "name": "web-1",
                "resourceVersion": "8",
                "labels": dict(LABELS),
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.2"], "conditions": {"ready": True}}],
            "ports": [{"name": "http", "port": 80}],
        },
        changed,
    )


def changed_in(plain: Plain, changed: Plain) -> Plain:
    """Put values at paths: `endpoints__0__hostname`."""
    for path, value in changed.items():
        *parents, last = (int(step) if step.isdigit() else step for step in path.split("__"))
        where: Any = plain
        for step in parents:
            where = where[step]
        where[last] = value
    return plain


def octets(plain: object) -> bytes:
    return json.dumps(plain).encode()


def line(event_type: str, thing: object) -> bytes:
    return octets({"type": event_type, "object": thing})


def object_of(reading: Reading) -> ServiceImport | EndpointSlice | None:
    assert isinstance(reading.message, Shown)
    return reading.message.object


# Pages.


def test_page_has_items_a_version_and_a_token() -> None:
    metadata = {"resourceVersion": "12", "continue": "more", "remainingItemCount": 3}
    page = read_page(octets({"kind": "L", "metadata": metadata, "items": [an_import(), 5]}))
    assert (page.metadata.resource_version, page.metadata.continue_token) == ("12", "more")
    assert page.items is not None
    assert isinstance(object_of(IMPORTS.item(page.items[0])), ServiceImport)
    assert IMPORTS.item(page.items[1]).message is None


@pytest.mark.parametrize("items", [{"items": None}, {"items": []}, {}])
def test_last_page_may_be_empty(items: Plain) -> None:
    page = read_page(octets({"metadata": {"resourceVersion": "12"}, **items}))
    assert not page.items
    assert not page.metadata.continue_token


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"[]", b"{}", b"\xff", b'{"metadata":5}', b"404 page not found\n",
     b'{"metadata":{},"items":{}}', b'{"metadata":{"resourceVersion":5}}', b"<html></html>"],
)  # fmt: skip
def test_page_that_is_none(body: bytes) -> None:
    with pytest.raises(ObjectError, match="not a list"):
        read_page(body)


# Lines.


@pytest.mark.parametrize("event_type", ["ADDED", "MODIFIED"])
def test_line_with_an_import(event_type: str) -> None:
    reading = IMPORTS.line(line(event_type, an_import()))
    assert isinstance(reading.message, Shown)
    assert (reading.message.key, reading.message.resource_version) == (("shop", "web"), "7")
    seen = reading.message.object
    assert isinstance(seen, ServiceImport)
    assert (seen.type, seen.ips) == (ImportType.CLUSTER_SET_IP, (b"\x0a\0\0\x01",))
    assert (seen.clusters, seen.api_version) == (("eu",), V1BETA1)
    assert reading.problems == ()


@pytest.mark.parametrize("event_type", ["ADDED", "MODIFIED"])
def test_line_with_a_slice(event_type: str) -> None:
    reading = SLICES.line(line(event_type, a_slice()))
    assert isinstance(reading.message, Shown)
    assert (reading.message.key, reading.message.resource_version) == (("shop", "web-1"), "8")
    seen = reading.message.object
    assert isinstance(seen, EndpointSlice)
    assert (seen.service, seen.cluster) == ("web", "eu")
    assert seen.endpoints[0].addresses == (b"\x0a\0\0\x02",)


def test_slices_of_karmada_count_by_their_profile_only() -> None:
    thing = a_slice(metadata__labels=KARMADA_LABELS, metadata__name="imported-eu-web-x7f2k")
    assert object_of(SLICES.item(octets(thing))) is None
    seen = object_of(BY_KARMADA.item(octets(thing)))
    assert isinstance(seen, EndpointSlice)
    assert (seen.service, seen.cluster) == ("web", "eu")


@pytest.mark.parametrize("decoder", DECODERS)
def test_deleted_line_is_gone(decoder: Decoder) -> None:
    reading = decoder.line(line("DELETED", a_slice()))
    assert reading == Reading(Gone(("shop", "web-1"), "8"))


@pytest.mark.parametrize(
    ("decoder", "thing"),
    [(IMPORTS, an_import(spec__type=5)), (SLICES, a_slice(endpoints="none"))],
)
def test_deleted_object_of_a_wrong_type_is_gone(decoder: Decoder, thing: Plain) -> None:
    assert isinstance(decoder.line(line("DELETED", thing)).message, Gone)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"resourceVersion": "20"}, Bookmark("20")),
        ({"resourceVersion": "20", "creationTimestamp": None}, Bookmark("20")),
        ({"resourceVersion": "20", "annotations": None}, Bookmark("20")),
        ({"annotations": {"k8s.io/initial-events-end": "true"}}, Bookmark("", ends_list=True)),
        (
            {"resourceVersion": "20", "annotations": {"k8s.io/initial-events-end": "true"}},
            Bookmark("20", ends_list=True),
        ),
        (
            {"resourceVersion": "20", "annotations": {"k8s.io/initial-events-end": "false"}},
            Bookmark("20"),
        ),
        ({"resourceVersion": "20", "annotations": {"other": "true"}}, Bookmark("20")),
        ({}, Bookmark("")),
    ],
)
def test_bookmark(decoder: Decoder, metadata: Plain, expected: Bookmark) -> None:
    thing = {"kind": "ServiceImport", "apiVersion": V1BETA1, "metadata": metadata, "spec": {}}
    assert decoder.line(line("BOOKMARK", thing)) == Reading(expected)


@pytest.mark.parametrize("decoder", DECODERS)
def test_bookmark_that_looks_like_an_object(decoder: Decoder) -> None:
    thing = {"metadata": {"name": "", "namespace": "", "resourceVersion": "20"}}
    assert decoder.line(line("BOOKMARK", thing)) == Reading(Bookmark("20"))


@pytest.mark.parametrize("decoder", DECODERS)
def test_error_line_is_a_status(decoder: Decoder) -> None:
    status = {
        "kind": "Status",
        "metadata": {},
        "code": 410,
        "reason": "Expired",
        "message": "old",
    }
    reading = decoder.line(line("ERROR", status))
    assert isinstance(reading.message, ApiStatus)
    assert (reading.message.code, reading.message.message) == (410, "old")
    assert reading.message.trouble is Trouble.EXPIRED


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    "octets_of_line",
    [b"", b"{", b"null", b"5", b"[]", b"{}", b"\xff\xfe", b'{"type":5,"object":{}}',
     b'{"type":"ADDED"}', b'{"object":{"metadata":{"name":"a"}}}', b'{"type":null,"object":{}}',
     line("PRUNED", {"metadata": {"name": "a"}}), line("", {"metadata": {"name": "a"}}),
     line("added", {"metadata": {"name": "a"}}), line("BOOKMARK", None), line("BOOKMARK", 5),
     line("ERROR", None), line("ERROR", {"code": "410"}), line("DELETED", None),
     line("DELETED", {"metadata": 5}), line("ADDED", {})[:-3], line("ADDED", {}) + b"}",
     b"500 internal error", b'{"type":"ADDED\xff","object":{"metadata":{"name":"a"}}}'],
)  # fmt: skip
def test_line_that_is_no_watch_event(decoder: Decoder, octets_of_line: bytes) -> None:
    with pytest.raises(ObjectError, match="a line of the watch"):
        decoder.line(octets_of_line)


def test_unknown_type_of_line_is_named() -> None:
    with pytest.raises(ObjectError, match="PRUNED"):
        IMPORTS.line(line("PRUNED", an_import()))


# Wrong types: only the object is lost.

WRONG_IMPORTS = [
    ({"spec": 5}, "$.spec"),
    ({"spec": []}, "$.spec"),
    ({"spec__type": 5}, "$.spec.type"),
    ({"spec__type": "LoadBalancer"}, "$.spec.type"),
    ({"spec__type": None}, "$.spec.type"),
    ({"spec": None}, "$.spec.type"),
    ({"spec__ips": "10.0.0.1"}, "$.spec.ips"),
    ({"spec__ips": [5]}, "$.spec.ips[...]"),
    ({"spec__ips": [None]}, "$.spec.ips[...]"),
    ({"spec__ports": {}}, "$.spec.ports"),
    ({"spec__ports__0": "http"}, "$.spec.ports[...]"),
    ({"spec__ports__0__name": 5}, "$.spec.ports[...].name"),
    ({"spec__ports__0__protocol": 6}, "$.spec.ports[...].protocol"),
    ({"spec__ports__0__port": "80"}, "$.spec.ports[...].port"),
    ({"spec__ports__0__port": 80.5}, "$.spec.ports[...].port"),
    ({"spec__ports__0__port": True}, "$.spec.ports[...].port"),
    ({"status": "ready"}, "$.status"),
    ({"status__clusters": "eu"}, "$.status.clusters"),
    ({"status__clusters__0": "eu"}, "$.status.clusters[...]"),
    ({"status__clusters__0__cluster": 5}, "$.status.clusters[...].cluster"),
    ({"status__conditions": {}}, "$.status.conditions"),
    ({"status__conditions__0__type": 5}, "$.status.conditions[...].type"),
    ({"status__conditions__0__status": True}, "$.status.conditions[...].status"),
    ({"metadata__uid": 5}, "$.metadata.uid"),
    ({"metadata__labels": {"a": 5}}, "$.metadata.labels[...]"),
    ({"metadata__labels": []}, "$.metadata.labels"),
]
WRONG_SLICES = [
    ({"addressType": 4}, "$.addressType"),
    ({"endpoints": {}}, "$.endpoints"),
    ({"endpoints__0": "10.0.0.1"}, "$.endpoints[...]"),
    ({"endpoints__0__addresses": "10.0.0.1"}, "$.endpoints[...].addresses"),
    ({"endpoints__0__addresses": [5]}, "$.endpoints[...].addresses[...]"),
    ({"endpoints__0__hostname": 5}, "$.endpoints[...].hostname"),
    ({"endpoints__0__conditions": True}, "$.endpoints[...].conditions"),
    ({"endpoints__0__conditions__ready": "true"}, "$.endpoints[...].conditions.ready"),
    ({"endpoints__0__conditions__ready": 1}, "$.endpoints[...].conditions.ready"),
    ({"endpoints__0__zone": 5}, "$.endpoints[...].zone"),
    ({"endpoints__0__nodeName": 5}, "$.endpoints[...].nodeName"),
    ({"ports": {}}, "$.ports"),
    ({"ports__0__port": "80"}, "$.ports[...].port"),
    ({"ports__0__port": {}}, "$.ports[...].port"),
    ({"metadata__labels": "none"}, "$.metadata.labels"),
    ({"metadata__labels": {**LABELS, "multicluster.kubernetes.io/service-name": "a.b"}},
     "$.metadata.labels"),
]  # fmt: skip
WRONG = [(IMPORTS, an_import(**how), path) for how, path in WRONG_IMPORTS]
WRONG += [(SLICES, a_slice(**how), path) for how, path in WRONG_SLICES]


@pytest.mark.parametrize(
    ("decoder", "thing", "path"),
    [pytest.param(*row, id=f"{row[2]}-{number}") for number, row in enumerate(WRONG)],
)
def test_wrong_type_costs_the_object_only(decoder: Decoder, thing: Plain, path: str) -> None:
    key = (thing["metadata"]["namespace"], thing["metadata"]["name"])
    for reading in (decoder.item(octets(thing)), decoder.line(line("MODIFIED", thing))):
        assert reading.message == Shown(key, None, thing["metadata"]["resourceVersion"])
        (problem,) = reading.problems
        assert problem.path.replace("[0]", "[...]") == path
        assert problem.subject.endswith(f" {key[0]}/{key[1]}")
        assert "not served" in problem.text


@pytest.mark.parametrize("decoder", DECODERS)
def test_wrong_type_of_an_annotation_still_tells_which_object(decoder: Decoder) -> None:
    metadata = {"namespace": "shop", "name": "web", "annotations": {"a": 5}}
    reading = decoder.line(line("MODIFIED", {"metadata": metadata}))
    assert reading.message == Shown(("shop", "web"), None)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    "thing",
    [None, 5, [], "text", {}, {"metadata": None}, {"metadata": 5}, {"metadata": {}},
     {"metadata": {"name": None}}, {"metadata": {"name": 5}}, {"metadata": {"namespace": "shop"}}],
)  # fmt: skip
def test_object_without_a_name_is_reported_and_passed_over(decoder: Decoder, thing: Any) -> None:
    for reading in (decoder.item(octets(thing)), decoder.line(line("ADDED", thing))):
        assert reading.message is None
        assert len(reading.problems) == 1


@pytest.mark.parametrize("decoder", DECODERS)
def test_empty_name_is_reported(decoder: Decoder) -> None:
    reading = decoder.item(octets({"metadata": {"name": "", "labels": LABELS}}))
    assert object_of(reading) is None
    assert [problem.path for problem in reading.problems] == ["$.metadata.name"]


def test_namespace_that_no_dns_name_can_hold_is_reported() -> None:
    reading = IMPORTS.item(octets(an_import(metadata__namespace="a.b")))
    assert object_of(reading) is None
    assert [problem.path for problem in reading.problems] == ["$.metadata.namespace"]


def nulled(plain: Any, path: str = "") -> list[str]:
    """Paths of all fields below, for `an_import` and `a_slice`."""
    found: list[str] = []
    items = plain.items() if isinstance(plain, dict) else enumerate(plain)
    for key, value in items:
        here = f"{path}__{key}" if path else str(key)
        if not isinstance(plain, list) and "/" not in str(key):
            found.append(here)
        if isinstance(value, dict | list):
            found += nulled(value, here)
    return found


NEEDED = {"metadata", "metadata__name", "spec", "spec__type"}
"""What an import cannot be without; a slice needs the first two."""


@pytest.mark.parametrize("path", sorted(set(nulled(an_import())) - NEEDED))
def test_null_in_an_import_is_as_absent(path: str) -> None:
    reading = IMPORTS.item(octets(an_import(**{path: None})))
    assert isinstance(object_of(reading), ServiceImport)
    assert reading.problems == ()


@pytest.mark.parametrize("path", sorted(set(nulled(a_slice())) - NEEDED))
def test_null_in_a_slice_is_as_absent(path: str) -> None:
    reading = SLICES.item(octets(a_slice(**{path: None})))
    seen = object_of(reading)
    assert isinstance(seen, EndpointSlice) or path == "metadata__labels"
    assert not reading.problems or path == "addressType"


def test_absent_namespace_is_the_default_one() -> None:
    assert IMPORTS.item(octets({"metadata": {"name": "web"}})).message == Shown(
        ("default", "web"), None
    )
    reading = IMPORTS.line(line("DELETED", {"metadata": {"name": "web"}}))
    assert reading.message == Gone(("default", "web"))


def test_problems_of_parts_leave_the_object() -> None:
    reading = IMPORTS.item(octets(an_import(spec__ips=["10.0.0.1", "10.0.0.999"])))
    assert object_of(reading) is not None
    assert [problem.path for problem in reading.problems] == ["$.spec.ips[1]"]


@pytest.mark.parametrize("ips", [["None"], [""], [], None, ["None", "10.0.0.999"], ["::g"]])
def test_what_stands_in_the_addresses_of_a_headless_import_is_no_problem(
    ips: list[str] | None,
) -> None:
    reading = IMPORTS.item(octets(an_import(spec__type="Headless", spec__ips=ips)))
    assert object_of(reading) is not None
    assert reading.problems == ()


@pytest.mark.parametrize(("decoder", "thing"), [(IMPORTS, an_import()), (SLICES, a_slice())])
def test_fields_that_are_not_ours_do_not_count(decoder: Decoder, thing: Plain) -> None:
    metadata = thing["metadata"] | {"managedFields": [{"x": 5}], "ownerReferences": "none"}
    others = {"apiVersion": 5, "kind": [], "metadata": metadata, "data": {"metadata": 5}}
    assert object_of(decoder.item(octets(thing | others))) is not None


# Failures.

STATUSES: list[tuple[str, int, object, Trouble]] = [
    ("410 Expired", 410, {"code": 410, "reason": "Expired"}, Trouble.EXPIRED),
    ("410 Gone", 410, {"code": 410, "reason": "Gone"}, Trouble.EXPIRED),
    ("410 without a reason", 410, {"code": 410}, Trouble.EXPIRED),
    ("Expired by its reason", 500, {"reason": "Expired"}, Trouble.EXPIRED),
    ("504 with its cause", 504, {"reason": "Timeout", "details": {
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large"}],
        "retryAfterSeconds": 1}}, Trouble.TOO_NEW),
    ("504 with another cause", 504, {"details": {"causes": [{"reason": "x"}, {}]}},
     Trouble.UNAVAILABLE),
    ("504 without a cause", 504, {"reason": "Timeout", "details": {}}, Trouble.UNAVAILABLE),
    ("504, null", 504, {"reason": None, "message": None, "details": None}, Trouble.UNAVAILABLE),
    ("504, null causes", 504, {"details": {"causes": None}}, Trouble.UNAVAILABLE),
    ("400", 400, {"reason": "BadRequest"}, Trouble.NOT_SUPPORTED),
    ("401", 401, {"reason": "Unauthorized"}, Trouble.UNAUTHORIZED),
    ("403", 403, {"reason": "Forbidden"}, Trouble.FORBIDDEN),
    ("404", 404, {"reason": "NotFound"}, Trouble.NOT_FOUND),
    ("422", 422, {"reason": "Invalid"}, Trouble.NOT_SUPPORTED),
    ("429", 429, {"reason": "TooManyRequests"}, Trouble.THROTTLED),
    ("500", 500, {"reason": "InternalError"}, Trouble.UNAVAILABLE),
    ("503", 503, {}, Trouble.UNAVAILABLE),
    ("302", 302, {}, Trouble.UNAVAILABLE),
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "body", "expected"), [pytest.param(*row, id=why) for why, *row in STATUSES]
)
def test_trouble_of_a_status(code: int, body: object, expected: Trouble) -> None:
    status = read_status(octets(body), code)
    assert (status.code, status.trouble) == (code, expected)


@pytest.mark.parametrize("code", [200, 401, 404])
def test_code_is_that_of_http(code: int) -> None:
    assert read_status(octets({"code": 500, "message": "no"}), code).code == code


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        (None, 0),
        ({}, 0),
        ({"retryAfterSeconds": None}, 0),
        ({"retryAfterSeconds": 7}, 7),
        ({"retryAfterSeconds": 0.5}, 0.5),
        ({"retryAfterSeconds": 60}, 60),
        ({"retryAfterSeconds": 61}, 60),
        ({"retryAfterSeconds": 10**9}, 60),
        ({"retryAfterSeconds": -1}, 0),
    ],
)
def test_retry_after(details: object, expected: float) -> None:
    status = read_status(octets({"details": details}), 429)
    assert status.trouble is Trouble.THROTTLED
    assert status.retry_after_s == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"404 page not found\n", "404 page not found"),
        (b"", ""),
        (b"Unauthorized\xff", "Unauthorized\ufffd"),
        (b"<html>", "<html>"),
        (b'{"code": "x"}', '{"code": "x"}'),
        (b'{"details": 5}', '{"details": 5}'),
        (b"[]", "[]"),
        (b"{", "{"),
        (b"x" * 5000, "x" * 200),
        ("é".encode() * 200, "é" * 100),
    ],
)
def test_body_that_is_no_status_is_a_message(body: bytes, message: str) -> None:
    status = read_status(body, 404)
    assert (status.code, status.message) == (404, message)
    assert status.trouble is Trouble.NOT_FOUND


# Properties: any octets give a reading, or an ObjectError.

FIELDS = ["metadata", "name", "namespace", "labels", "annotations", "resourceVersion", "spec",
          "type", "ips", "ports", "port", "protocol", "status", "clusters", "cluster", "endpoints",
          "addresses", "conditions", "ready", "addressType", "items", "continue", "object", "code",
          "details", "causes", "reason", "message", "retryAfterSeconds"]  # fmt: skip
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["ClusterSetIP", "Headless", "10.0.0.1", "IPv4", "web", "Expired", *LABELS]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6)
    ),
    max_leaves=20,
)
TYPES = st.sampled_from(["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR", "PRUNED"])
NAMED = st.fixed_dictionaries(
    {"metadata": st.fixed_dictionaries({"name": SCALARS, "labels": st.just(LABELS)})},
    optional={"spec": JSON, "status": JSON, "endpoints": JSON, "ports": JSON, "addressType": JSON},
)
THINGS = st.one_of(JSON, NAMED)
LINES = st.one_of(st.binary(), JSON.map(octets), st.builds(line, TYPES, THINGS))


def mangled(text: bytes, spot: int, octet: int) -> bytes:
    """Replace one octet."""
    spot %= len(text)
    return text[:spot] + bytes([octet]) + text[spot + 1 :]


MANGLED = st.builds(
    mangled,
    st.one_of(
        st.builds(line, TYPES, st.just(an_import())), st.builds(line, TYPES, st.just(a_slice()))
    ),
    st.integers(0, 1000),
    st.integers(0, 255),
)


@pytest.mark.parametrize("decoder", DECODERS)
@given(octets_of_line=st.one_of(LINES, MANGLED))
def test_any_line_gives_a_reading_or_an_object_error(
    decoder: Decoder, octets_of_line: bytes
) -> None:
    try:
        reading = decoder.line(octets_of_line)
    except ObjectError:
        return
    assert isinstance(reading, Reading)


@pytest.mark.parametrize("decoder", DECODERS)
@given(thing=THINGS)
def test_any_item_gives_a_reading(decoder: Decoder, thing: Any) -> None:
    reading = decoder.item(msgspec.Raw(octets(thing)))
    assert isinstance(reading.message, Shown | None)


@given(st.one_of(st.binary(), JSON.map(octets)))
def test_any_octets_give_a_page_or_an_object_error(body: bytes) -> None:
    try:
        page = read_page(body)
    except ObjectError:
        return
    for item in page.items or []:
        assert isinstance(IMPORTS.item(item), Reading)


@given(st.one_of(st.binary(), JSON.map(octets)), st.integers(100, 599))
@example(DEEP, 500)
@example(b'{"details":{"retryAfterSeconds":1e999}}', 429)
@example(b'{"code":1' + b"0" * 5000 + b"}", 500)
def test_any_octets_give_a_status(body: bytes, code: int) -> None:
    status = read_status(body, code)
    assert status.code == code
    assert isinstance(status.trouble, Trouble)
    assert 0 <= status.retry_after_s <= MAX_RETRY_AFTER_S


ILL_FORMED = [
    pytest.param(b'{"metadata":{"name":"a\xff"}}', id="no UTF-8"),
    pytest.param(b'{"metadata":{"name":"a\\ud800"}}', id="half a surrogate pair"),
    pytest.param(b'{"spec":5,"metadata":{"name":"a\xff"}}', id="no UTF-8, wrong type"),
    pytest.param(b'{"metadata":{"name":"a"},"x":' + DEEP + b"}", id="nested deeply"),
]


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("item", ILL_FORMED)
def test_ill_formed_item_costs_itself_only(decoder: Decoder, item: bytes) -> None:
    page = b'{"metadata":{"resourceVersion":"1"},"items":[' + item + b"]}"
    try:
        (raw,) = read_page(page).items or []
    except ObjectError:
        return
    assert isinstance(decoder.item(raw), Reading)


@pytest.mark.parametrize("decoder", DECODERS)
def test_deeply_nested_line_is_an_object_error(decoder: Decoder) -> None:
    ill_formed = b'{"type":"ADDED","object":{"metadata":{"name":"a"},"x":' + DEEP + b"}}"
    with pytest.raises(ObjectError):
        decoder.line(ill_formed)
