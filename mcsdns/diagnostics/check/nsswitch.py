"""Whether this host asks multicast DNS for names below `.local` and stops there (nss-mdns)."""

import re
from collections.abc import Sequence
from typing import Final

from mcsdns.diagnostics.check.finding import Outcome, Reason, warning
from mcsdns.dns import name as names
from mcsdns.dns.name import Name

_LOCAL: Final = names.from_text("local")
_HOSTS: Final = re.compile(r"^\s*hosts:(.*)", re.MULTILINE)
_STEP: Final = re.compile(r"\[([^\]]*)\]|(\S+)")
_STOPS: Final = re.compile(
    r"(?:^|\s)(?:NOTFOUND|!\s*(?:SUCCESS|UNAVAIL|TRYAGAIN))\s*=\s*return", re.I
)


def check_nsswitch(text: str, zones: Sequence[Name], path: str) -> Outcome:
    """Look at the text of nsswitch.conf; what matters is what stands before `dns`."""
    concerned = [zone for zone in zones if names.is_at_or_below(zone, _LOCAL)]
    module = _stops_at(text)
    if not concerned or not module:
        return Outcome(checked=(f"{path}: dns is asked for .local",))
    finding = warning(
        Reason.MDNS_FIRST,
        f"programs of this host may never ask DNS for names below .local: {module} "
        "[NOTFOUND=return] stands before dns (nss-mdns; recent ones pass on names of more than two "
        "labels, unless /etc/mdns.allow has .local)",
        f"{path}, line hosts",
        f"put dns before {module}, or serve a zone that does not end in .local (--zone); dig and "
        "mcsdns ask DNS in any case, `getent hosts NAME` does as programs do",
    )
    return Outcome((finding,), (path,))


def _stops_at(text: str) -> str:
    """Return the module of multicast DNS behind which nothing is asked; empty if there is none."""
    line = _HOSTS.search(re.sub(r"#.*", "", text))
    module = ""
    for action, service in _STEP.findall(line[1] if line else ""):
        if service == "dns":
            return ""
        if service:
            module = service if service.startswith("mdns") else ""
        elif module and _STOPS.search(action):
            return module
    return ""
