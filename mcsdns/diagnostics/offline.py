"""The source that settings name, and the state of the zone, read from it once.

Who serves follows the source; commands that do not serve read it once.
"""

import time
from typing import TYPE_CHECKING

from mcsdns.config import Settings
from mcsdns.server.zone_state import ZoneState
from mcsdns.sources.base import Sink

if TYPE_CHECKING:
    from mcsdns.sources.kubernetes.source import KubernetesSource
    from mcsdns.sources.manifests.source import ManifestSource


def make_source(settings: Settings, sink: Sink) -> "ManifestSource | KubernetesSource":
    """Make the source, which reads nothing yet.

    Raises:
        ConfigError: there is none, or more than one, or it is not described well.
    """
    access = settings.access()
    if access is None:
        from mcsdns.sources.manifests.source import ManifestSource  # noqa: PLC0415 - one is needed

        return ManifestSource(
            settings.manifests,
            sink,
            max_bytes=settings.manifest_max_bytes,
            profile=settings.slices,
        )
    from mcsdns.sources.kubernetes.api import ApiServer  # noqa: PLC0415 - takes 0.4 s
    from mcsdns.sources.kubernetes.source import KubernetesSource  # noqa: PLC0415

    followed = settings.kubernetes_settings()
    return KubernetesSource(ApiServer(access, followed.watches), sink, followed)


async def read_once(settings: Settings) -> ZoneState:
    """Read the source once and publish everything.

    Raises:
        ConfigError: there is no source. SourceError: it cannot be read.
    """
    state = ZoneState(settings.zone_settings(), settings.namespace)
    source = make_source(settings, state)
    await source.load()
    state.find_problems = source.problems
    state.publish_all(int(time.time()))
    return state
