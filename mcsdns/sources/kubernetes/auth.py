"""Who we are to an API server, by kubernetes_asyncio: a kubeconfig or a pod's service account.

What says where the API server is must be right at the start (ConfigError). Who we are may change
at any time, so what is wrong with that is an IdentityError, and another try may help.
"""

import asyncio
import hashlib
import logging
import os
import re
from typing import Any, Final

import anyio.to_thread
import msgspec

from mcsdns.errors import ConfigError, SourceError
from mcsdns.sources.kubernetes import kubeconfig

DEFAULT_KUBECONFIG: Final = "~/.kube/config"
KUBECONFIG_VARIABLE: Final = "KUBECONFIG"
SERVICE_ACCOUNT_CA: Final = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
_LOAD_LIMIT_S: Final = 60.0
_SHOWN_OF_PLUGIN: Final = 500
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
    """Say whether a kubeconfig is where it usually is."""
    return bool(os.environ.get(KUBECONFIG_VARIABLE)) or os.path.exists(
        os.path.expanduser(DEFAULT_KUBECONFIG)
    )


class Place(msgspec.Struct, frozen=True):
    """Which API server it is; its CA by SHA-256, empty where the system's CAs are trusted."""

    url: str
    ca_fingerprint: str


class IdentityError(SourceError):
    """We cannot say who we are at the moment; another try may help."""


class Identity:
    """Finds the API server, and makes configurations of kubernetes_asyncio for it."""

    def __init__(self, access: Access) -> None:
        """Read what says where the API server is.

        Raises:
            ConfigError: there is nothing, it is malformed, or it lacks what it names.
        """
        self._access = access
        self._files = access.kubeconfig or os.environ.get(KUBECONFIG_VARIABLE, "")
        self._files = self._files or DEFAULT_KUBECONFIG
        self._context = ""
        self._has_plugin = False
        self._loading: asyncio.Task[Any] | None = None
        self.place = self._place_of_pod() if access.in_cluster else self._place_of_kubeconfig()

    async def configuration(self) -> Any:  # noqa: ANN401 - kubernetes_asyncio's Configuration
        """Make a configuration with a token or certificate that is good now.

        An exec plugin that takes too long goes on, and is not started again while it does.

        Raises:
            IdentityError: there is none now; says what to look at, and nothing that is secret.
        """
        if self._loading is None:
            self._loading = asyncio.create_task(self._load())
        done, _ = await asyncio.wait([self._loading], timeout=_LOAD_LIMIT_S)
        if not done:
            raise IdentityError(f"{self._where}: nothing came in {_LOAD_LIMIT_S:g} s")
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
        await self._loader(library).load_and_set(made)
        if self._has_plugin and not (made.api_key or made.cert_file):
            raise _NothingFromPluginError
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
            found = kubeconfig.read(self._files)
        except kubeconfig.KubeconfigError as error:
            raise ConfigError(f"kubeconfig {self._files}: {error}; {_NO_KUBECONFIG}") from None
        wanted = self._context = self._access.context or found.current_context
        if wanted not in found.contexts:
            names = list(found.contexts)
            why = f"no context {wanted!r}" if wanted else "no current-context"
            there = f"it has {', '.join(names)}" if names else "it has none"
            raise ConfigError(f"kubeconfig {self._files}: {why}, {there}; give --context NAME")
        try:
            cluster = found.cluster_of(wanted)
            ca = cluster.ca()
            self._has_plugin = found.users.get(found.contexts[wanted].user, False)
            return Place(cluster.server, hashlib.sha256(ca).hexdigest() if ca else "")
        except (kubeconfig.KubeconfigError, OSError) as error:
            raise ConfigError(f"kubeconfig {self._files}, context {wanted}: {error}") from None

    def _loader(self, library: Any) -> Any:  # noqa: ANN401
        kube_config = library.config.kube_config
        merger = kube_config.KubeConfigMerger(self._files)
        loader = kube_config.KubeConfigLoader(
            config_dict=merger.config,
            active_context=self._context,
            config_base_path=None,
            config_persister=merger.save_changes,
        )
        if loader._user is None:  # without one it fails over https; kubectl is nobody then
            loader._user = kube_config.ConfigNode("user", {})
        return loader

    def _why(self, error: Exception) -> str:
        """Say what is wrong; the library's own words may quote tokens, so only some are passed on.

        Its node names hold whole users, and what a plugin printed may be a credential.
        """
        text = " ".join(str(error).split())
        lacking = _LACKING.match(text)
        if isinstance(error, FileNotFoundError):
            return f"{error.filename} is not there" + ("; install it" * self._has_plugin)
        if isinstance(error, OSError):
            return f"{error.filename or 'a file'}: {error.strerror}"
        if lacking:
            what = "is empty" if lacking[1] == "user" else f"lacks {lacking[1]}"
            return f"the user {what}; `kubectl config view` shows it"
        if isinstance(error, _NothingFromPluginError):
            return "the exec plugin gave neither token nor certificate and key; run it by hand"
        if text.startswith("exec: process returned"):
            return f"{text[:_SHOWN_OF_PLUGIN]}; run the plugin by hand to see why"
        if text.startswith(_HARMLESS):
            return text
        what = "the exec plugin's answer" if self._has_plugin else "the user"
        return f"{what} is malformed ({type(error).__name__}); `kubectl config view` shows the user"


class _NothingFromPluginError(Exception):
    """An exec plugin ended well and gave nothing to show to an API server."""


def _library() -> Any:  # noqa: ANN401
    """Import kubernetes_asyncio, in a thread: it takes 0.3 s, and 40 MB."""
    import kubernetes_asyncio  # noqa: PLC0415

    logging.getLogger("kubernetes_asyncio").setLevel(logging.CRITICAL)  # we say it ourselves
    return kubernetes_asyncio
