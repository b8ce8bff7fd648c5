"""The texts that are objects of Kubernetes, or values: what they are is what their APIs take."""

import json
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.diagnostics.stub_config import texts

CONFIG_MAPS = ["aks", "k3s", "gardener", "kube-dns", "gke-kube-dns"]
WAYS: list[dict[str, Any]] = [
    {},
    {"port": 53},
    {"ips": (texts.IPV6,), "port": 53},
    {"ips": (texts.IPV4, texts.IPV6), "port": 53, "zones": ["clusterset.local", "other.test"]},
]

_LABEL = "[a-z0-9]([a-z0-9-]*[a-z0-9])?"
OPENSHIFT_DNS = {
    "$comment": "Of DNS in operator.openshift.io/v1 what a stub domain uses, written from "
    "operator/v1/types_dns.go and its CRD in github.com/openshift/api. Stricter than the CRD, "
    "which allows more fields, and asks for a valid RFC 6335 name and zones in words only.",
    "type": "object",
    "additionalProperties": False,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "operator.openshift.io/v1"},
        "kind": {"const": "DNS"},
        "metadata": {"const": {"name": "default"}},
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"servers": {"type": "array", "items": {"$ref": "#/$defs/server"}}},
        },
    },
    "$defs": {
        "server": {
            "type": "object",
            "additionalProperties": False,
            "required": ["name", "zones", "forwardPlugin"],
            "properties": {
                "name": {
                    "type": "string",
                    "pattern": f"^{_LABEL}$",
                    "maxLength": 15,
                },
                "zones": {
                    "type": "array",
                    "items": {
                        "type": "string",
                        "pattern": rf"^{_LABEL}(\.{_LABEL})*$",
                        "not": {"const": "cluster.local"},
                    },
                },
                "forwardPlugin": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["upstreams"],
                    "properties": {
                        "upstreams": {
                            "type": "array",
                            "maxItems": 15,
                            "items": {"type": "string"},
                        },
                        "policy": {"enum": ["Random", "RoundRobin", "Sequential"]},
                        "protocolStrategy": {"enum": ["TCP", ""]},
                    },
                },
            },
        }
    },
}


@pytest.mark.parametrize("given", WAYS, ids=str)
@pytest.mark.parametrize("platform", CONFIG_MAPS)
def test_config_maps_are_of_their_schema(platform: str, given: dict[str, Any]) -> None:
    config_map = texts.parsed(platform, **given)
    kubernetes_validate.validate(config_map, kubernetes_validate.latest_version(), strict=True)
    assert config_map["metadata"]["namespace"] == "kube-system"
    assert all(isinstance(value, str) for value in config_map["data"].values())


def test_schema_of_config_maps_refuses_what_is_none() -> None:
    config_map = texts.parsed("k3s")
    config_map["data"] = {"mcsdns.server": ["a list"]}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(config_map, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("platform", ["aks", "k3s", "gardener"])
def test_keys_of_coredns_custom_are_what_a_corefile_imports(platform: str) -> None:
    config_map = texts.parsed(platform)
    assert config_map["metadata"]["name"] == "coredns-custom"
    assert list(config_map["data"]) == ["mcsdns.server"]


@pytest.mark.parametrize("platform", ["kube-dns", "gke-kube-dns"])
def test_stub_domains_are_json_with_addresses(platform: str) -> None:
    config_map = texts.parsed(platform, **WAYS[-1])
    assert config_map["metadata"]["name"] == "kube-dns"
    assert json.loads(config_map["data"]["stubDomains"]) == {
        "clusterset.local": [texts.IPV4, texts.IPV6],
        "other.test": [texts.IPV4, texts.IPV6],
    }
    with_port = texts.parsed(platform, port=5300)["data"]["stubDomains"]
    assert json.loads(with_port) == {"clusterset.local": [f"{texts.IPV4}:5300"]}


@pytest.mark.parametrize("given", WAYS, ids=str)
def test_openshift_dns_is_of_its_schema(given: dict[str, Any]) -> None:
    dns = texts.parsed("openshift", **given)
    jsonschema.Draft202012Validator(OPENSHIFT_DNS).validate(dns)
    (server,) = dns["spec"]["servers"]
    assert server["zones"] == given.get("zones", ["clusterset.local"])


def test_eks_add_on_has_one_value_which_is_a_corefile() -> None:
    values = yaml.safe_load(texts.text("eks-addon"))
    assert list(values) == ["corefile"]
    assert values["corefile"].startswith(".:53 {\n")
    assert values["corefile"].endswith("}\n")


def test_chart_opens_its_port_for_udp_and_tcp() -> None:
    """As `coredns.servicePorts` of the chart reads it: TCP only where a zone says use_tcp."""
    servers = texts.parsed("helm-coredns", zones=["a.test", "b.test"])["servers"]
    assert {server["port"] for server in servers} == {53}
    assert all(zone["use_tcp"] for server in servers for zone in server["zones"])
    assert [zone["zone"] for zone in servers[1]["zones"]] == ["a.test.", "b.test."]
