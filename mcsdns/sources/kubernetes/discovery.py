"""Where the API server serves ServiceImports and EndpointSlices: paths and API versions.

The group lists a version if any of its CRDs serves it, so each version's own list of resources
counts, and a 404 for a list of objects outranks both.

Source: KEP-1645, "API group"; facts on v1alpha1 and v1beta1 in spec.md 4.
"""

from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

import msgspec

from mcsdns.errors import ObjectError
from mcsdns.objects.decode import IMPORT_GROUP, IMPORT_VERSIONS, SLICE_GROUP, SLICE_VERSIONS
from mcsdns.objects.model import Kind
from mcsdns.sources.kubernetes.codec import UNREADABLE

_NEEDED_VERBS: Final = {"list", "watch"}
PLURALS: Final = {
    Kind.SERVICE_IMPORT: "serviceimports",
    Kind.ENDPOINT_SLICE: "endpointslices",
}
GROUPS: Final = {Kind.SERVICE_IMPORT: IMPORT_GROUP, Kind.ENDPOINT_SLICE: SLICE_GROUP}
SLICE_API: Final = f"{SLICE_GROUP}/{SLICE_VERSIONS[0]}"


class _Version(msgspec.Struct):
    version: str


class _Group(msgspec.Struct):
    versions: list[_Version] | None = None


class _Resource(msgspec.Struct):
    name: str
    verbs: list[str] | None = None


class _Resources(msgspec.Struct):
    resources: list[_Resource] | None = None


def group_path() -> str:
    """Return the path that tells the versions of the ServiceImports' group."""
    return f"/apis/{IMPORT_GROUP}"


def candidates(group: bytes) -> Iterator[str]:
    """Read a group's versions and yield those that we know, the preferred one first.

    Raises:
        ObjectError: this is no APIGroup.
    """
    served = {each.version for each in _decode(group, _Group).versions or []}
    return (version for version in IMPORT_VERSIONS if version in served)


def serves_imports(resources: bytes) -> bool:
    """Say whether a version's list of resources has ServiceImports that can be watched.

    Raises:
        ObjectError: this is no APIResourceList.
    """
    return any(
        each.name == PLURALS[Kind.SERVICE_IMPORT] and set(each.verbs or ()) >= _NEEDED_VERBS
        for each in _decode(resources, _Resources).resources or []
    )


def path_of(kind: Kind, api_version: str, namespace: str) -> str:
    """Return the path of the objects of a kind, in one namespace or (`""`) in all."""
    where = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{api_version}{where}/{PLURALS[kind]}"


def rule_for(kind: Kind, namespace: str) -> str:
    """Return the RBAC rule that a refusal (403) asks for, in one line of YAML."""
    where = f"a Role in namespace {namespace}" if namespace else "a ClusterRole"
    return (
        f"give the account {where} with the rule {{apiGroups: [{GROUPS[kind]}], "
        f"resources: [{PLURALS[kind]}], verbs: [list, watch]}}"
    )


def known_versions() -> Iterable[str]:
    """Return the API versions of ServiceImports that are read, the preferred one first."""
    return (f"{IMPORT_GROUP}/{version}" for version in IMPORT_VERSIONS)


_Form = TypeVar("_Form", _Group, _Resources)


def _decode(octets: bytes, form: type[_Form]) -> _Form:
    try:
        return msgspec.json.decode(octets, type=form)
    except UNREADABLE as error:
        raise ObjectError(f"the answer to discovery is not understood: {error}") from None
