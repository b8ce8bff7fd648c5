"""Question -> Explanation: the walk, its verdict, what is near, and how the reply fits."""

from collections.abc import Iterable

from mcsdns.diagnostics.explain import facts
from mcsdns.diagnostics.explain.present import rendered, reply_of
from mcsdns.diagnostics.explain.suggest import suggest
from mcsdns.diagnostics.explain.verdict import judge
from mcsdns.diagnostics.explain.walk import Served, Walk, walk
from mcsdns.diagnostics.explain.words import label_text
from mcsdns.dns import name as names
from mcsdns.dns.rdata import type_name
from mcsdns.objects.model import Kind
from mcsdns.objects.store import Store
from mcsdns.server.authority import Authority
from mcsdns.sources.manifests.documents import ANYTHING, Located
from mcsdns.zone.tree import Readiness, Tree


def explain(
    store: Store,
    tree: Tree,
    answerer: Authority,
    name: str,
    qtype: int,
    problems: Iterable[Located] = (),
) -> facts.Explanation:
    """Explain what `name` in presentation form is answered with, and why.

    The reply is the answerer's own. `problems` are what a source found wrong with its objects;
    those of the objects met on the way are told.

    Raises:
        InvalidNameError: `name` is no domain name.
    """
    wire = names.wire_from_text(name)
    served = Served(store, tree, answerer)
    walked = walk(served, wire, qtype)
    flags, sizes = rendered(answerer, tree, wire, qtype)
    return facts.Explanation(
        question=facts.Question(names.to_text(wire), type_name(qtype)),
        verdict=judge(served, walked),
        suggestions=suggest(served, walked),
        zone=_zone(served, walked),
        shape=walked.shape,
        service_import=walked.imported,
        clusters=walked.clusters,
        slices=walked.slices,
        problems=_problems_of(walked, problems),
        records=_records(walked),
        long_names=walked.node.long_names if walked.node else 0,
        reply=reply_of(walked.asked, flags),
        sizes=sizes,
    )


def _zone(served: Served, walked: Walk) -> facts.Zone:
    tree = served.tree
    return facts.Zone(
        name=names.to_text(walked.asked.zone.apex) if walked.asked.zone else None,
        served=tuple(names.to_text(zone.apex) for zone in tree.zones),
        readiness=tree.readiness.value,
        waiting_for="" if tree.readiness is Readiness.SYNCED else tree.reason,
        stale=tree.stale,
        namespaces=tuple(sorted(label_text(label[1:]) for label in tree.settings.namespaces)),
    )


def _records(walked: Walk) -> facts.Records | None:
    node = walked.here
    return facts.Records(len(node.a), len(node.aaaa), len(node.srv)) if node else None


def _problems_of(walked: Walk, problems: Iterable[Located]) -> tuple[facts.Problem, ...]:
    """Pick the problems of the service's import, served or not, and of its slices.

    Where the import is missing, whatever could not be read may have been it.
    """
    if walked.key is None:
        return ()
    namespace, service = walked.key
    subjects = {f"{Kind.SERVICE_IMPORT} {namespace}/{service}"}
    subjects |= {f"{Kind.ENDPOINT_SLICE} {each.namespace}/{each.name}" for each in walked.slices}
    return tuple(
        facts.Problem(each.origin, each.problem.subject, each.problem.path, each.problem.text)
        for each in problems
        if each.problem.subject in subjects or (walked.imported is None and each.lost == ANYTHING)
    )
