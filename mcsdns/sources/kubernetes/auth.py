"""Who we are to an API server: by a kubeconfig or by a pod's service account.

What says where the API server is must be right at the start (ConfigError). Who we are may change
at any time, so what is wrong with that is an IdentityError, and another try may help.

A kubeconfig is read here, each time that an identity is needed. What a user of it is (a
token, a certificate, an exec plugin, OpenID Connect) is for kubernetes_asyncio, which gets the one
context that is used.

Source: client-go, "Organizing Cluster Access Using kubeconfig Files": the first file to say
something wins, and paths in a file begin where the file is.
"""

import asyncio
import base64
import copy
import hashlib
import logging
import os
import re
from typing import Any, Final
from urllib.parse import urlsplit

import anyio.to_thread
import msgspec
import yaml

from mcsdns.errors import ConfigError, SourceError

DEFAULT_KUBECONFIG: Final = "~/.kube/config"
KUBECONFIG_VARIABLE: Final = "KUBECONFIG"
SERVICE_ACCOUNT_CA: Final = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
_LACKING: Final = re.compile(r"Invalid kube-config file\. Expected key ([\w-]+) in ")
_HARMLESS: Final = (
    *("File does not exist", "Service ", "Cert file", "Token file", "oidc: "),
    *("exec: malformed request. missing key", "exec: malformed response. missing key"),
)
_NO_KUBECONFIG: Final = "name one with --kubeconfig FILE, or give --manifests PATH"


class Access(msgspec.Struct, frozen=True):
    """How to reach an API server.

    Attributes:
        kubeconfig: file, or several parted by `:`; empty for `$KUBECONFIG`, else ~/.kube/config.
        context: of the kubeconfig; empty for its current one.
        in_cluster: by the service account of this pod instead.
    """

    kubeconfig: str = ""
    context: str = ""
    in_cluster: bool = False


def has_kubeconfig() -> bool:
    """Returns whether a kubeconfig is where it usually is."""
    return bool(os.environ.get(KUBECONFIG_VARIABLE)) or os.path.exists(
        os.path.expanduser(DEFAULT_KUBECONFIG)
    )


class Place(msgspec.Struct, frozen=True):
    """Which API server it is; its CA by SHA-256, empty where the system's CAs are trusted."""

    url: str
    ca_fingerprint: str


class IdentityError(SourceError):
    """We cannot say who we are at the moment; another try may help."""


class KubeconfigError(SourceError):
    """A kubeconfig is not there, or lacks what it must have."""


class Identity:
    """Finds the API server, and makes configurations of kubernetes_asyncio for it.

    Attributes:
        place: the API server. load_limit_s: how long a configuration is waited for.
    """

    def __init__(self, access: Access) -> None:
        """Read what says where the API server is.

        Raises:
            ConfigError: there is nothing, it is malformed, or it lacks what it names.
        """
        self._access = access
        self._files = access.kubeconfig or os.environ.get(KUBECONFIG_VARIABLE, "")
        self._files = self._files or DEFAULT_KUBECONFIG
        self._context = access.context
        self._has_plugin = False
        self._loading: asyncio.Task[Any] | None = None
        self.load_limit_s = 60.0
        self.place = self._place_of_pod() if access.in_cluster else self._place_of_kubeconfig()

    async def configuration(self) -> Any:  # noqa: ANN401 - kubernetes_asyncio's Configuration
        """Make a configuration with a token or certificate that is good now.

        An exec plugin that takes too long goes on, and is not started again while it does.

        Raises:
            IdentityError: there is none now; says what to look at, and nothing that is secret.
        """
        if self._loading is None:
            self._loading = asyncio.create_task(self._load())
        done, _ = await asyncio.wait([self._loading], timeout=self.load_limit_s)
        if not done:
            raise IdentityError(f"{self._where}: nothing came in {self.load_limit_s:g} s")
        loading, self._loading = self._loading, None
        try:
            return loading.result()
        except Exception as error:  # of a library that raises what it likes
            raise IdentityError(f"{self._where}: {self._why(error)}") from None

    def close(self) -> None:
        """Wait for no plugin any more."""
        loading, self._loading = self._loading, None
        if loading is not None:
            loading.cancel()

    async def _load(self) -> Any:  # noqa: ANN401
        library = await anyio.to_thread.run_sync(_library)
        made = library.client.Configuration()
        if self._access.in_cluster:
            library.config.load_incluster_config(client_configuration=made)
            return made
        await Kubeconfig(self._files).loader(self._context, library).load_and_set(made)
        if self._has_plugin and not (made.api_key or made.cert_file):
            raise KubeconfigError(
                "the exec plugin gave neither token nor certificate and key; run it by hand"
            )
        return made

    @property
    def _where(self) -> str:
        if self._access.in_cluster:
            return "--in-cluster, the pod's service account"
        return f"kubeconfig {self._files}, context {self._context}"

    def _place_of_pod(self) -> Place:
        host, port = (os.environ.get(f"KUBERNETES_SERVICE_{part}", "") for part in ("HOST", "PORT"))
        try:
            if not (host and port):
                raise FileNotFoundError("KUBERNETES_SERVICE_HOST and _PORT are not set")
            with open(SERVICE_ACCOUNT_CA, "rb") as file:
                fingerprint = hashlib.sha256(file.read()).hexdigest()
        except OSError as error:
            raise ConfigError(
                f"--in-cluster: {error}; this needs a pod with a service account "
                "(automountServiceAccountToken), elsewhere give --kubeconfig FILE"
            ) from None
        return Place(f"https://{f'[{host}]' if ':' in host else host}:{port}", fingerprint)

    def _place_of_kubeconfig(self) -> Place:
        try:
            found = Kubeconfig(self._files)
        except KubeconfigError as error:
            raise ConfigError(f"kubeconfig {self._files}: {error}; {_NO_KUBECONFIG}") from None
        wanted = self._context = self._context or found.current_context
        if wanted not in found.contexts:
            names = list(found.contexts)
            why = f"no context {wanted!r}" if wanted else "no current-context"
            there = f"it has {', '.join(names)}" if names else "it has none"
            raise ConfigError(f"kubeconfig {self._files}: {why}, {there}; give --context NAME")
        try:
            self._has_plugin = found.has_plugin(wanted)
            return found.place_of(wanted)
        except (KubeconfigError, OSError) as error:
            raise ConfigError(f"kubeconfig {self._files}, context {wanted}: {error}") from None

    def _why(self, error: Exception) -> str:
        """Say what is wrong; the library's own words may quote tokens, so only some are passed on.

        Its node names hold whole users, and what a plugin printed may be a credential.
        """
        text = " ".join(str(error).split())
        lacking = _LACKING.match(text)
        if isinstance(error, KubeconfigError):
            return str(error)
        if isinstance(error, FileNotFoundError):
            return f"{error.filename} is not there" + ("; install it" * self._has_plugin)
        if isinstance(error, OSError):
            return f"{error.filename or 'a file'}: {error.strerror}"
        if lacking:
            what = "is empty" if lacking[1] == "user" else f"lacks {lacking[1]}"
            return f"the user {what}; `kubectl config view` shows it"
        if text.startswith("exec: process returned"):
            return f"run the plugin by hand to see why {text}"
        if text.startswith(_HARMLESS):
            return text
        what = "the exec plugin's answer" if self._has_plugin else "the user"
        return f"{what} is malformed ({type(error).__name__}); `kubectl config view` shows the user"


def _library() -> Any:  # noqa: ANN401
    """Import kubernetes_asyncio, in a thread: it takes 0.3 s, and 40 MB."""
    import kubernetes_asyncio  # noqa: PLC0415

    logging.getLogger("kubernetes_asyncio").setLevel(logging.CRITICAL)  # we say it ourselves
    return kubernetes_asyncio


class _Context(msgspec.Struct):
    cluster: str = ""
    user: str = ""


class _Cluster(msgspec.Struct, rename="kebab"):
    server: str | None = None
    certificate_authority: str | None = None
    certificate_authority_data: str | None = None


class _Item(msgspec.Struct):
    """An item of one of the lists of a kubeconfig, a cluster or a user as it is in its file."""

    name: str
    context: _Context | None = None
    cluster: dict[str, Any] | None = None
    user: dict[str, Any] | None = None


class _File(msgspec.Struct, rename="kebab"):
    current_context: str | None = None
    contexts: list[_Item] | None = None
    clusters: list[_Item] | None = None
    users: list[_Item] | None = None


class _Found(msgspec.Struct, frozen=True):
    """An item, and the path of the file that it is in."""

    item: _Item
    path: str


class Kubeconfig:
    """What all files of a list say, read when it is made.

    Attributes:
        current_context: its name, or empty. contexts, clusters, users: by name.
    """

    def __init__(self, paths: str) -> None:
        """Read the files of a list parted by `:`; those that are not there are passed over.

        Raises:
            KubeconfigError: none is there, or one is malformed.
        """
        self.current_context = ""
        self.contexts: dict[str, _Found] = {}
        self.clusters: dict[str, _Found] = {}
        self.users: dict[str, _Found] = {}
        files = [os.path.expanduser(path) for path in paths.split(":") if path]
        self._plain = {path: _read_yaml(path) for path in files if os.path.exists(path)}
        self._saved = copy.deepcopy(self._plain)
        if not self._plain:
            raise KubeconfigError("no such file")
        for path, plain in self._plain.items():
            self._add(path, plain)

    def _add(self, path: str, plain: Any) -> None:  # noqa: ANN401 - of YAML
        try:
            file = msgspec.convert(plain, _File)
        except msgspec.ValidationError as error:
            raise KubeconfigError(f"{path}: not a kubeconfig: {error}") from None
        self.current_context = self.current_context or file.current_context or ""
        for name in ("contexts", "clusters", "users"):
            known: dict[str, _Found] = getattr(self, name)
            for item in getattr(file, name) or ():
                known.setdefault(item.name, _Found(item, path))

    def has_plugin(self, context: str) -> bool:
        """Returns whether the user of a context is one by an exec plugin."""
        user = self._of(context)[1].item.user
        return bool(user and user.get("exec"))

    def place_of(self, context: str) -> Place:
        """Return which API server a context names.

        Raises:
            KubeconfigError: cluster or user are not there, or there is no usable server.
            OSError: its certificate authority cannot be read.
        """
        found = self._of(context)[0]
        try:
            cluster = msgspec.convert(found.item.cluster or {}, _Cluster)
        except msgspec.ValidationError as error:
            raise KubeconfigError(f"{found.path}: not a kubeconfig: {error}") from None
        url = (cluster.server or "").rstrip("/")
        if not _is_url(url):
            raise KubeconfigError(
                f"the server of cluster {found.item.name!r} is no http or https URL such as "
                "https://HOST:PORT, without user, query and fragment"
            )
        ca = b""
        if cluster.certificate_authority_data:
            try:
                ca = base64.b64decode(cluster.certificate_authority_data)
            except ValueError:
                raise KubeconfigError("certificate-authority-data is not base64") from None
        elif cluster.certificate_authority:
            folder = os.path.dirname(found.path)
            with open(os.path.join(folder, cluster.certificate_authority), "rb") as file:
                ca = file.read()
        return Place(url, hashlib.sha256(ca).hexdigest() if ca else "")

    def loader(self, context: str, library: Any) -> Any:  # noqa: ANN401 - of kubernetes_asyncio
        """Make a loader of kubernetes_asyncio for one context."""
        cluster, user = self._of(context)
        names = {"cluster": cluster.item.name, "user": user.item.name}
        tree = {
            "contexts": [{"name": context, "context": names}],
            "clusters": [_node(cluster, library)],
            "users": [_node(user, library)],
        }
        return library.config.kube_config.KubeConfigLoader(
            config_dict=tree,
            active_context=context,
            config_base_path=None,
            config_persister=self._save,
        )

    def _of(self, context: str) -> tuple[_Found, _Found]:
        """Return the cluster and the user of a context.

        A context without a user gets one that is empty: without any, the library's loader fails
        over https; kubectl is nobody then.
        """
        if context not in self.contexts:
            raise KubeconfigError("the context is not there any more")
        names = self.contexts[context].item.context or _Context()
        if names.cluster not in self.clusters:
            raise KubeconfigError(f"it names the cluster {names.cluster!r}, which is not there")
        if names.user and names.user not in self.users:
            raise KubeconfigError(f"it names the user {names.user!r}, who is not there")
        nobody = _Found(_Item("nobody", user={}), "")
        return self.clusters[names.cluster], self.users[names.user] if names.user else nobody

    def _save(self, *_: object) -> None:
        """Write what the loader changed: tokens of OpenID Connect are renewed in their file."""
        for path, plain in self._plain.items():
            if plain != self._saved[path]:
                with open(path, "w", encoding="utf-8") as file:
                    yaml.safe_dump(plain, file, default_flow_style=False)
        self._saved = copy.deepcopy(self._plain)


def _node(found: _Found, library: Any) -> Any:  # noqa: ANN401
    plain = msgspec.structs.asdict(found.item)
    return library.config.kube_config.ConfigNode(found.item.name, plain, found.path)


def _read_yaml(path: str) -> Any:  # noqa: ANN401
    try:
        with open(path, "rb") as file:
            return yaml.safe_load(file)
    except OSError as error:
        raise KubeconfigError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:  # its text may hold a token, so only what and where
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or type(error).__name__
        where = f", line {mark.line + 1}" if mark else ""
        raise KubeconfigError(f"{path}: not YAML: {problem}{where}") from None
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise KubeconfigError(f"{path}: not a kubeconfig: {type(error).__name__}") from None


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        extra = parts.username or parts.password or parts.query or parts.fragment
        is_http = parts.scheme in {"http", "https"}
        return is_http and bool(parts.hostname) and parts.port != 0 and not extra
    except ValueError:
        return False
