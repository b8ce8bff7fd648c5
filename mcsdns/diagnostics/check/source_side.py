"""One round through where the objects come from: the API server or manifests, then the objects."""

from typing import Final

import anyio
import msgspec

from mcsdns.config.environment import in_pod
from mcsdns.diagnostics.check.api import Api
from mcsdns.diagnostics.check.contradictions import check_contradictions
from mcsdns.diagnostics.check.corefiles import check_corefiles
from mcsdns.diagnostics.check.finding import Finding, Outcome, Reason, error, joined
from mcsdns.diagnostics.check.node_local import check_node_local
from mcsdns.diagnostics.check.objects import check_objects
from mcsdns.diagnostics.check.permissions import check_permissions
from mcsdns.diagnostics.check.plan import Plan
from mcsdns.diagnostics.check.resolvers import Resolver, of_api
from mcsdns.diagnostics.check.services import check_services
from mcsdns.diagnostics.check.versions import check_versions
from mcsdns.diagnostics.offline import read_once
from mcsdns.errors import SourceError
from mcsdns.server.zone_state import ZoneState
from mcsdns.sources.kubernetes.api import ApiServer
from mcsdns.sources.kubernetes.auth import Access
from mcsdns.sources.kubernetes.codec import ApiError
from mcsdns.sources.kubernetes.reflector import Trouble

_READ_S: Final = 60.0
_BEFORE_THAT: Final = (Reason.API_AWAY, Reason.NOT_AUTHENTICATED, Reason.CRD_MISSING)


class Seen(msgspec.Struct):
    """What was learned there.

    Attributes:
        world: None where the objects were not read.
        resolvers: the cluster DNS, by the API. configured: whether it is told of the zones.
    """

    outcomes: list[Outcome]
    world: ZoneState | None = None
    resolvers: list[Resolver] = []
    configured: Outcome = Outcome()

    def add(self, outcome: Outcome) -> None:
        """Take what one check came to."""
        self.outcomes.append(outcome)


async def look_at_source(plan: Plan) -> Seen:
    """Look at the API server, read the objects, and look at them.

    Raises:
        ConfigError, SourceError: what is named is not there, or malformed.
    """
    seen = Seen([])
    if plan.access is not None:
        await _look_at_cluster(plan, plan.access, seen)
    elif plan.settings.manifests:
        seen.world = await read_once(plan.settings)
        seen.add(Outcome(checked=(", ".join(plan.settings.manifests),)))
    if seen.world is not None:
        _look_at_objects(plan, seen.world, seen)
    return seen


async def _look_at_cluster(plan: Plan, access: Access, seen: Seen) -> None:
    cluster = ApiServer(access)
    try:
        await _look_at_api(plan, access, Api(cluster), seen)
    finally:
        await cluster.close()
    before = joined(seen.outcomes)
    is_ours = access.in_cluster and before.has(Reason.NO_PERMISSION)
    if is_ours or before.has(*_BEFORE_THAT):
        seen.add(Outcome(skipped=("objects: they cannot be read before that is put right",)))
    else:
        await _read(plan, before, seen)


async def _look_at_api(plan: Plan, access: Access, api: Api, seen: Seen) -> None:
    namespaces, in_cluster = plan.settings.namespace, access.in_cluster
    try:
        seen.add(await check_versions(api))
        seen.add(await check_permissions(api, namespaces, plan.account, in_pod=in_cluster))
        seen.add(await check_node_local(api, plan.zones))
        seen.resolvers = await of_api(api, is_certain=in_pod())
        seen.configured = await check_corefiles(api, plan.zones)
    except ApiError as failure:
        seen.add(Outcome((_api_failure(failure, api.url),)))


async def _read(plan: Plan, before: Outcome, seen: Seen) -> None:
    """Read all objects, as `serve` does."""
    try:
        with anyio.fail_after(_READ_S):
            seen.world = await read_once(plan.settings)
            return
    except SourceError as failure:
        why = str(failure)
    except TimeoutError:
        why = f"it takes longer than {_READ_S:g} s"
    if before.has(Reason.NO_PERMISSION):  # which says it already
        seen.add(Outcome(skipped=(f"objects: {why}",)))
    else:
        seen.add(Outcome((_not_read(why),)))


def _not_read(why: str) -> Finding:
    return error(
        Reason.NOT_READ,
        f"the objects cannot be read: {why}",
        "API server, as the user of this kubeconfig",
        "see what the line says; where mcsdns has an account of its own, its log says how it fares",
    )


def _api_failure(failure: ApiError, url: str) -> Finding:
    if failure.trouble is Trouble.UNAUTHORIZED:
        return error(
            Reason.NOT_AUTHENTICATED,
            f"the API server does not know who asks: {failure}",
            url,
            "renew the token or certificate; `kubectl auth whoami` with the same kubeconfig shows "
            "whether it is taken",
        )
    return error(
        Reason.API_AWAY,
        f"the API server does not do as asked: {failure}",
        url,
        "check the server's address in the kubeconfig, firewalls, and in a pod the NetworkPolicy "
        "(egress to the API server)",
    )


def _look_at_objects(plan: Plan, world: ZoneState, seen: Seen) -> None:
    seen.add(check_objects(world.problems))
    seen.add(check_services(world, all_imports=not plan.settings.import_selector))
    seen.add(check_contradictions(world.store))
