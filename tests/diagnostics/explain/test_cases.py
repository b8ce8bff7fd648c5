"""Every question of the case files is explained as it is answered."""

import os

import anyio
import msgspec
import pytest
import yaml

from mcsdns import config
from mcsdns.diagnostics.explain.explain import explain
from mcsdns.diagnostics.explain.model import Explanation
from mcsdns.diagnostics.explain.text import to_json, to_text
from mcsdns.diagnostics.offline import read_once
from mcsdns.dns import name as names
from mcsdns.dns.rdata import type_number
from mcsdns.objects.model import ImportType
from mcsdns.server.zone_state import ZoneState
from mcsdns.zone.tree import labels_of_key
from tests.paths import CASES as FOLDER

FILES = sorted(name for name in os.listdir(FOLDER) if name.endswith(".yaml"))


@pytest.fixture(params=FILES)
def file(request: pytest.FixtureRequest) -> dict:  # type: ignore[type-arg]
    with open(os.path.join(FOLDER, request.param), encoding="utf-8") as stream:
        return yaml.safe_load(stream)  # type: ignore[no-any-return]


def world_of(file: dict) -> ZoneState:  # type: ignore[type-arg]
    plain = file.get("settings", {}) | {
        "manifests": [os.path.join(FOLDER, path) for path in file.get("manifests", ())]
    }
    return anyio.run(read_once, config.from_mapping(plain, "test"))


def test_explanation_is_what_is_answered(file: dict) -> None:  # type: ignore[type-arg]
    world = world_of(file)
    for case in file["cases"]:
        name, *rest = case["ask"].rsplit(" ", 1)
        if " " in name or "version" in case.get("with", {}):
            continue  # another class or EDNS version
        qtype = type_number(rest[0])
        found = explain(world, name, qtype)
        assert found.reply.rcode == case.get("rcode", "NOERROR"), case["ask"]
        assert (found.verdict.reason == "records") == bool(found.reply.answer), case["ask"]
        assert to_text(found).startswith(f"{found.verdict.result}: ")
        assert msgspec.json.decode(to_json(found), type=Explanation) == found
        for each in found.suggestions:
            rtype = type_number(each.type)
            again = explain(world, each.name, rtype)
            assert bool(again.reply.answer) == each.resolves, (case["ask"], each)


def test_addresses_of_endpoints_that_count_are_those_of_the_zone(
    file: dict,  # type: ignore[type-arg]
) -> None:
    world = world_of(file)
    zone = world.tree.zones[0].apex
    for (namespace, service), imported in world.store.imports.items():
        if imported.type is not ImportType.HEADLESS:
            continue
        name = f"{service}.{namespace}.svc.{names.to_text(zone)}"
        found = explain(world, name, 1)
        counting = {
            address
            for piece in found.slices
            for endpoint in piece.endpoints
            for address in endpoint.addresses
            if endpoint.counts
        }
        node = world.tree.services.get(labels_of_key((namespace, service)))
        assert node is not None
        here = node.names.get(b"")
        assert len(counting) == (len(here.a) + len(here.aaaa) if here else 0)
        assert sum(each.counting for each in found.clusters) == sum(
            endpoint.counts for piece in found.slices for endpoint in piece.endpoints
        )
