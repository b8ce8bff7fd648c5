"""The annotation that says when the change that a slice shows was."""

from typing import Any

import pytest

from mcsdns.objects.decode import SliceProfile, decode
from mcsdns.objects.model import EndpointSlice, Kind
from mcsdns.sources.kubernetes.codec import Decoder
from mcsdns.sources.kubernetes.reflector import Shown
from tests.scripted import wire

KEY = "endpoints.kubernetes.io/last-change-trigger-time"


def plain(annotations: Any) -> dict[str, Any]:
    labels = {
        "multicluster.kubernetes.io/service-name": "db",
        "multicluster.kubernetes.io/source-cluster": "eu",
    }
    metadata = {"name": "db-eu", "namespace": "shop", "labels": labels, "annotations": annotations}
    return {"metadata": metadata, "addressType": "IPv4", "endpoints": []}


def triggered_s(annotations: Any) -> float:
    found = decode(Kind.ENDPOINT_SLICE, plain(annotations)).object
    assert isinstance(found, EndpointSlice)
    return found.triggered_s


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023-11-14T22:13:20Z", 1_700_000_000.0),
        ("2023-11-14T22:13:20.25Z", 1_700_000_000.25),
        ("2023-11-14T22:13:20.123456789Z", 1_700_000_000.123456),
        ("2023-11-15T00:13:20+02:00", 1_700_000_000.0),
    ],
)
def test_rfc_3339_times_are_read(text: str, expected: float) -> None:
    assert triggered_s({KEY: text, "other": "annotation"}) == expected


@pytest.mark.parametrize(
    "text",
    ["", "soon", "2023-11-14T22:13:20", "1700000000", "1969-12-31T23:59:59Z", "1" * 5000, "0" * 8],
)
def test_what_is_no_time_counts_as_none(text: str) -> None:
    assert triggered_s({KEY: text}) == 0.0


@pytest.mark.parametrize("annotations", [None, {}, {"other": "annotation"}])
def test_a_slice_without_it_has_none(annotations: Any) -> None:
    assert triggered_s(annotations) == 0.0


def test_pages_and_lines_of_an_api_server_have_it() -> None:
    decoder = Decoder(Kind.ENDPOINT_SLICE, "discovery.k8s.io/v1", SliceProfile.MCS)
    thing = plain({KEY: "2023-11-14T22:13:20Z"})
    for reading in (
        decoder.item(wire.line(thing)),
        decoder.line(wire.line({"type": "MODIFIED", "object": thing})),
    ):
        assert isinstance(reading.message, Shown)
        assert isinstance(reading.message.object, EndpointSlice)
        assert reading.message.object.triggered_s == 1_700_000_000.0
