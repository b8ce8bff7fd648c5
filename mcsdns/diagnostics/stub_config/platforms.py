"""The platforms, in the order in which they are listed; the text of each is in `templates/`."""

import difflib
from typing import Final

import msgspec

from mcsdns.errors import ConfigError


class Platform(msgspec.Struct, frozen=True):
    """What can be pointed at mcsdns.

    Attributes:
        suffix: what its text is: `Corefile`, `conf` or `yaml`.
        title: one line that says who wants it.
        place: where the text goes.
        example_ip: an address from the usual Service range of the platform.
        on_host: whether it may run beside mcsdns on one host, where loopback addresses are right.
        dnsmasq_reads: whether a dnsmasq, which wants no brackets, may read the addresses.
    """

    name: str
    suffix: str
    title: str
    place: str
    example_ip: str = "10.96.0.53"
    on_host: bool = False
    dnsmasq_reads: bool = False

    @property
    def example_file(self) -> str:
        """Its file in `corefile-examples/`."""
        return f"{self.name}.{self.suffix}"


PLATFORMS: Final = (
    Platform(
        "kubeadm",
        "Corefile",
        "kubeadm, and every CoreDNS whose Corefile is yours to edit",
        "ConfigMap `kube-system/coredns`, beside the main block",
    ),
    Platform(
        "kind",
        "Corefile",
        "kind, for a cluster on a laptop or in CI",
        "ConfigMap `kube-system/coredns`, beside the main block",
    ),
    Platform(
        "eks",
        "Corefile",
        "Amazon EKS with a CoreDNS that you manage yourself",
        "ConfigMap `kube-system/coredns`, beside the main block",
        "10.100.0.53",
    ),
    Platform(
        "eks-addon",
        "yaml",
        "Amazon EKS with CoreDNS as managed add-on",
        "configuration values of the add-on",
        "10.100.0.53",
    ),
    Platform(
        "gke-kube-dns",
        "yaml",
        "Google GKE Standard with kube-dns",
        "ConfigMap `kube-system/kube-dns`",
        "10.4.0.53",
        dnsmasq_reads=True,
    ),
    Platform(
        "aks",
        "yaml",
        "Azure AKS",
        "ConfigMap `kube-system/coredns-custom`",
        "10.0.0.53",
    ),
    Platform(
        "k3s",
        "yaml",
        "k3s, and others whose Corefile imports `custom/*.server`",
        "ConfigMap `kube-system/coredns-custom`",
        "10.43.0.53",
    ),
    Platform(
        "openshift",
        "yaml",
        "OpenShift and OKD with the DNS operator",
        "DNS `default` of operator.openshift.io",
        "172.30.0.53",
    ),
    Platform(
        "nodelocal",
        "Corefile",
        "NodeLocal DNSCache, besides what the cluster DNS wants",
        "ConfigMap `kube-system/node-local-dns`",
    ),
    Platform(
        "gardener",
        "yaml",
        "shoots of Gardener",
        "ConfigMap `kube-system/coredns-custom`",
        "100.64.0.53",
    ),
    Platform(
        "helm-coredns",
        "yaml",
        "CoreDNS from the Helm chart coredns/coredns",
        "values of the chart",
    ),
    Platform(
        "kube-dns",
        "yaml",
        "kube-dns outside GKE; NodeLocal DNSCache reads it too",
        "ConfigMap `kube-system/kube-dns`",
        dnsmasq_reads=True,
    ),
    Platform(
        "unbound",
        "conf",
        "Unbound, of a node or of the network around the cluster",
        "a file of `/etc/unbound/unbound.conf.d`",
        on_host=True,
    ),
    Platform(
        "dnsmasq",
        "conf",
        "dnsmasq, and what is built on it",
        "a file of `/etc/dnsmasq.d`",
        on_host=True,
    ),
)
NAMES: Final = tuple(platform.name for platform in PLATFORMS)


def find(name: str) -> Platform:
    """Return a platform by its name.

    Raises:
        ConfigError: there is none; names the nearest, and all.
    """
    for platform in PLATFORMS:
        if platform.name == name:
            return platform
    near = difflib.get_close_matches(name.lower(), NAMES, n=1, cutoff=0.5)
    hint = f", did you mean {near[0]}?" if near else ";"
    raise ConfigError(f"no platform {name!r}{hint} the platforms are {', '.join(NAMES)}")


def listing() -> str:
    """Return one line for each platform."""
    width = max(map(len, NAMES))
    return "".join(f"{each.name:<{width}}  {each.title}\n" for each in PLATFORMS)
