"""The state of the zone, read from the source once: for the commands that do not serve."""

import time

from mcsdns.config import Settings
from mcsdns.server.zone_state import ZoneState


async def read_once(settings: Settings) -> ZoneState:
    """Read the source once and publish everything.

    Raises:
        ConfigError: there is no source. SourceError: it cannot be read.
    """
    state = ZoneState(settings.zone_settings(), settings.namespace)
    access = settings.access()
    if access is None:
        from mcsdns.sources.manifests.source import ManifestSource  # noqa: PLC0415 - one is needed

        manifests = ManifestSource(
            settings.manifests,
            state,
            max_bytes=settings.manifest_max_bytes,
            profile=settings.slices,
        )
        await manifests.load()
        state.find_problems = manifests.problems
    else:
        from mcsdns.sources.kubernetes.api import ApiServer  # noqa: PLC0415 - takes 0.4 s
        from mcsdns.sources.kubernetes.source import KubernetesSource  # noqa: PLC0415

        followed = settings.kubernetes_settings()
        source = KubernetesSource(ApiServer(access, followed.watches), state, followed)
        await source.load()
        state.find_problems = source.problems
    state.publish_all(int(time.time()))
    return state
