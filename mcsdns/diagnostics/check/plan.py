"""What one run of `check` is to look at."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from mcsdns import config
from mcsdns.config.environment import in_pod
from mcsdns.diagnostics.client import TIMEOUT_S, server_from_text
from mcsdns.dns import name as names
from mcsdns.dns.name import Name, is_dns_label
from mcsdns.errors import ConfigError, NoSourceError
from mcsdns.sources.kubernetes.auth import Access

Address = tuple[str, int]
"""Host and port."""
_NOTHING: Final = (
    "nothing to check: give --manifests PATH, --kubeconfig FILE, --server ADDR:PORT or "
    "--cluster-dns ADDR:PORT"
)
_MAX_TIMEOUT_S: Final = 60


class Account(msgspec.Struct, frozen=True):
    """A service account; `is_given` where the command line names it, else it is the usual one."""

    namespace: str = "mcsdns"
    name: str = "mcsdns"
    is_given: bool = False

    @property
    def user(self) -> str:
        """Its user name to the API server."""
        return f"system:serviceaccount:{self.namespace}:{self.name}"

    @property
    def groups(self) -> list[str]:
        """Its groups."""
        every = "system:serviceaccounts"
        return [every, f"{every}:{self.namespace}", "system:authenticated"]


def account_from_text(text: str) -> Account:
    """Read `NAMESPACE:NAME`.

    Raises:
        ConfigError: it is not of this form.
    """
    namespace, colon, name = text.partition(":")
    if not (colon and is_dns_label(namespace) and all(map(is_dns_label, name.split(".")))):
        raise ConfigError(
            f"--service-account: {text!r} is not NAMESPACE:NAME, such as mcsdns:mcsdns"
        )
    return Account(namespace, name, is_given=True)


class Plan(msgspec.Struct, frozen=True):
    """What is to be looked at.

    Attributes:
        access: how to reach the API server, None where there is none to ask.
    """

    settings: config.Settings
    access: Access | None
    server: Address | None
    cluster_dns: Address | None
    account: Account
    timeout_s: float

    @property
    def zones(self) -> Sequence[Name]:
        """The zones that mcsdns is to serve, or a sidecar is to forward."""
        return [names.from_text(zone) for zone in self.settings.zone]


def plan_of(flags: Mapping[str, Any], environment: Mapping[str, str]) -> Plan:
    """Read what is asked for.

    Raises:
        ConfigError: it cannot be done.
    """
    settings = config.load(flags, environment)
    server, cluster_dns = _address(flags, "server"), _address(flags, "cluster_dns")
    timeout_s = flags["timeout"] if flags["timeout"] is not None else TIMEOUT_S
    if not 0 < timeout_s <= _MAX_TIMEOUT_S:
        raise ConfigError(f"--timeout: {timeout_s:g} is not more than 0 and at most 60 seconds")
    given = flags["service_account"]
    account = account_from_text(given) if given else Account()
    try:
        access = settings.access()
    except NoSourceError:
        access = None
    if not (access or settings.manifests or server or cluster_dns or in_pod()):
        raise ConfigError(_NOTHING)
    return Plan(settings, access, server, cluster_dns, account, timeout_s)


def _address(flags: Mapping[str, Any], name: str) -> Address | None:
    flag = "--" + name.replace("_", "-")
    return server_from_text(flags[name], flag) if flags[name] else None
