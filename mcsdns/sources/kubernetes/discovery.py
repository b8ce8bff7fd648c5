"""Where the API server serves ServiceImports and EndpointSlices: paths and API versions.

The group lists a version if any of its CRDs serves it, so each version's own list of resources
counts, and a 404 for a list of objects outranks both.

Source: KEP-1645, "API group"; facts on v1alpha1 and v1beta1 in spec.md 4.
"""

from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
import msgspec

from mcsdns.errors import ObjectError
from mcsdns.objects.decode import IMPORT_GROUP, IMPORT_VERSIONS, SLICE_GROUP, SLICE_VERSIONS
from mcsdns.objects.model import Kind
from mcsdns.sources.kubernetes.codec import UNREADABLE, ApiError
from mcsdns.sources.kubernetes.reflector import Trouble

if TYPE_CHECKING:
    from mcsdns.sources.kubernetes.api import ApiServer

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
    """Returns whether a version's list of resources has ServiceImports that can be watched.

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
        self.api_version = await self._preferred(refused)
        return self.api_version

    async def _preferred(self, refused: str) -> str:
        """Return the preferred API version; one whose list was not found only if it is the one."""
        fallback = ""
        try:
            async with aclosing(self._served_versions()) as versions:
                async for version in versions:
                    if version != refused:
                        return version
                    fallback = version
        except ObjectError as error:
            raise ApiError(Trouble.UNREADABLE, f"{self._api.place.url}: {error}") from None
        except ApiError as error:
            if error.trouble is not Trouble.NOT_FOUND and not fallback:
                raise
        if fallback:
            return fallback
        group = GROUPS[Kind.SERVICE_IMPORT]
        raise ApiError(
            Trouble.NOT_FOUND,
            f"{self._api.place.url} has no serviceimports.{group}; install the CRDs of your "
            "implementation of the MCS API",
        )

    async def _served_versions(self) -> AsyncGenerator[str]:
        """Iterate over the API versions that have ServiceImports, the preferred one first."""
        try:
            group = await self._read(group_path())
        except ApiError as error:
            if error.trouble is not Trouble.FORBIDDEN:
                raise
            async for version in self._try_versions():  # discovery may be closed, objects open
                yield version
            return
        for version in candidates(group):
            path = f"{group_path()}/{version}"
            resources = await self._read_if_there(path)
            if resources is not None and serves_imports(resources):
                yield path.removeprefix("/apis/")

    async def _try_versions(self) -> AsyncGenerator[str]:
        """Find the versions by asking for objects, where discovery is not permitted."""
        for version in known_versions():
            path = path_of(Kind.SERVICE_IMPORT, version, self._namespace)
            if await self._read_if_there(path + "?limit=1") is not None:
                yield version

    async def _read_if_there(self, path: str) -> bytes | None:
        try:
            return await self._read(path)
        except ApiError as error:
            if error.trouble is Trouble.NOT_FOUND:
                return None
            raise

    async def _read(self, path: str) -> bytes:
        within_s = self._answer_s
        async with self._api.get(path, within_s=within_s) as response:
            with anyio.move_on_after(within_s):
                return await response.read()
        raise ApiError(Trouble.LOST, f"{self._api.place.url}{path}: no answer in time")


_Form = TypeVar("_Form", _Group, _Resources)


def _decode(octets: bytes, form: type[_Form]) -> _Form:
    try:
        return msgspec.json.decode(octets, type=form)
    except UNREADABLE as error:
        raise ObjectError(f"the answer to discovery is not understood: {error}") from None
