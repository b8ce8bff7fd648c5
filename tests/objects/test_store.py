from mcsdns.objects.events import Apply, Delete, Init, InitApply, InitDone
from mcsdns.objects.model import Kind
from mcsdns.objects.store import Store
from tests.worlds import endpoint_slice, service_import

WEB = service_import("web", ips=["10.0.0.1"])
DB = service_import("db")
EU = endpoint_slice("db", "eu", ["10.1.0.1"])


def test_a_service_is_its_import_and_its_slices() -> None:
    store = Store()
    assert store.apply(Apply(EU)) == {("shop", "db")}
    assert store.get(("shop", "db")) is None
    assert store.orphans(("shop", "db")) == (EU,)
    assert store.apply(Apply(DB)) == {("shop", "db")}
    service = store.get(("shop", "db"))
    assert service is not None
    assert (service.imported, service.slices) == (DB, (EU,))


def test_an_object_that_did_not_change_changes_nothing() -> None:
    store = Store()
    store.apply(Apply(EU))
    assert store.apply(Apply(EU)) == set()
    assert store.apply(Delete(Kind.SERVICE_IMPORT, ("shop", "none"))) == set()


def test_a_slice_that_moves_to_another_service_changes_both() -> None:
    store = Store()
    store.apply(Apply(EU))
    moved = endpoint_slice("web", "eu", ["10.1.0.1"], name="db-eu")
    assert store.apply(Apply(moved)) == {("shop", "db"), ("shop", "web")}
    assert store.orphans(("shop", "db")) == ()


def test_a_slice_never_counts_for_another_namespace() -> None:
    store = Store()
    store.apply(Apply(DB))
    store.apply(Apply(endpoint_slice("db", "eu", ["10.1.0.1"], namespace="evil")))
    service = store.get(("shop", "db"))
    assert service is not None
    assert service.slices == ()


def test_a_new_list_takes_away_nothing_before_it_is_done() -> None:
    store = Store()
    for each in (WEB, DB, EU):
        store.apply(Apply(each))
    assert store.apply(Init(Kind.SERVICE_IMPORT)) == set()
    assert store.apply(InitApply(WEB)) == set()
    assert set(store.imports) == {("shop", "web"), ("shop", "db")}
    assert store.apply(InitDone(Kind.SERVICE_IMPORT)) == {("shop", "db")}
    assert set(store.imports) == {("shop", "web")}
    assert store.orphans(("shop", "db")) == (EU,)
    assert [kind for kind in Kind if store.is_synced(kind)] == [Kind.SERVICE_IMPORT]


def test_an_unfinished_list_is_void_when_another_begins() -> None:
    store = Store()
    store.apply(Apply(WEB))
    store.apply(Init(Kind.SERVICE_IMPORT))
    store.apply(Init(Kind.SERVICE_IMPORT))
    store.apply(InitApply(WEB))
    assert store.apply(InitDone(Kind.SERVICE_IMPORT)) == set()


def test_what_is_applied_or_deleted_during_a_list_counts() -> None:
    store = Store()
    store.apply(Apply(WEB))
    store.apply(Init(Kind.SERVICE_IMPORT))
    store.apply(Apply(DB))
    store.apply(InitApply(WEB))
    store.apply(Delete(Kind.SERVICE_IMPORT, ("shop", "web")))
    store.apply(InitDone(Kind.SERVICE_IMPORT))
    assert set(store.imports) == {("shop", "db")}


def test_a_namespace_filter_passes_others_over() -> None:
    store = Store(["shop"])
    assert store.apply(Apply(service_import("web", "other", ips=["10.0.0.1"]))) == set()
    assert store.apply(Apply(endpoint_slice("db", "eu", ["10.1.0.1"], namespace="other"))) == set()
    assert store.statistics().endpoint_slices == 0


def test_statistics_count_endpoints_of_imported_services() -> None:
    store = Store()
    store.apply(Apply(EU))
    assert store.statistics().endpoints == 0
    store.apply(Apply(DB))
    statistics = store.statistics()
    assert (statistics.service_imports, statistics.endpoint_slices, statistics.endpoints) == (
        1,
        1,
        1,
    )
