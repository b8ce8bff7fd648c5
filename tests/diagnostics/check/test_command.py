"""The command as it is called, and the other half of finding out: `explain`."""

import re

import kubernetes_validate
import pytest
import yaml

from mcsdns.cli import main
from mcsdns.diagnostics.check.finding import Reason
from tests.diagnostics.check.conftest import PAGE, Check


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to check: give --manifests PATH, --kubeconfig FILE, --server"),
        (["--manifests", "nowhere"], "nowhere: "),
        (["--cluster-dns", ":x"], "--cluster-dns: ':x' is not ADDR or ADDR:PORT"),
        (["--server", ":53"], "--server: ':53' is not ADDR or ADDR:PORT"),
        (["--server", "127.0.0.1", "--timeout", "0"], "--timeout: 0 is not more than 0"),
        (["--server", "127.0.0.1", "--service-account", "mcsdns"], "is not NAMESPACE:NAME"),
        (["--manifests", "x", "--kubeconfig", "y"], "exclude each other"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_2(
    check: Check, arguments: list[str], said: str
) -> None:
    found = check(*arguments)
    assert (found.status, found.out) == (2, "")
    assert said in found.err
    assert found.err.count("\n") == 1


def test_what_was_not_looked_at_is_said(check: Check) -> None:
    found = check("--manifests", "examples/manifests")
    assert found.status == 0
    assert "skipped  stub block of the cluster DNS: it is not known" in found.out


def test_wrong_namespace_is_explained_in_the_first_line(
    check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "rebel-base.archives.svc.clusterset.local"
    with pytest.raises(SystemExit) as stopped:
        main.main(["explain", name, "--manifests", "examples/manifests"])
    assert stopped.value.code == 0
    cause = "\n".join(capsys.readouterr().out.splitlines()[:3])
    assert "there is no ServiceImport rebel-base in namespace archives" in cause
    assert "did you mean rebel-base.default.svc.clusterset.local?" in cause


def test_every_reason_is_in_the_docs() -> None:
    text = PAGE.read_text()
    assert [reason for reason in Reason if f"`{reason}`" not in text] == []


def test_pod_of_the_docs_is_one_that_restricted_namespaces_take() -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    pod = yaml.safe_load(text)
    kubernetes_validate.validate(pod, "1.31", strict=True)
    spec = pod["spec"]
    assert "dnsPolicy" not in spec
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["args"] == ["check"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
