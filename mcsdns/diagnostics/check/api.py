"""The API server as `check` looks at it: what it serves, and what it permits to mcsdns.

Whoever is the account in question asks about itself (SelfSubjectAccessReview): a pod of mcsdns, and
a kubeconfig with its token, which SelfSubjectReview tells (Kubernetes 1.28). Any other user of a
kubeconfig may do more than mcsdns, so its service account is asked about (SubjectAccessReview),
which takes a permission of its own. The other two every known user may create.
"""

import contextlib
from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec

from mcsdns.diagnostics.check.finding import Reason, Report
from mcsdns.diagnostics.explain.present import listed
from mcsdns.dns.name import is_dns_label
from mcsdns.errors import ConfigError, ObjectError
from mcsdns.objects.decode import IMPORT_GROUP
from mcsdns.objects.model import Kind
from mcsdns.sources.kubernetes import discovery
from mcsdns.sources.kubernetes.api import ApiServer
from mcsdns.sources.kubernetes.codec import ApiError
from mcsdns.sources.kubernetes.reflector import Trouble
from mcsdns.sources.kubernetes.secrets import UNREADABLE

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
_WHO_API: Final = "authentication.k8s.io/v1"
_VERBS: Final = ("list", "watch")

Form = TypeVar("Form")


class Account(msgspec.Struct, frozen=True):
    """A service account; `is_given` where the command line names it, else it is the usual one."""

    namespace: str = "mcsdns"
    name: str = "mcsdns"
    is_given: bool = False

    @property
    def user(self) -> str:
        """Its user name to the API server."""
        return f"system:serviceaccount:{self.namespace}:{self.name}"

    @property
    def groups(self) -> list[str]:
        """Its groups."""
        every = "system:serviceaccounts"
        return [every, f"{every}:{self.namespace}", "system:authenticated"]


def account_from_text(text: str) -> Account:
    """Read `NAMESPACE:NAME`.

    Raises:
        ConfigError: it is not of this form.
    """
    namespace, colon, name = text.partition(":")
    if not (colon and is_dns_label(namespace) and all(map(is_dns_label, name.split(".")))):
        raise ConfigError(
            f"--service-account: {text!r} is not NAMESPACE:NAME, such as mcsdns:mcsdns"
        )
    return Account(namespace, name, is_given=True)


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


async def check_versions(report: Report, api: Api) -> None:
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
        report.skipped.append(f"API versions: discovery is not permitted ({refusal})")
        return
    if not imports:
        report.error(
            Reason.CRD_MISSING,
            f"the API server has no serviceimports.{IMPORT_GROUP}: the CRD of the MCS API is "
            "missing, and without it no name resolves",
            f"API server {api.url}, neither v1beta1 nor v1alpha1",
            _INSTALL,
        )
    if f'"{discovery.PLURALS[Kind.ENDPOINT_SLICE]}"'.encode() not in slices:
        report.error(
            Reason.CRD_MISSING,
            f"the API server has no {discovery.SLICE_API} EndpointSlices: headless services have "
            "no addresses",
            f"API server {api.url}",
            "use Kubernetes 1.21 or later",
        )
    versions = f"ServiceImport {listed(imports)}" if imports else "API versions"
    report.checked.append(f"{versions} at {api.url}")


class _Status(msgspec.Struct):
    allowed: bool = False


class _Review(msgspec.Struct):
    status: _Status = msgspec.field(default_factory=_Status)


class _User(msgspec.Struct):
    username: str = ""


class _WhoStatus(msgspec.Struct, rename="camel"):
    user_info: _User = msgspec.field(default_factory=_User)


class _Who(msgspec.Struct):
    status: _WhoStatus = msgspec.field(default_factory=_WhoStatus)


Lacking = dict[str, dict[Kind, list[str]]]
"""By namespace (`""`: all), the verbs that are not allowed on a kind."""


async def check_permissions(
    report: Report, api: Api, namespaces: Sequence[str], account: Account, *, in_pod: bool
) -> None:
    """Find what is not permitted, with the rules to add.

    Raises:
        ApiError: the API server does not answer.
    """
    asker = "this pod's service account" if in_pod else "the user of this kubeconfig"
    if in_pod and not account.is_given:
        _report_lacking(report, await _lacking(api, namespaces, None), asker, account)
        return
    who = await _who_asks(api)
    if who == account.user or (in_pod and not who):
        _report_lacking(report, await _lacking(api, namespaces, None), account.user, account)
        return
    why_own = "there is no such account"
    if account.is_given or await _exists(api, account):
        try:
            lacking = await _lacking(api, namespaces, account)
        except ApiError as refusal:
            if refusal.trouble not in (Trouble.FORBIDDEN, Trouble.NOT_FOUND):
                raise
            why_own = f"{asker} may not create subjectaccessreviews"
        else:
            _report_lacking(report, lacking, account.user, account)
            return
    # Whoever asks is reviewed instead: that this one may proves little about mcsdns.
    if lacking := await _lacking(api, namespaces, None):
        _report_lacking(report, lacking, asker, account)
        return
    told = f" ({who})" if who else ""
    report.warning(
        Reason.PERMISSION_UNKNOWN,
        f"whether {account.user} may list and watch cannot be told: {why_own}; {asker}{told} may",
        f"API server {api.url}",
        "name the service account of mcsdns with --service-account NAMESPACE:NAME as that account "
        "or as a user who may create subjectaccessreviews, or run `mcsdns check` in its pod",
    )
    report.skipped.append(f"permissions of {account.user}: {why_own}")


async def _who_asks(api: Api) -> str:
    """Return the user that the API server takes us for; empty where it does not tell."""
    document = {"apiVersion": _WHO_API, "kind": "SelfSubjectReview"}
    try:
        answer = await api.post(f"/apis/{_WHO_API}/selfsubjectreviews", document, _Who)
    except ApiError as refusal:
        if refusal.trouble not in (Trouble.FORBIDDEN, Trouble.NOT_FOUND):
            raise
        return ""
    return answer.status.user_info.username


async def _exists(api: Api, account: Account) -> bool:
    path = f"/api/v1/namespaces/{account.namespace}/serviceaccounts/{account.name}"
    try:
        return await api.read(path) is not None
    except ApiError as refusal:
        if refusal.trouble is not Trouble.FORBIDDEN:
            raise
        return True  # the review decides


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


def _report_lacking(report: Report, lacking: Lacking, subject: str, account: Account) -> None:
    """Put down what is not permitted, each namespace by itself."""
    for namespace, kinds in lacking.items():
        resources: dict[str, list[str]] = {}
        for kind, verbs in kinds.items():
            resources.setdefault(" and ".join(verbs), []).append(_resource(kind))
        what = [f"{verbs} {' and '.join(each)}" for verbs, each in resources.items()]
        report.error(
            Reason.NO_PERMISSION,
            f"{subject} may not {', nor '.join(what)} (403)",
            f"namespace {namespace}" if namespace else "the whole cluster",
            _mend(kinds, namespace, subject, account),
        )
    report.checked.append(f"permissions of {subject}")


def _mend(kinds: dict[Kind, list[str]], namespace: str, subject: str, account: Account) -> str:
    """Return the rules to add, and the commands that create them in a cluster that has none."""
    rules = ", ".join(
        f"{{apiGroups: [{discovery.GROUPS[kind]}], resources: [{discovery.PLURALS[kind]}], "
        f"verbs: [{', '.join(verbs)}]}}"
        for kind, verbs in kinds.items()
    )
    title, where = ("Role", f" -n {namespace}") if namespace else ("ClusterRole", "")
    role = title.lower()
    verbs = dict.fromkeys(verb for each in kinds.values() for verb in each)
    resources = ",".join(map(_resource, kinds))
    text = f"give it a {title} with the rules [{rules}]"
    if subject != account.user:
        return text
    return (
        f"{text}; if there is none: kubectl create {role} mcsdns{where} "
        f"--verb={','.join(verbs)} --resource={resources} && kubectl create {role}binding "
        f"mcsdns{where} --{role}=mcsdns --serviceaccount={account.namespace}:{account.name}"
    )


def _resource(kind: Kind) -> str:
    return f"{discovery.PLURALS[kind]}.{discovery.GROUPS[kind]}"
