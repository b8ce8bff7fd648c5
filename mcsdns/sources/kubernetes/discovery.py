"""Where the API server serves ServiceImports and EndpointSlices: paths and API versions.

Discovery lists a group's version if any of its CRDs serves it, so the version's own list of
resources counts, and a 404 for a list of objects outranks it.

Source: KEP-1645, "API group"; facts on v1alpha1 and v1beta1 in spec.md 4.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from mcsdns.errors import ObjectError
from mcsdns.objects.decode import IMPORT_GROUP, IMPORT_VERSIONS, SLICE_GROUP, SLICE_VERSIONS
from mcsdns.objects.model import Kind
from mcsdns.sources.kubernetes.codec import ApiError
from mcsdns.sources.kubernetes.reflector import Trouble
from mcsdns.sources.kubernetes.secrets import UNREADABLE

if TYPE_CHECKING:
    from mcsdns.sources.kubernetes.api import ApiServer

_NEEDED_VERBS: Final = {"list", "watch"}
PLURALS: Final = {
    Kind.SERVICE_IMPORT: "serviceimports",
    Kind.ENDPOINT_SLICE: "endpointslices",
}
GROUPS: Final = {Kind.SERVICE_IMPORT: IMPORT_GROUP, Kind.ENDPOINT_SLICE: SLICE_GROUP}
SLICE_API: Final = f"{SLICE_GROUP}/{SLICE_VERSIONS[0]}"


class _Resource(msgspec.Struct):
    name: str
    verbs: list[str] | None = None


class _Resources(msgspec.Struct):
    resources: list[_Resource] | None = None


def serves_imports(resources: bytes) -> bool:
    """Returns whether a version's list of resources has ServiceImports that can be watched.

    Raises:
        ObjectError: this is no APIResourceList.
    """
    try:
        listed = msgspec.json.decode(resources, type=_Resources).resources or []
    except UNREADABLE as error:
        raise ObjectError(f"the answer to discovery is not understood: {error}") from None
    wanted = PLURALS[Kind.SERVICE_IMPORT]
    return any(each.name == wanted and set(each.verbs or ()) >= _NEEDED_VERBS for each in listed)


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


def newest(kind: Kind) -> str:
    """Return the API version of a kind that is preferred to all others, with its group."""
    return SLICE_API if kind is Kind.ENDPOINT_SLICE else next(iter(known_versions()))


class ImportsDiscovery:
    """Finds out which API version serves ServiceImports.

    Attributes:
        api_version: the one found last, with its group; empty before.
    """

    def __init__(self, api: "ApiServer", namespace: str, answer_s: float) -> None:
        """Ask for objects of `namespace` (`""`: all) where discovery is not permitted."""
        self.api_version = ""
        self._api = api
        self._namespace = namespace
        self._answer_s = answer_s

    async def find(self, refused: str = "") -> str:
        """Return the preferred API version that is served, with its group.

        `refused` is one whose list was not found: it is returned only if there is no other.

        Raises:
            ApiError: none is served, or it cannot be found out.
        """
        for version in sorted(known_versions(), key=lambda each: each == refused):
            if await self._is_served(version):
                self.api_version = version
                return version
        raise ApiError(
            Trouble.NOT_FOUND,
            f"{self._api.place.url} has no serviceimports.{IMPORT_GROUP}; install the CRDs of your "
            "implementation of the MCS API",
        )

    async def _is_served(self, version: str) -> bool:
        """Returns whether a version has ServiceImports, also where discovery is not permitted."""
        objects = path_of(Kind.SERVICE_IMPORT, version, self._namespace)
        try:
            try:
                resources = await self._api.read(f"/apis/{version}", within_s=self._answer_s)
                return serves_imports(resources)
            except ApiError as error:
                if error.trouble is not Trouble.FORBIDDEN:
                    raise
            await self._api.read(f"{objects}?limit=1", within_s=self._answer_s)
            return True
        except ObjectError as error:
            raise ApiError(Trouble.UNREADABLE, f"{self._api.place.url}: {error}") from None
        except ApiError as error:
            if error.trouble is not Trouble.NOT_FOUND:
                raise
            return False
