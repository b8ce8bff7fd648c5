"""NodeLocal DNSCache answers before the cluster DNS, and needs a stub block of its own.

It sends what is not of the cluster to the node's resolvers, so a stub block in the cluster DNS
alone is never asked. Its blocks come from two ConfigMaps.
"""

from collections.abc import Sequence
from typing import Final

from mcsdns.diagnostics.check.api import Api
from mcsdns.diagnostics.check.corefiles import has_zone, texts_of
from mcsdns.diagnostics.check.finding import Finding, Outcome, Reason, Severity, error
from mcsdns.diagnostics.explain.present import listed, shown
from mcsdns.dns.name import Name
from mcsdns.sources.kubernetes.codec import ApiError
from mcsdns.sources.kubernetes.reflector import Trouble

_NAMESPACE: Final = "kube-system"
_DAEMON_SET: Final = "node-local-dns"
_CONFIG_MAPS: Final = ("node-local-dns", "kube-dns")
_MEND: Final = "add what `mcsdns stub nodelocal --ip <ClusterIP of the mcsdns Service>` prints"


async def check_node_local(api: Api, zones: Sequence[Name]) -> Outcome:
    """Look for the DaemonSet, and for the zones in what it is configured by.

    Raises:
        ApiError: the API server does not answer.
    """
    path = f"/apis/apps/v1/namespaces/{_NAMESPACE}/daemonsets/{_DAEMON_SET}"
    try:
        if await api.read(path) is None:
            return Outcome(checked=("no NodeLocal DNSCache",))
        texts = [text for name in _CONFIG_MAPS for text in await texts_of(api, _NAMESPACE, name)]
    except ApiError as refusal:
        if refusal.trouble is not Trouble.FORBIDDEN:
            raise
        return Outcome(skipped=("NodeLocal DNSCache: its objects may not be read here",))
    missing = [shown(zone) for zone in zones if not has_zone(zone, texts)]
    return Outcome((_finding(missing),), ("NodeLocal DNSCache",))


def _finding(missing: Sequence[str]) -> Finding:
    where = f"DaemonSet {_NAMESPACE}/{_DAEMON_SET}"
    if not missing:
        return Finding(
            Severity.NOTE,
            Reason.NODE_LOCAL_DNS,
            "NodeLocal DNSCache answers pods before the cluster DNS, with a stub block of its own; "
            "it keeps answers longer than our TTL says, negative ones too",
            where,
            "`cache 5` in its stub block keeps it as short as our TTL",
        )
    return error(
        Reason.NODE_LOCAL_DNS,
        f"NodeLocal DNSCache answers pods before the cluster DNS, and has no stub block for "
        f"{listed(missing)}: it sends these names to the node's resolvers",
        f"ConfigMaps {_NAMESPACE}/{' and '.join(_CONFIG_MAPS)}, {where}",
        f"{_MEND}; what it answered before stays in its cache until its TTL ends",
    )
