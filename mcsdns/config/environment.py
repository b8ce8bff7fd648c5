"""Where this process runs, as far as defaults depend on it."""

import os
import socket

from mcsdns.dns import ip
from mcsdns.errors import ConfigError


def in_pod() -> bool:
    """Return whether this process runs in a Kubernetes pod."""
    return "KUBERNETES_SERVICE_HOST" in os.environ


def own_name() -> str:
    """Return the pod's name, from the downward API or its host name."""
    return os.environ.get("POD_NAME") or socket.gethostname()


def own_addresses() -> tuple[bytes, ...]:
    """Return the pod's own addresses, from the downward API or its host name; none elsewhere.

    Raises:
        ConfigError: the variables of the downward API hold no addresses.
    """
    variable = "POD_IPS" if os.environ.get("POD_IPS") else "POD_IP"
    found = [address for address in os.environ.get(variable, "").split(",") if address]
    if not found and in_pod():
        try:
            found = [str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)]
        except OSError:
            found = []
    try:
        return tuple(dict.fromkeys(ip.pack(each.partition("%")[0]) for each in found))
    except ValueError as error:
        raise ConfigError(f"{variable}: {error}; set it from status.podIPs") from None
