"""A small client of the Kubernetes API, synchronous, that shows what comes over the wire.

It takes nothing from the code under test, and one client serves many threads.
"""

import contextlib
import functools
import http.client
import json
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tests.waiting import DEADLINE_S

REQUEST_S = DEADLINE_S
PLURALS = {
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "ConfigMap": "configmaps",
    "CustomResourceDefinition": "customresourcedefinitions",
    "DaemonSet": "daemonsets",
    "Deployment": "deployments",
    "EndpointSlice": "endpointslices",
    "Endpoints": "endpoints",
    "Namespace": "namespaces",
    "NetworkPolicy": "networkpolicies",
    "Node": "nodes",
    "Pod": "pods",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "PodMonitor": "podmonitors",
    "PrometheusRule": "prometheusrules",
    "ResourceQuota": "resourcequotas",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
    "ServiceExport": "serviceexports",
    "ServiceImport": "serviceimports",
    "ServiceMonitor": "servicemonitors",
}
CLUSTER_SCOPED = {
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "Namespace",
    "Node",
}

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Reply:
    """What came back: `body` is text, `json` the same parsed."""

    status: int
    headers: Mapping[str, str]
    body: str

    @functools.cached_property
    def json(self) -> Any:
        return json.loads(self.body)


class RequestFailedError(AssertionError):
    """The API server refused what a test takes for granted."""

    def __init__(self, what: str, reply: Reply) -> None:
        super().__init__(f"{what}: {reply.status} {reply.body}")
        self.reply = reply


class Connection(http.client.HTTPSConnection):
    """A connection that is closed when the thread that used it is gone."""

    def __del__(self) -> None:
        self.close()


class Watch:
    """One watch as it comes over the wire: events, one a line, until the server ends it."""

    def __init__(self, connection: Connection, path: str) -> None:
        self._response = connection.getresponse()
        self.path = path
        self.status = self._response.status

    def __iter__(self) -> Iterator[Any]:
        while line := self._response.readline():
            yield json.loads(line)

    def next(self) -> Any:
        """The next event; None at the end."""
        return next(iter(self), None)

    def until(self, condition: Callable[[Any], bool]) -> list[Any]:
        """All events up to the first for which something holds, that one included."""
        seen: list[Any] = []
        for event in self:
            seen.append(event)
            if condition(event):
                return seen
        raise AssertionError(f"{self.path}: ended after {seen}")

    def body(self) -> str:
        """All the rest, as text."""
        return self._response.read().decode()

    def close(self) -> None:
        self._response.close()


def path_of(given: Object, subresource: str = "") -> str:
    """The path of an object, by its kind, namespace and name."""
    metadata = given["metadata"]
    collection = collection_of(given["apiVersion"], given["kind"], metadata.get("namespace", ""))
    return f"{collection}/{metadata['name']}{subresource}"


def collection_of(api_version: str, kind: str, namespace: str = "") -> str:
    """The path of a list: of one namespace, or of all where none is given."""
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    inside = f"/namespaces/{namespace}" if namespace and kind not in CLUSTER_SCOPED else ""
    return f"{root}{inside}/{PLURALS[kind]}"


class Client:
    """Requests to an API server at a port of 127.0.0.1, and objects to put there."""

    def __init__(self, token: str | None) -> None:
        self.port = 0
        self.token = token
        self._tls: ssl.SSLContext | None = None
        self._process: object = None  # whose connections are still good
        self._kept = threading.local()

    # Requests.

    def request(
        self, method: str, path: str, body: object = None, token: str | None = None, **query: Any
    ) -> Reply:
        """Ask as the administrator, or with another token (`""`: with none).

        A PATCH is a merge patch. Whatever comes back is returned; a server that is away raises
        OSError or HTTPException.
        """
        connection = self._connection()
        try:
            self._send(connection, method, path, body, token, query)
            response = connection.getresponse()
            text = response.read().decode()
        except (http.client.HTTPException, OSError):
            connection.close()
            raise
        return Reply(response.status, dict(response.getheaders()), text)

    def get(self, path: str, token: str | None = None, **query: Any) -> Reply:
        """Read an object, or a list, or anything."""
        return self.request("GET", path, token=token, **query)

    @contextlib.contextmanager
    def watch(
        self, path: str, token: str | None = None, timeout_s: float = REQUEST_S, **query: Any
    ) -> Iterator[Watch]:
        """Watch on a connection of its own; the query says the rest."""
        connection = self._new_connection(timeout_s)
        with contextlib.closing(connection):
            self._send(connection, "GET", path, None, token, {"watch": "true", **query})
            with contextlib.closing(Watch(connection, path)) as watch:
                yield watch

    def _connection(self) -> Connection:
        """The connection of this thread to this process."""
        process, connection = getattr(self._kept, "connection", (None, None))
        if connection is None or process is not self._process:
            connection = self._new_connection(REQUEST_S)
            self._kept.connection = (self._process, connection)
        return connection

    def _new_connection(self, timeout_s: float) -> Connection:
        return Connection("127.0.0.1", self.port, context=self._tls, timeout=timeout_s)

    def _send(
        self,
        connection: Connection,
        method: str,
        path: str,
        body: object,
        token: str | None,
        query: Mapping[str, Any],
    ) -> None:
        headers = {"Accept": "application/json"}
        if token := self.token if token is None else token:
            headers["Authorization"] = f"Bearer {token}"
        text = None
        if body is not None:
            kind = "merge-patch+json" if method == "PATCH" else "json"
            headers["Content-Type"] = f"application/{kind}"
            text = json.dumps(body)
        if query:
            path += "?" + urllib.parse.urlencode(query)
        connection.request(method, path, text, headers)

    def must(self, method: str, path: str, body: object = None, **query: Any) -> Any:
        """Ask for what cannot fail; return the parsed reply."""
        reply = self.request(method, path, body, **query)
        if reply.status >= 300:
            raise RequestFailedError(f"{method} {path}", reply)
        return reply.json

    # Objects.

    def apply(self, given: Object) -> Any:
        """Create or replace an object, its status too; return it as stored."""
        present = self.get(path_of(given))
        if present.status == 404:
            return self.create(given)
        version = present.json["metadata"]["resourceVersion"]
        metadata = {**given["metadata"], "resourceVersion": version}
        stored = self.must("PUT", path_of(given), {**given, "metadata": metadata})
        return self._apply_status(given) or stored

    def create(self, given: Object) -> Any:
        """Create an object that is not there, its status too; return it as stored."""
        namespace = given["metadata"].get("namespace", "")
        collection = collection_of(given["apiVersion"], given["kind"], namespace)
        stored = self.must("POST", collection, given)
        return self._apply_status(given) or stored

    def _apply_status(self, given: Object) -> Any:
        """The API server drops the status of a POST or PUT: it has a place of its own."""
        if given["kind"] not in ("ServiceImport", "ServiceExport") or not given.get("status"):
            return None
        return self.must("PATCH", path_of(given, "/status"), {"status": given["status"]})

    def create_many(self, objects: Iterable[Object], threads: int = 16) -> int:
        """Create objects that are not there, about a thousand a second; return how many."""
        with ThreadPoolExecutor(threads) as pool:
            return sum(1 for _ in pool.map(self.create, objects))

    def patch(self, given: Object, change: Object, subresource: str = "") -> Any:
        """Change an object, named by kind, namespace and name, by a merge patch."""
        return self.must("PATCH", path_of(given, subresource), change)

    def delete(self, given: Object) -> None:
        """Delete an object, named by kind, namespace and name, if it is there."""
        reply = self.request("DELETE", path_of(given))
        if reply.status not in (200, 202, 404):
            raise RequestFailedError(f"DELETE {path_of(given)}", reply)

    def resource_version(self, path: str) -> str:
        """The resource version that a list of this path has now."""
        version: str = self.must("GET", path, limit=1)["metadata"]["resourceVersion"]
        return version
