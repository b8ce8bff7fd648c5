"""The stub block as the cluster DNS is configured, for where that cannot be asked itself."""

from collections.abc import Sequence
from typing import Final

import msgspec

from mcsdns.diagnostics.check.api import Api
from mcsdns.diagnostics.check.finding import Outcome, Reason, warning
from mcsdns.diagnostics.explain.present import listed, shown
from mcsdns.dns.name import Name
from mcsdns.sources.kubernetes.codec import ApiError
from mcsdns.sources.kubernetes.reflector import Trouble

_CONFIG_MAPS: Final = (
    ("kube-system", "coredns"),
    ("kube-system", "coredns-custom"),
    ("kube-system", "kube-dns"),
    ("kube-system", "rke2-coredns-rke2-coredns"),
    ("openshift-dns", "dns-default"),
)
_MARKS: Final = str.maketrans(dict.fromkeys(':"{}[],', " "))


class _ConfigMap(msgspec.Struct):
    data: dict[str, str] | None = None


async def texts_of(api: Api, namespace: str, name: str) -> list[str]:
    """Return the values of a ConfigMap; none where there is none.

    Raises:
        ApiError: it cannot be read.
    """
    path = f"/api/v1/namespaces/{namespace}/configmaps/{name}"
    found = await api.read_as(path, _ConfigMap)
    return list((found.data or {}).values()) if found else []


def has_zone(zone: Name, texts: Sequence[str]) -> bool:
    """Say whether a Corefile has a block for a zone, or `stubDomains` a key."""
    name = shown(zone)
    words = {
        word
        for text in texts
        for line in text.lower().splitlines()
        for word in line.partition("#")[0].translate(_MARKS).split()
    }
    return name in words or f"{name}." in words


async def check_corefiles(api: Api, zones: Sequence[Name]) -> Outcome:
    """Look for the zones in what the usual platforms configure their cluster DNS by.

    Raises:
        ApiError: the API server does not answer.
    """
    texts: list[str] = []
    places: list[str] = []
    try:
        for namespace, name in _CONFIG_MAPS:
            found = await texts_of(api, namespace, name)
            texts += found
            places += [f"{namespace}/{name}"] if found else []
    except ApiError as refusal:
        if refusal.trouble is not Trouble.FORBIDDEN:
            raise
        return Outcome()
    missing = [zone for zone in zones if not has_zone(zone, texts)]
    if not places:
        return Outcome()
    where = f"ConfigMap {listed(places)}"
    if not missing:
        return Outcome(checked=(f"{where} has a stub block",))
    finding = warning(
        Reason.STUB_BLOCK_MISSING,
        f"the cluster DNS is not configured for {listed([shown(zone) for zone in missing])}: "
        "no stub block sends it to mcsdns",
        where,
        "add what `mcsdns stub PLATFORM --ip <ClusterIP of the mcsdns Service>` prints; where the "
        "platform keeps its configuration elsewhere, run `mcsdns check` in a pod, which asks",
    )
    return Outcome((finding,), (where,))
