"""A zone made from manifests in text, and one that has a service of every kind."""

from typing import Any

from mcsdns.config import Settings
from mcsdns.diagnostics.explain.explain import explain
from mcsdns.diagnostics.explain.model import Explanation
from mcsdns.dns.rdata import type_number
from mcsdns.objects.events import InitApply, InitDone
from mcsdns.objects.model import Kind
from mcsdns.server.zone_state import ZoneState
from mcsdns.sources.manifests import documents

SHOP = """
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceImport
metadata: {name: web, namespace: shop}
spec:
  type: ClusterSetIP
  ips: [10.96.1.10]
  ports:
  - {name: http, protocol: TCP, port: 80}
  - {name: metrics, protocol: TCP, port: 9100}
  - {protocol: TCP, port: 9200}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-a
  namespace: shop
  labels:
    multicluster.kubernetes.io/service-name: web
    multicluster.kubernetes.io/source-cluster: cluster-a
addressType: IPv4
endpoints:
- {addresses: [10.42.1.10], hostname: web-0}
---
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceImport
metadata: {name: pending, namespace: shop}
spec: {type: ClusterSetIP}
status:
  conditions:
  - {type: Ready, status: "False", reason: Pending, message: no derived Service yet}
---
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceImport
metadata: {name: db, namespace: shop, resourceVersion: "41"}
spec:
  type: Headless
  ports:
  - {name: mysql, protocol: TCP, port: 3306}
status:
  clusters:
  - cluster: cluster-a
  - cluster: cluster-b
  - cluster: cluster-z
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: db-a
  namespace: shop
  labels:
    multicluster.kubernetes.io/service-name: db
    multicluster.kubernetes.io/source-cluster: cluster-a
addressType: IPv4
ports:
- {name: mysql, protocol: TCP, port: 3306}
endpoints:
- {addresses: [10.42.0.7], hostname: primary}
- {addresses: [10.42.0.8]}
- addresses: [10.42.0.9]
  hostname: replica
  conditions: {ready: false, serving: true, terminating: true}
- {addresses: [not-an-address], hostname: broken}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: db-b
  namespace: shop
  labels:
    multicluster.kubernetes.io/service-name: db
    multicluster.kubernetes.io/source-cluster: cluster-b
addressType: IPv4
ports:
- {name: mysql, protocol: TCP, port: 3306}
- {name: admin, protocol: UDP, port: 33062}
endpoints:
- {addresses: [10.43.0.7], hostname: primary}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: db-lost
  namespace: shop
  labels:
    multicluster.kubernetes.io/service-name: db
addressType: IPv4
endpoints:
- {addresses: [10.44.0.7]}
---
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceImport
metadata: {name: cold, namespace: shop}
spec: {type: Headless}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: cold-a
  namespace: shop
  labels:
    multicluster.kubernetes.io/service-name: cold
    multicluster.kubernetes.io/source-cluster: cluster-a
addressType: IPv4
endpoints:
- {addresses: [10.42.6.1], conditions: {ready: false}}
- {addresses: [10.42.6.2], conditions: {ready: false}}
---
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceImport
metadata: {name: bare, namespace: shop}
spec: {type: Headless}
status:
  clusters: [{cluster: cluster-a}]
---
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceImport
metadata: {name: lost, namespace: shop}
spec: {type: Headless}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: lost-a
  namespace: shop
  labels:
    multicluster.kubernetes.io/service-name: lost
    multicluster.kubernetes.io/source-cluster: cluster-a
addressType: FQDN
endpoints:
- {addresses: [db.example.com]}
---
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceImport
metadata: {name: empty, namespace: shop}
spec: {type: Headless}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: empty-a
  namespace: shop
  labels:
    multicluster.kubernetes.io/service-name: empty
    multicluster.kubernetes.io/source-cluster: cluster-a
addressType: IPv4
---
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceImport
metadata: {name: ledger, namespace: bank}
spec: {type: ClusterSetIP, ips: ["fd00:96::1"], ports: [{name: https, port: 443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: orphan-a
  namespace: bank
  labels:
    multicluster.kubernetes.io/service-name: orphan
    multicluster.kubernetes.io/source-cluster: cluster-a
addressType: IPv4
endpoints:
- {addresses: [10.42.9.1]}
---
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceImport
metadata: {name: typo, namespace: bank}
spec: {type: ClusterIP}
"""
"""Two namespaces with a service of every kind that explains differently."""


def at(text: str) -> str:
    """Return file and line where a text first stands in SHOP."""
    return f"world.yaml:{SHOP[: SHOP.index(text)].count(chr(10)) + 1}"


def at_object(name: str) -> str:
    """Return file and line where a slice of that name begins in SHOP."""
    before = SHOP[: SHOP.index(f"  name: {name}\n")]
    return f"world.yaml:{before.count(chr(10)) - 2}"


class Explained(ZoneState):
    """A zone made from manifests, to ask about."""

    def __init__(self, text: str, **settings: Any) -> None:
        chosen = Settings(**settings)
        super().__init__(chosen.zone_settings(), chosen.namespace)
        manifest = documents.read(text, "world.yaml", chosen.slices)
        self.find_problems = lambda: manifest.problems
        for each in [*manifest.imports, *manifest.slices]:
            self.publisher.apply(InitApply(each))
        for kind in Kind:
            self.publisher.apply(InitDone(kind))
        self.publish_all(2026)

    def explain(self, question: str) -> Explanation:
        """Explain `NAME` or `NAME TYPE`."""
        name, _, rtype = question.partition(" ")
        qtype = type_number(rtype or "A")
        return explain(self, name, qtype)
