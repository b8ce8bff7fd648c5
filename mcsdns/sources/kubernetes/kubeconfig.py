"""Which API server a kubeconfig names: read by ourselves, before anything is asked or imported.

Of users only who has an exec plugin; all that is secret is for kubernetes_asyncio.

Source: client-go, "Organizing Cluster Access Using kubeconfig Files": the first file to say
something wins, and paths in a file begin where the file is.
"""

import base64
import os
from collections.abc import Iterable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import yaml

from mcsdns.errors import SourceError


class KubeconfigError(SourceError):
    """A kubeconfig is not there, or lacks what it must have."""


class KubeconfigCluster(msgspec.Struct, frozen=True):
    """One cluster of a kubeconfig.

    Attributes:
        server: URL. ca_data, ca_file: its certificate authority, or both empty.
    """

    server: str
    ca_data: str = ""
    ca_file: str = ""

    def ca(self) -> bytes:
        """Return the certificate authority; nothing where those of the system are trusted.

        Raises:
            KubeconfigError: it is not base64. OSError: the file cannot be read.
        """
        if self.ca_data:
            try:
                return base64.b64decode(self.ca_data)
            except ValueError:
                raise KubeconfigError("certificate-authority-data is not base64") from None
        if self.ca_file:
            with open(self.ca_file, "rb") as file:
                return file.read()
        return b""


class Context(msgspec.Struct, frozen=True):
    """One context of a kubeconfig: names of a cluster and of a user, which may be empty."""

    cluster: str = ""
    user: str = ""


class Kubeconfig(msgspec.Struct, frozen=True):
    """What all files together say, by name; of users whether they have an exec plugin."""

    current_context: str
    contexts: dict[str, Context]
    clusters: dict[str, KubeconfigCluster]
    users: dict[str, bool]

    def cluster_of(self, context: str) -> KubeconfigCluster:
        """Return the cluster of a context.

        Raises:
            KubeconfigError: cluster or user are not there, or there is no usable server.
        """
        name, user = self.contexts[context].cluster, self.contexts[context].user
        if name not in self.clusters:
            raise KubeconfigError(f"it names the cluster {name!r}, which is not there")
        if user and user not in self.users:
            raise KubeconfigError(f"it names the user {user!r}, who is not there")
        if not _is_url(self.clusters[name].server):
            raise KubeconfigError(
                f"the server of cluster {name!r} is no http or https URL such as "
                "https://HOST:PORT, without user, query and fragment"
            )
        return self.clusters[name]


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        extra = parts.username or parts.password or parts.query or parts.fragment
        is_http = parts.scheme in {"http", "https"}
        return is_http and bool(parts.hostname) and parts.port != 0 and not extra
    except ValueError:
        return False


def read(paths: str) -> Kubeconfig:
    """Read the files of a list parted by `:`; those that are not there are passed over.

    Raises:
        KubeconfigError: none is there, or one is malformed.
    """
    merged = Kubeconfig("", {}, {}, {})
    files = [os.path.expanduser(path) for path in paths.split(":") if path]
    there = [file for file in files if os.path.exists(file)]
    if not there:
        raise KubeconfigError("no such file")
    for file in there:
        found = _read_file(file)
        merged = Kubeconfig(
            merged.current_context or found.current_context,
            merged.contexts | _others(found.contexts, merged.contexts),
            merged.clusters | _others(found.clusters, merged.clusters),
            merged.users | _others(found.users, merged.users),
        )
    return merged


class _NamedContext(msgspec.Struct):
    name: str
    context: Context | None = None


class _RawUser(msgspec.Struct):
    exec: dict[str, Any] | None = None


class _NamedUser(msgspec.Struct):
    name: str
    user: _RawUser | None = None


class _RawCluster(msgspec.Struct, rename="kebab"):
    server: str | None = None
    certificate_authority: str | None = None
    certificate_authority_data: str | None = None


class _NamedCluster(msgspec.Struct):
    name: str
    cluster: _RawCluster | None = None


class _File(msgspec.Struct, rename="kebab"):
    current_context: str | None = None
    contexts: list[_NamedContext] | None = None
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedUser] | None = None


def _read_file(path: str) -> Kubeconfig:
    try:
        with open(path, "rb") as file:
            found = msgspec.convert(yaml.safe_load(file), _File)
    except OSError as error:
        raise KubeconfigError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise KubeconfigError(f"{path}: not YAML: {_without_the_text(error)}") from None
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        why = str(error) if isinstance(error, msgspec.ValidationError) else type(error).__name__
        raise KubeconfigError(f"{path}: not a kubeconfig: {why}") from None
    folder = os.path.dirname(path)
    return Kubeconfig(
        found.current_context or "",
        _first_of((each.name, each.context or Context()) for each in found.contexts or []),
        _first_of((each.name, _cluster(each, folder)) for each in found.clusters or []),
        _first_of((each.name, bool(each.user and each.user.exec)) for each in found.users or []),
    )


T = TypeVar("T")


def _first_of(pairs: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Make a dictionary in which the first of a name wins, in the order of the file."""
    made: dict[str, T] = {}
    for name, value in pairs:
        made.setdefault(name, value)
    return made


def _others(found: dict[str, T], known: dict[str, T]) -> dict[str, T]:
    return {name: value for name, value in found.items() if name not in known}


def _without_the_text(error: yaml.YAMLError) -> str:
    """Say what is wrong and where; the text itself may hold a token."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or type(error).__name__
    return f"{problem}, line {mark.line + 1}" if mark else str(problem)


def _cluster(named: _NamedCluster, folder: str) -> KubeconfigCluster:
    raw = named.cluster or _RawCluster()
    authority = raw.certificate_authority
    return KubeconfigCluster(
        (raw.server or "").rstrip("/"),
        raw.certificate_authority_data or "",
        os.path.join(folder, authority) if authority else "",
    )
