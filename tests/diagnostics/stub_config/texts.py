"""The texts with addresses of a test in them, and what each platform makes of them."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mcsdns.diagnostics.stub_config.render import find, read_target, render

IPV4, IPV6, DEAD, PORT = "10.96.0.53", "fd00::53", "10.96.0.54", 5300
_CLOSED = re.compile(
    r"^[ ]+(?:kubernetes|health|ready|prometheus)\b[^{\n]*(?:\{[^}]*\})?\n", re.MULTILINE
)
_CUSTOM_MAIN = """\
.:53 {
    errors
    forward . /etc/resolv.conf
    cache 30
    reload
    import FOLDER/*.override
}
import FOLDER/*.server
"""
MAIN = ".:53 {\n    errors\n    forward . /etc/resolv.conf\n    loop\n    reload\n}\n"
CUSTOM = {"aks": 53, "k3s": 53, "gardener": 8053}
"""The platforms with a ConfigMap coredns-custom, and the port that their CoreDNS listens on."""
COREDNS = (
    *("kubeadm", "kind", "eks", "eks-addon", "nodelocal", "helm-coredns", "openshift"),
    *CUSTOM,
    *("kube-dns", "gke-kube-dns"),
)
"""The platforms with a CoreDNS; kube-dns counts as what NodeLocal DNSCache reads."""


def text(
    platform: str, ips: Sequence[str] = (IPV4,), zones: Sequence[str] = (), port: int = PORT
) -> str:
    """Return what `mcsdns stub` prints."""
    found = find(platform)
    return render(found, read_target(ips, zones, port, on_host=found.on_host))


def parsed(platform: str, **given: Any) -> dict[str, Any]:
    """Return a text that is YAML."""
    document = yaml.safe_load(text(platform, **given))
    assert isinstance(document, dict)
    return document


def here(corefile: str, there: Mapping[str, str], port: int, listen: int = 53) -> str:
    """Return a Corefile as a test can run it: without what needs a cluster, on a port.

    `there` has the addresses that stand in the place of those in the text.
    """
    ran = _CLOSED.sub("", corefile).replace("/etc/resolv.conf", "127.0.0.1:9")
    ran = re.sub(rf"(?<=[a-z.]):{listen} ", f":{port} ", ran)
    ran = ran.replace("__PILLAR__LOCAL__DNS__", "127.0.0.1")
    for theirs, ours in there.items():
        ran = ran.replace(theirs, ours)
    return ran


def corefile_of(
    platform: str, there: Mapping[str, str], port: int, folder: Path, **given: Any
) -> str:
    """Return the Corefile that a platform has in the end, as a test can run it."""
    if platform in CUSTOM:
        listen = CUSTOM[platform]
        for key, block in parsed(platform, **given)["data"].items():
            (folder / key).write_text(here(block, there, port, listen))
        return here(_CUSTOM_MAIN.replace("FOLDER", str(folder)), there, port)
    match platform:
        case "eks-addon":
            corefile = parsed(platform, **given)["corefile"]
        case "helm-coredns":
            corefile = of_chart(parsed(platform, **given))
        case "openshift":
            return here(of_operator(parsed(platform, **given)), there, port, 5353)
        case "kube-dns" | "gke-kube-dns":
            corefile = MAIN + of_node_cache(parsed(platform, **given))
        case _:
            corefile = MAIN + text(platform, **given)
    return here(corefile, there, port)


def of_chart(values: dict[str, Any]) -> str:
    """Return the Corefile that the chart coredns/coredns 1.46 makes of its `servers`.

    Source: charts/coredns/templates/configmap.yaml of coredns/helm.
    """
    blocks = []
    for server in values["servers"]:
        # It has the port behind the last zone only; the others have 53, which is the same.
        zones = " ".join(f"{zone['zone']}:{server['port']}" for zone in server["zones"])
        lines = []
        for plugin in server["plugins"]:
            words = [
                plugin["name"],
                *([str(plugin["parameters"])] if "parameters" in plugin else []),
            ]
            if "configBlock" in plugin:
                inner = "".join(f"        {each}\n" for each in plugin["configBlock"].splitlines())
                words.append("{\n" + inner + "    }")
            lines.append("    " + " ".join(words) + "\n")
        blocks.append(f"{zones} {{\n{''.join(lines)}}}\n")
    return "".join(blocks)


def of_operator(dns: dict[str, Any]) -> str:
    """Return the Corefile that the DNS operator of OpenShift makes, with port 5353.

    Source: pkg/operator/controller/controller_dns_configmap.go of openshift/cluster-dns-operator.
    """
    policies = {"Random": "random", "RoundRobin": "round_robin", "Sequential": "sequential"}
    blocks = []
    for server in dns["spec"]["servers"]:
        forward = server["forwardPlugin"]
        blocks.append(
            f"# {server['name']}\n{''.join(f'{zone}:5353 ' for zone in server['zones'])}{{\n"
            "    prometheus 127.0.0.1:9153\n"
            f"    forward . {' '.join(forward['upstreams'])} {{\n"
            f"        policy {policies[forward['policy']]}\n    }}\n"
            "    errors\n    log . {\n        class error\n    }\n    bufsize 1232\n"
            "    cache 900 {\n        denial 9984 30\n    }\n}\n"
        )
    return "".join(blocks) + ".:5353 {\n    errors\n    forward . /etc/resolv.conf\n    reload\n}\n"


def of_node_cache(config_map: dict[str, Any]) -> str:
    """Return the blocks that NodeLocal DNSCache makes of the ConfigMap kube-dns.

    Source: cmd/node-cache/app/configmap.go of kubernetes/dns.
    """
    zones: dict[str, list[str]] = json.loads(config_map["data"]["stubDomains"])
    return "".join(
        f"\n{zone}:53 {{\n    errors\n    cache 30\n    bind __PILLAR__LOCAL__DNS__\n"
        f"    forward . {' '.join(servers)}\n}}\n"
        for zone, servers in zones.items()
    )


def of_kube_dns(config_map: dict[str, Any]) -> list[str]:
    """Return the options that kube-dns starts its dnsmasq with.

    Source: pkg/dnsmasq/nanny.go of kubernetes/dns.
    """
    zones: dict[str, list[str]] = json.loads(config_map["data"]["stubDomains"])
    return [
        f"server=/{zone}/" + (server.replace(":", "#") if server.count(":") == 1 else server)
        for zone, servers in zones.items()
        for server in servers
    ]
