"""Which API versions serve what is followed; without the CRD there is nothing to serve."""

from typing import Final

from mcsdns.diagnostics.check.api import Api
from mcsdns.diagnostics.check.finding import Finding, Outcome, Reason, error
from mcsdns.diagnostics.explain.present import listed
from mcsdns.errors import ObjectError
from mcsdns.objects.decode import IMPORT_GROUP
from mcsdns.objects.model import Kind
from mcsdns.sources.kubernetes import discovery
from mcsdns.sources.kubernetes.codec import ApiError
from mcsdns.sources.kubernetes.reflector import Trouble

_RELEASE: Final = "v0.5.0"
_DEFINITIONS: Final = (
    "https://raw.githubusercontent.com/kubernetes-sigs/mcs-api/"
    f"{_RELEASE}/config/crd/multicluster.x-k8s.io_serviceimports.yaml"
)
_INSTALL: Final = (
    f"kubectl apply -f {_DEFINITIONS}  (or as your implementation of the MCS API brings it: "
    "Cilium 1.19 and later, Submariner and AWS's controller do); mcsdns goes on by itself then"
)


async def check_versions(api: Api) -> Outcome:
    """Say which versions serve ServiceImports and EndpointSlices.

    Raises:
        ApiError: the API server does not answer.
    """
    try:
        imports, slices = await _imports(api), await _serves_slices(api)
    except ApiError as refusal:
        if refusal.trouble is not Trouble.FORBIDDEN:
            raise
        return Outcome(skipped=(f"API versions: discovery is not permitted ({refusal})",))
    findings = [] if imports else [_without_imports(api)]
    if not slices:
        findings.append(_without_slices(api))
    versions = f"ServiceImport {listed(imports)}" if imports else "API versions"
    return Outcome(tuple(findings), (f"{versions} at {api.url}",))


async def _imports(api: Api) -> list[str]:
    """Return the versions that have ServiceImports, the preferred one first."""
    found: list[str] = []
    for version in discovery.known_versions():
        resources = await api.read(f"/apis/{version}")
        if resources is not None and _reads(resources):
            found.append(version.rpartition("/")[2])
    return found


def _reads(resources: bytes) -> bool:
    try:
        return discovery.serves_imports(resources)
    except ObjectError:
        return False


async def _serves_slices(api: Api) -> bool:
    plural = discovery.PLURALS[Kind.ENDPOINT_SLICE]
    resources = await api.read(f"/apis/{discovery.SLICE_API}")
    return resources is not None and f'"{plural}"'.encode() in resources


def _without_imports(api: Api) -> Finding:
    return error(
        Reason.CRD_MISSING,
        f"the API server has no serviceimports.{IMPORT_GROUP}: the CRD of the MCS API is missing, "
        "and without it no name resolves",
        f"API server {api.url}, neither v1beta1 nor v1alpha1",
        _INSTALL,
    )


def _without_slices(api: Api) -> Finding:
    return error(
        Reason.CRD_MISSING,
        f"the API server has no {discovery.SLICE_API} EndpointSlices: headless services have no "
        "addresses",
        f"API server {api.url}",
        "use Kubernetes 1.21 or later",
    )
