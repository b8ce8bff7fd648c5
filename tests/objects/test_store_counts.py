"""Running counts of the store: always what a walk over everything would find."""

from hypothesis import given
from hypothesis import strategies as st

from mcsdns.objects.decode import decode
from mcsdns.objects.events import Apply, Delete, Event, Init, InitApply, InitDone
from mcsdns.objects.model import EndpointSlice, Kind, Object
from mcsdns.objects.store import MOST_CLUSTERS, OTHER, Statistics, Store
from tests.worlds import endpoint_slice, service_import


def counted_anew(store: Store) -> Statistics:
    """What a walk over all objects finds."""
    slices = store.objects(Kind.ENDPOINT_SLICE)
    pieces = [each for each in slices if isinstance(each, EndpointSlice)]
    served = [
        endpoint
        for piece in pieces
        if (piece.namespace, piece.service) in store.imports
        for endpoint in piece.endpoints
    ]
    of: dict[str, int] = {}
    for piece in pieces:
        of[piece.cluster] = of.get(piece.cluster, 0) + 1
    ready = sum(endpoint.ready for endpoint in served)
    return Statistics(len(store.imports), len(pieces), len(served), ready, of)


IMPORTS = st.sampled_from(["web", "db"]).map(service_import)
SLICES = st.builds(
    endpoint_slice,
    st.sampled_from(["web", "db"]),
    st.sampled_from(["eu", "us"]),
    st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2"]), max_size=2),
    name=st.sampled_from(["a", "b", "c"]),
    ready=st.booleans(),
)
OBJECTS = IMPORTS | SLICES
KEYS = st.sampled_from(["web", "db", "a", "b", "c"]).map(lambda name: ("shop", name))
EVENTS = (
    OBJECTS.map(Apply)
    | OBJECTS.map(InitApply)
    | st.builds(Delete, st.sampled_from(Kind), KEYS)
    | st.sampled_from(Kind).map(Init)
    | st.sampled_from(Kind).map(InitDone)
)


@given(st.lists(EVENTS, max_size=40))
def test_after_any_events_the_counts_are_those_of_a_walk(events: list[Event]) -> None:
    store = Store()
    for event in events:
        store.apply(event)
        assert store.statistics() == counted_anew(store)


def test_endpoints_count_once_their_service_is_imported() -> None:
    store = Store()
    store.apply(Apply(endpoint_slice("db", "eu", ["10.1.0.1", "10.1.0.2"], ready=False)))
    assert (store.statistics().endpoints, store.statistics().ready_endpoints) == (0, 0)
    store.apply(Apply(service_import("db")))
    assert (store.statistics().endpoints, store.statistics().ready_endpoints) == (2, 0)
    store.apply(Delete(Kind.SERVICE_IMPORT, ("shop", "db")))
    assert (store.statistics().endpoints, store.statistics().ready_endpoints) == (0, 0)


def test_clusters_past_the_first_ones_are_counted_together() -> None:
    store = Store()
    for number in range(MOST_CLUSTERS + 3):
        store.apply(Apply(of_cluster(f"c{number}")))
    slices_of = store.statistics().slices_of
    assert len(slices_of) == MOST_CLUSTERS + 1
    assert slices_of[OTHER] == 3
    assert sum(slices_of.values()) == MOST_CLUSTERS + 3


def test_a_cluster_that_goes_makes_room_for_another() -> None:
    store = Store()
    for number in range(MOST_CLUSTERS + 1):
        store.apply(Apply(of_cluster(f"c{number}")))
    store.apply(Delete(Kind.ENDPOINT_SLICE, of_cluster("c0").key))
    assert OTHER not in store.statistics().slices_of
    assert f"c{MOST_CLUSTERS}" in store.statistics().slices_of


def test_a_cluster_that_is_called_other_is_counted_with_the_others() -> None:
    store = Store()
    for number in range(MOST_CLUSTERS):
        store.apply(Apply(of_cluster(OTHER if not number else f"c{number}")))
    store.apply(Apply(of_cluster("late")))
    assert store.statistics().slices_of[OTHER] == 2


def test_a_cluster_id_that_is_none_is_no_label() -> None:
    store = Store()
    labels = {
        "multicluster.kubernetes.io/service-name": "db",
        "multicluster.kubernetes.io/source-cluster": "a.b.c/evil name",
    }
    plain = {"metadata": {"name": "x", "labels": labels}, "addressType": "IPv4"}
    found = decode(Kind.ENDPOINT_SLICE, plain).object
    assert found is not None
    store.apply(Apply(found))
    assert store.statistics().slices_of == {"": 1}


def of_cluster(cluster: str) -> Object:
    return endpoint_slice("db", cluster, ["10.1.0.1"])
