"""The CRDs of the MCS API: install them, change what they serve, remove them."""

from typing import Any

import yaml

from tests.apiserver.build import SOURCES
from tests.apiserver.client import Client
from tests.waiting import wait_until

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class WithCrds(Client):
    """A client of an API server that has EndpointSlices by itself, if `has_slices`, or by a CRD."""

    has_slices = True

    def install_crds(
        self, imports: str = "both", *, exports: str = "", slices: bool = True, loose: bool = False
    ) -> None:
        """Install the CRDs or change them, and wait until what they say is served.

        `imports` and `exports` say which versions of ServiceImport and ServiceExport are served:
        `v1alpha1`, `v1beta1`, `both`, or nothing to leave that CRD alone. `loose` takes objects of
        any form. Whatever changes, watches of the resource end and resume with 410.
        """
        served = {"serviceimports": imports, "serviceexports": exports}
        if slices and not self.has_slices:
            served["endpointslices"] = "v1"
        changed = [crd(plural, which, loose=loose) for plural, which in served.items() if which]
        for definition in changed:
            self.apply(definition)
        for definition in changed:
            for version in definition["spec"]["versions"]:
                self._wait_served(definition["spec"], version)

    def _wait_served(self, spec: Any, version: Any) -> None:
        """Wait for discovery, then for the watch cache: until it is filled there is 429."""
        group, plural = f"/apis/{spec['group']}/{version['name']}", spec["names"]["plural"]
        status = 200 if version["served"] else 404
        wait_until(lambda: self._discovers(group, plural) == version["served"], f"{group} {status}")
        wait_until(lambda: self._watch_status(f"{group}/{plural}") == status, f"{plural} {status}")

    def _watch_status(self, path: str) -> int:
        with self.watch(path, resourceVersion="0", timeoutSeconds=1) as watch:
            return watch.status

    def _discovers(self, path: str, plural: str) -> bool:
        reply = self.get(path)
        return reply.status == 200 and any(r["name"] == plural for r in reply.json["resources"])

    def remove_crd(self, plural: str = "serviceimports", *, wait: bool = True) -> None:
        """Delete a CRD and by that all its objects; by default wait until it is gone."""
        definition = crd(plural)["spec"]
        self.must("DELETE", f"{DEFINITIONS}/{plural}.{definition['group']}")
        for version in definition["versions"] if wait else ():
            self._wait_served(definition, {**version, "served": False})


def crd(plural: str, served: str = "both", *, loose: bool = False) -> Any:
    """One of our CRDs, with these versions served."""
    definition = yaml.safe_load((SOURCES / "crds" / f"{plural}.yaml").read_text())
    for version in definition["spec"]["versions"]:
        version["served"] = served in ("both", version["name"])
        if loose:
            anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
            version["schema"] = {"openAPIV3Schema": anything}
    return definition
