"""Who may list and watch what mcsdns follows, as the API server itself decides it.

In a pod we are the account in question, and ask about ourselves (SelfSubjectAccessReview).
Elsewhere whoever runs this may do more than mcsdns, so its service account is asked about
(SubjectAccessReview), which takes a permission of its own.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from mcsdns.diagnostics.check.api import Api
from mcsdns.diagnostics.check.finding import Finding, Outcome, Reason, error, warning
from mcsdns.dns.name import is_dns_label
from mcsdns.errors import ConfigError
from mcsdns.objects.model import Kind
from mcsdns.sources.kubernetes import discovery
from mcsdns.sources.kubernetes.codec import ApiError
from mcsdns.sources.kubernetes.reflector import Trouble

_API: Final = "authorization.k8s.io/v1"
_VERBS: Final = ("list", "watch")
_ALL: Final = "the whole cluster"


class Account(msgspec.Struct, frozen=True):
    """A service account; `is_given` where somebody named it, else it is the usual one."""

    namespace: str = "mcsdns"
    name: str = "mcsdns"
    is_given: bool = False

    @property
    def user(self) -> str:
        """The user that it is to the API server."""
        return f"system:serviceaccount:{self.namespace}:{self.name}"

    @property
    def groups(self) -> list[str]:
        """The groups that it is in."""
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


class _Status(msgspec.Struct):
    allowed: bool = False


class _Review(msgspec.Struct):
    status: _Status = msgspec.field(default_factory=_Status)


Lacking = dict[str, dict[Kind, list[str]]]
"""By namespace (`""`: all), the verbs that are not allowed on a kind."""


async def check_permissions(
    api: Api, namespaces: Sequence[str], account: Account, *, in_pod: bool
) -> Outcome:
    """Say what is not permitted, with the rules to add.

    Raises:
        ApiError: the API server does not answer.
    """
    if in_pod:
        lacking = await _lacking(api, namespaces, None)
        who = account.user if account.is_given else "this pod's service account"
        return _outcome(lacking, who, account)
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
        return True  # the review says more


async def _check_own(
    api: Api, namespaces: Sequence[str], account: Account, why_own: str
) -> Outcome:
    """Ask about the user of the kubeconfig, who may be another one: that it may, proves little."""
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
    document = {"apiVersion": _API, "kind": review, "spec": spec}
    answer = await api.post(f"/apis/{_API}/{review.lower()}s", document, _Review)
    return answer.status.allowed


def _outcome(lacking: Lacking, who: str, account: Account) -> Outcome:
    findings = tuple(_finding(lacking[each], each, who, account) for each in lacking)
    return Outcome(findings, (f"permissions of {who}",))


def _finding(kinds: dict[Kind, list[str]], namespace: str, who: str, account: Account) -> Finding:
    resources: dict[str, list[str]] = {}
    for kind, verbs in kinds.items():
        resources.setdefault(" and ".join(verbs), []).append(_resource(kind))
    what = [f"{verbs} {' and '.join(each)}" for verbs, each in resources.items()]
    return error(
        Reason.NO_PERMISSION,
        f"{who} may not {', nor '.join(what)} (403)",
        f"namespace {namespace}" if namespace else _ALL,
        _mend(kinds, namespace, who, account),
    )


def _mend(kinds: dict[Kind, list[str]], namespace: str, who: str, account: Account) -> str:
    """Write the rules, and the commands that make them in a cluster that has none."""
    rules = ", ".join(_rule(kind, verbs) for kind, verbs in kinds.items())
    role, where = ("role", f" -n {namespace}") if namespace else ("clusterrole", "")
    verbs = dict.fromkeys(verb for each in kinds.values() for verb in each)
    resources = ",".join(map(_resource, kinds))
    title = "Role" if namespace else "ClusterRole"
    text = f"give it a {title} with the rules [{rules}]"
    if who != account.user:
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
