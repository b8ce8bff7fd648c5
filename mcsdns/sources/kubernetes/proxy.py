"""Which proxy leads to an API server, by the variables that everybody uses.

Source: client-go (golang.org/x/net/http/httpproxy): HTTPS_PROXY, HTTP_PROXY and NO_PROXY, in
capitals or not; NO_PROXY names hosts, domains, addresses and networks.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

_WITH_PORT: Final = re.compile(r"(?:\[([^\]]*)\]|([^:/]*)):([0-9]{1,5})")


def proxy_for(url: str, environment: Mapping[str, str]) -> str | None:
    """Return the proxy for a URL, None where there is to be none."""
    parts = urlsplit(url)
    proxy = _variable(environment, f"{parts.scheme}_proxy")
    host = parts.hostname or ""
    if not proxy or host == "localhost" or is_loopback(host):
        return None
    port = parts.port or {"https": 443}.get(parts.scheme, 80)
    entries = _variable(environment, "no_proxy").split(",")
    if any(_covers(entry.strip().lower(), host.lower(), port) for entry in entries):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _variable(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name.upper()) or environment.get(name) or ""


def is_loopback(host: str) -> bool:
    """Return whether a host is an address of this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _covers(entry: str, host: str, port: int) -> bool:
    """Returns whether one entry of NO_PROXY is about a host and port."""
    if entry == "*":
        return True
    named = _WITH_PORT.fullmatch(entry)
    if named:
        if int(named[3]) != port:
            return False
        entry = named[1] or named[2]
    if not entry:
        return False
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        domain = entry.removeprefix("*") if entry.startswith("*.") else entry
        if domain.startswith("."):
            return host.endswith(domain)
        return host == domain or host.endswith("." + domain)
