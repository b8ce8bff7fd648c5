"""The world that the page is shown with: a few services of every kind, some of them in trouble."""

from mcsdns.objects.events import InitApply, InitDone
from mcsdns.objects.model import Kind
from tests.diagnostics.explain.shop_world import SHOP, Explained
from tests.worlds import endpoint_slice, service_import

HOSTILE = """
---
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceImport
metadata:
  name: hostile
  namespace: shop
  annotations: {"<script>alert(1)</script>": "<script>window.hacked = 1</script>"}
spec:
  type: Headless
  ports:
  - {name: '<img src=x onerror="window.hacked=2">', protocol: TCP, port: 80}
status:
  clusters:
  - cluster: '"><script>window.hacked=3</script>'
  conditions:
  - type: Ready
    status: "False"
    reason: "'\\"><svg onload=window.hacked=4>"
    message: "</pre></script><script>alert(document.domain)</script> {{ 7*7 }} \\u202E\\u0000 end"
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: hostile-a
  namespace: shop
  labels:
    multicluster.kubernetes.io/service-name: hostile
    multicluster.kubernetes.io/source-cluster: '<b onmouseover=alert(1)>x'
addressType: IPv4
ports:
- {name: '<script>window.hacked=5</script>', protocol: TCP, port: 80}
endpoints:
- {addresses: ['<script>alert(2)</script>'], hostname: '"onfocus=alert(3) autofocus="'}
- {addresses: [10.66.0.1], zone: '<iframe src="javascript:alert(4)">'}
"""
"""Objects of somebody who may write some in one cluster, and wants to be the operator."""


def shop(*more: str) -> Explained:
    """Make a world; `more` are further manifests."""
    world = Explained(SHOP + "".join(more))
    fleet = ["cart", "checkout", "feeds", "images", "invoices", "login", "mail", "prices"]
    objects = [service_import("search", "shop")]
    objects += [
        endpoint_slice("search", cluster, [f"10.{octet}.0.{n}" for n in range(1, 4)])
        for octet, cluster in ((60, "eu-west"), (61, "us-east"))
    ]
    for number, name in enumerate(fleet):
        objects.append(
            service_import(name, "store", [f"10.96.2.{number + 1}"], [("http", 80), ("grpc", 9090)])
        )
        for cluster in ("eu-west", "us-east"):
            addresses = [f"10.7{number}.{len(cluster)}.{n}" for n in range(1, 3 + number % 3)]
            objects.append(endpoint_slice(name, cluster, addresses, "store"))
    for each in objects:
        world.publisher.apply(InitApply(each))
    for kind in Kind:
        world.publisher.apply(InitDone(kind))
    world.publish_all(1_790_000_000)
    return world
