"""The API server as `check` looks at it: what it serves, and what it permits to mcsdns.

In a pod mcsdns is the account in question, so the pod asks about itself (SelfSubjectAccessReview).
Elsewhere the user of the kubeconfig may do more than mcsdns, so its service account is asked about
(SubjectAccessReview), which takes a permission of its own.
"""

import contextlib
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

import msgspec

from mcsdns.diagnostics.check.finding import Finding, Outcome, Reason, error, warning
from mcsdns.diagnostics.check.plan import Account
from mcsdns.diagnostics.explain.present import listed
from mcsdns.errors import ObjectError
from mcsdns.objects.decode import IMPORT_GROUP
from mcsdns.objects.model import Kind
from mcsdns.sources.kubernetes import discovery
from mcsdns.sources.kubernetes.api import ApiServer
from mcsdns.sources.kubernetes.codec import UNREADABLE, ApiError
from mcsdns.sources.kubernetes.reflector import Trouble

_ANSWER_S: Final = 10.0
_RELEASE: Final = "v0.5.0"
_DEFINITIONS: Final = (
    "https://raw.githubusercontent.com/kubernetes-sigs/mcs-api/"
    f"{_RELEASE}/config/crd/multicluster.x-k8s.io_serviceimports.yaml"
)
_INSTALL: Final = (
    f"kubectl apply -f {_DEFINITIONS}  (or as your implementation of the MCS API brings it: "
    "Cilium 1.19 and later, Submariner and AWS's controller do); mcsdns goes on by itself then"
)
_REVIEW_API: Final = "authorization.k8s.io/v1"
_VERBS: Final = ("list", "watch")

Form = TypeVar("Form")


class Api:
    """The documents of an API server, one request at a time, each within `within_s` seconds.

    Attributes:
        url: that of the API server.
    """

    def __init__(self, server: ApiServer, *, within_s: float = _ANSWER_S) -> None:
        """Ask `server`, which the caller closes."""
        self.url = server.place.url
        self._server = server
        self._within_s = within_s

    async def read(self, path: str) -> bytes | None:
        """Read a document; None where there is none (404).

        Raises:
            ApiError: it cannot be read.
        """
        try:
            return await self._server.read(path, within_s=self._within_s)
        except ApiError as error:
            if error.trouble is Trouble.NOT_FOUND:
                return None
            raise

    async def read_as(self, path: str, form: type[Form]) -> Form | None:
        """Read a document into a form; see `read`."""
        octets = await self.read(path)
        return None if octets is None else self._decode(path, octets, form)

    async def post(self, path: str, document: object, form: type[Form]) -> Form:
        """Send a document and read what comes back.

        Raises:
            ApiError: it was refused, or not answered.
        """
        octets = await self._server.read(
            path, within_s=self._within_s, document=msgspec.json.encode(document)
        )
        return self._decode(path, octets, form)

    def _decode(self, path: str, octets: bytes, form: type[Form]) -> Form:
        try:
            return msgspec.json.decode(octets, type=form)
        except UNREADABLE as error:
            why = f"{self.url}{path}: the answer is not understood: {error}"
            raise ApiError(Trouble.UNREADABLE, why) from None


async def check_versions(api: Api) -> Outcome:
    """Find which versions serve ServiceImports and EndpointSlices.

    Raises:
        ApiError: the API server does not answer.
    """
    imports: list[str] = []
    try:
        for version in discovery.known_versions():
            resources = await api.read(f"/apis/{version}")
            with contextlib.suppress(ObjectError):
                if resources is not None and discovery.serves_imports(resources):
                    imports.append(version.rpartition("/")[2])
        slices = await api.read(f"/apis/{discovery.SLICE_API}") or b""
    except ApiError as refusal:
        if refusal.trouble is not Trouble.FORBIDDEN:
            raise
        return Outcome(skipped=(f"API versions: discovery is not permitted ({refusal})",))
    findings: list[Finding] = []
    if not imports:
        without_imports = error(
            Reason.CRD_MISSING,
            f"the API server has no serviceimports.{IMPORT_GROUP}: the CRD of the MCS API is "
            "missing, and without it no name resolves",
            f"API server {api.url}, neither v1beta1 nor v1alpha1",
            _INSTALL,
        )
        findings.append(without_imports)
    if f'"{discovery.PLURALS[Kind.ENDPOINT_SLICE]}"'.encode() not in slices:
        without_slices = error(
            Reason.CRD_MISSING,
            f"the API server has no {discovery.SLICE_API} EndpointSlices: headless services have "
            "no addresses",
            f"API server {api.url}",
            "use Kubernetes 1.21 or later",
        )
        findings.append(without_slices)
    versions = f"ServiceImport {listed(imports)}" if imports else "API versions"
    return Outcome(tuple(findings), (f"{versions} at {api.url}",))


class _Status(msgspec.Struct):
    allowed: bool = False


class _Review(msgspec.Struct):
    status: _Status = msgspec.field(default_factory=_Status)


Lacking = dict[str, dict[Kind, list[str]]]
"""By namespace (`""`: all), the verbs that are not allowed on a kind."""


async def check_permissions(
    api: Api, namespaces: Sequence[str], account: Account, *, in_pod: bool
) -> Outcome:
    """Find what is not permitted, with the rules to add.

    Raises:
        ApiError: the API server does not answer.
    """
    if in_pod:
        lacking = await _lacking(api, namespaces, None)
        subject = account.user if account.is_given else "this pod's service account"
        return _outcome(lacking, subject, account)
    if not account.is_given and not await _exists(api, account):
        return await _check_own(api, namespaces, account, "there is no such account")
    try:
        lacking = await _lacking(api, namespaces, account)
    except ApiError as refusal:
        if refusal.trouble not in (Trouble.FORBIDDEN, Trouble.NOT_FOUND):
            raise
        why = "the user of this kubeconfig may not create subjectaccessreviews"
        return await _check_own(api, namespaces, account, why)
    return _outcome(lacking, account.user, account)


async def _exists(api: Api, account: Account) -> bool:
    path = f"/api/v1/namespaces/{account.namespace}/serviceaccounts/{account.name}"
    try:
        return await api.read(path) is not None
    except ApiError as refusal:
        if refusal.trouble is not Trouble.FORBIDDEN:
            raise
        return True  # the review decides


async def _check_own(
    api: Api, namespaces: Sequence[str], account: Account, why_own: str
) -> Outcome:
    """Review the user of the kubeconfig instead: that this one may proves little about mcsdns."""
    lacking = await _lacking(api, namespaces, None)
    if lacking:
        return _outcome(lacking, "the user of this kubeconfig", account)
    unknown = warning(
        Reason.PERMISSION_UNKNOWN,
        f"whether {account.user} may list and watch cannot be told: {why_own}; the user of this "
        "kubeconfig may",
        f"API server {api.url}",
        "name the service account of mcsdns with --service-account NAMESPACE:NAME as a user who "
        "may create subjectaccessreviews, or run `mcsdns check` in its pod",
    )
    return Outcome((unknown,), skipped=(f"permissions of {account.user}: {why_own}",))


async def _lacking(api: Api, namespaces: Sequence[str], account: Account | None) -> Lacking:
    found: Lacking = {}
    for namespace in namespaces or ("",):
        for kind in Kind:
            for verb in _VERBS:
                if not await _is_allowed(api, namespace, kind, verb, account):
                    found.setdefault(namespace, {}).setdefault(kind, []).append(verb)
    return found


async def _is_allowed(
    api: Api, namespace: str, kind: Kind, verb: str, account: Account | None
) -> bool:
    spec: dict[str, object] = {
        "resourceAttributes": {
            "namespace": namespace,
            "verb": verb,
            "group": discovery.GROUPS[kind],
            "resource": discovery.PLURALS[kind],
        }
    }
    review = "SelfSubjectAccessReview"
    if account is not None:
        review = "SubjectAccessReview"
        spec |= {"user": account.user, "groups": account.groups}
    document = {"apiVersion": _REVIEW_API, "kind": review, "spec": spec}
    answer = await api.post(f"/apis/{_REVIEW_API}/{review.lower()}s", document, _Review)
    return answer.status.allowed


def _outcome(lacking: Lacking, subject: str, account: Account) -> Outcome:
    findings = tuple(_finding(lacking[each], each, subject, account) for each in lacking)
    return Outcome(findings, (f"permissions of {subject}",))


def _finding(
    kinds: dict[Kind, list[str]], namespace: str, subject: str, account: Account
) -> Finding:
    resources: dict[str, list[str]] = {}
    for kind, verbs in kinds.items():
        resources.setdefault(" and ".join(verbs), []).append(_resource(kind))
    what = [f"{verbs} {' and '.join(each)}" for verbs, each in resources.items()]
    return error(
        Reason.NO_PERMISSION,
        f"{subject} may not {', nor '.join(what)} (403)",
        f"namespace {namespace}" if namespace else "the whole cluster",
        _mend(kinds, namespace, subject, account),
    )


def _mend(kinds: dict[Kind, list[str]], namespace: str, subject: str, account: Account) -> str:
    """Return the rules to add, and the commands that create them in a cluster that has none."""
    rules = ", ".join(_rule(kind, verbs) for kind, verbs in kinds.items())
    role, where = ("role", f" -n {namespace}") if namespace else ("clusterrole", "")
    verbs = dict.fromkeys(verb for each in kinds.values() for verb in each)
    resources = ",".join(map(_resource, kinds))
    title = "Role" if namespace else "ClusterRole"
    text = f"give it a {title} with the rules [{rules}]"
    if subject != account.user:
        return text
    return (
        f"{text}; if there is none: kubectl create {role} mcsdns{where} "
        f"--verb={','.join(verbs)} --resource={resources} && kubectl create {role}binding "
        f"mcsdns{where} --{role}=mcsdns --serviceaccount={account.namespace}:{account.name}"
    )


def _rule(kind: Kind, verbs: Iterable[str]) -> str:
    return (
        f"{{apiGroups: [{discovery.GROUPS[kind]}], resources: [{discovery.PLURALS[kind]}], "
        f"verbs: [{', '.join(verbs)}]}}"
    )


def _resource(kind: Kind) -> str:
    return f"{discovery.PLURALS[kind]}.{discovery.GROUPS[kind]}"
