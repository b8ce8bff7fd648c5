"""A control plane of Kubernetes as processes: etcd, kube-apiserver, kube-controller-manager.

No scheduler and no kubelet: pods are made and admitted, and stay pending.
"""

import signal
import ssl
import subprocess
from pathlib import Path

import yaml

from tests.apiserver.crds import WithCrds
from tests.certificates import Authority
from tests.waiting import free_port, wait_until

ADMIN = "admin-token"
IPV4, IPV6 = "10.96.0.0/16", "fd00:10:96::/112"
ANY_ADDRESS = "192.0.2.1"  # what the Service `kubernetes` would lead to


class Cluster(WithCrds):
    """One cluster with RBAC, and as a client its administrator. `ranges` are those of Services."""

    def __init__(self, binary: Path, folder: Path, ranges: str = f"{IPV4},{IPV6}") -> None:
        super().__init__(ADMIN)
        self._binary = binary
        self._folder = folder
        self._ranges = ranges
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> "Cluster":
        """Start all three, and wait until what every namespace begins with is there."""
        etcd = self._start_etcd()
        authority = Authority(self._folder / "ca")
        serving = authority.server("IP:127.0.0.1", "DNS:localhost")
        self.ca = authority.ca.cert
        tokens = self._folder / "tokens.csv"
        tokens.write_text(f"{ADMIN},admin,admin,system:masters\n")
        self.port = free_port()
        self._run(
            "kube-apiserver",
            etcd_servers=etcd,
            bind_address="127.0.0.1",
            advertise_address=ANY_ADDRESS,
            endpoint_reconciler_type="none",
            secure_port=self.port,
            tls_cert_file=serving.cert,
            tls_private_key_file=serving.key,
            authorization_mode="RBAC",
            token_auth_file=tokens,
            service_cluster_ip_range=self._ranges,
            service_account_issuer="https://kubernetes.default.svc",
            service_account_key_file=serving.cert,
            service_account_signing_key_file=serving.key,
        )
        self._tls = ssl.create_default_context(cafile=str(self.ca))
        self._wait(self._is_ready, "kube-apiserver")
        self._run(
            "kube-controller-manager",
            kubeconfig=self.kubeconfig(ADMIN, "admin"),
            bind_address="127.0.0.1",
            secure_port=0,
            leader_elect="false",
            use_service_account_credentials="true",
            service_account_private_key_file=serving.key,
            root_ca_file=self.ca,
        )
        default = "/api/v1/namespaces/default/serviceaccounts/default"
        self._wait(lambda: self.get(default).status == 200, "kube-controller-manager")
        return self

    def _start_etcd(self) -> str:
        client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self._run(
            "etcd",
            data_dir=self._folder / "etcd",
            listen_client_urls=client,
            advertise_client_urls=client,
            listen_peer_urls=peer,
            initial_advertise_peer_urls=peer,
            initial_cluster=f"default={peer}",
            unsafe_no_fsync="true",
            log_level="error",
        )
        return client

    def _run(self, name: str, **flags: object) -> None:
        arguments = [f"--{flag.replace('_', '-')}={value}" for flag, value in flags.items()]
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [self._binary, name, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._processes.append(process)

    def _is_ready(self) -> bool:
        try:
            return self.get("/readyz").status == 200
        except OSError:
            return False

    def _wait(self, condition: object, what: str) -> None:
        """Wait as long as a busy machine takes, but not for a process that has ended."""

        def holds() -> bool:
            for process in self._processes:
                assert process.poll() is None, f"{process.args} ended: {self.log(what)[-3000:]}"
            return bool(condition())

        wait_until(holds, what)

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text()

    def stop(self) -> None:
        """End all, the last started first; nothing of it is kept."""
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    # Clients.

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def kubeconfig(self, token: str, name: str) -> Path:
        """A kubeconfig with a token."""
        path = self._folder / f"{name}.kubeconfig"
        cluster = {"server": self.url, "certificate-authority": str(self.ca)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    @property
    def admin(self) -> Path:
        return self.kubeconfig(ADMIN, "admin")

    def token_of(self, namespace: str, account: str) -> str:
        """A token as a pod of that service account gets one."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        return str(self.must("POST", path, request)["status"]["token"])

    def of_account(self, namespace: str, account: str) -> Path:
        """A kubeconfig of a service account."""
        return self.kubeconfig(self.token_of(namespace, account), f"{namespace}-{account}")
