"""What the source that follows an API server is told to follow."""

from collections.abc import Iterator, Sequence

import msgspec

from mcsdns.objects.decode import SliceProfile, slice_selector
from mcsdns.objects.model import Kind


class Scope(msgspec.Struct, frozen=True):
    """What a follower follows: a kind in a namespace (`""`: all), by a label selector."""

    kind: Kind
    namespace: str = ""
    selector: str = ""
    profile: SliceProfile = SliceProfile.MCS


class KubernetesSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What to follow.

    Attributes:
        namespaces: only these, each with watches of its own; none given: all, by one watch a kind.
        import_selector: label selector of ServiceImports.
        profile: whose EndpointSlices.
        missing_s: a CRD that is gone for longer counts as an empty list.
    """

    namespaces: Sequence[str] = ()
    import_selector: str = ""
    profile: SliceProfile = SliceProfile.MCS
    missing_s: float = 60.0

    def scopes(self) -> Iterator[Scope]:
        """Return what is followed, by kind and namespace."""
        for namespace in self.namespaces or ("",):
            yield Scope(Kind.SERVICE_IMPORT, namespace, self.import_selector)
            selector = slice_selector(self.profile)
            yield Scope(Kind.ENDPOINT_SLICE, namespace, selector, self.profile)
