"""The same world as a zone file, for servers that know no Kubernetes objects.

Holds exactly the names and records that mcsdns derives from the manifests, so that equal questions
get equal answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.world import PORT, PORT_NAME, TTL, ZONE, Service, World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOA = f"ns.dns.{ZONE}. hostmaster.{ZONE}. 1767225600 7200 1800 86400 {TTL}"


def write_zone_file(world: World, path: Path) -> int:
    """Write the zone and return its number of records."""
    records = 0
    with path.open("w") as file:
        for line in zone_lines(world):
            file.write(line + "\n")
            records += 1
    return records


def zone_lines(world: World) -> Iterator[str]:
    """Yield the zone, one record a line, names absolute."""
    yield f"{ZONE}. {TTL} IN SOA {SOA}"
    yield f"{ZONE}. {TTL} IN NS ns.dns.{ZONE}."
    yield f"ns.dns.{ZONE}. {TTL} IN A 127.0.0.1"
    yield f'dns-version.{ZONE}. 28800 IN TXT "1.0.0"'
    for service in world.services:
        yield from service_lines(service)


def service_lines(service: Service) -> Iterator[str]:
    """Yield the records of one service: addresses, SRV by both names, hosts if headless."""
    owner = f"{service.owner}."
    if service.headless:
        for host, address in service.hosts:
            yield f"{owner} {TTL} IN A {address}"
            yield f"{host}. {TTL} IN A {address}"
    else:
        yield f"{owner} {TTL} IN A {service.ip}"
    targets = [host for host, _ in service.hosts] if service.headless else [service.owner]
    for name in (owner, f"_{PORT_NAME}._tcp.{owner}"):
        for target in targets:
            yield f"{name} {TTL} IN SRV 0 100 {PORT} {target}."
