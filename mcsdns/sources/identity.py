"""Who we are to an API server, by kubernetes_asyncio: a kubeconfig or a pod's service account.

What is wrong on this machine is a ConfigError; what another try may mend (an exec plugin that
fails, an identity provider that is away) is an IdentityError.
"""

import asyncio
import base64
import hashlib
import logging
import os
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import yaml

from mcsdns.errors import ConfigError, SourceError

DEFAULT_KUBECONFIG: Final = "~/.kube/config"
KUBECONFIG_VARIABLE: Final = "KUBECONFIG"
_EXEC_LIMIT_S: Final = 60.0
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
        self.place = self._place_of_pod() if access.in_cluster else self._place_of_kubeconfig()

    async def configuration(self) -> Any:  # noqa: ANN401 - kubernetes_asyncio's Configuration
        """Make a configuration with a token or certificate that is good now.

        Raises:
            ConfigError, IdentityError: as above.
        """
        library = _library()
        made = library.client.Configuration()
        try:
            if self._access.in_cluster:
                library.config.load_incluster_config(client_configuration=made)
            else:
                async with asyncio.timeout(_EXEC_LIMIT_S):
                    await self._loader().load_and_set(made)
        except TimeoutError:
            raise IdentityError(f"{self._where}: nothing came in {_EXEC_LIMIT_S:g} s") from None
        except Exception as error:
            raise self._failure(error) from error
        return made

    @property
    def _where(self) -> str:
        if self._access.in_cluster:
            return "--in-cluster"
        context = self._access.context
        return f"kubeconfig {self._files}" + (f", context {context}" if context else "")

    def _place_of_pod(self) -> Place:
        library = _library()
        made = library.client.Configuration()
        try:
            library.config.load_incluster_config(client_configuration=made)
            with open(made.ssl_ca_cert, "rb") as file:
                return Place(made.host, hashlib.sha256(file.read()).hexdigest())
        except (library.config.ConfigException, OSError) as error:
            raise ConfigError(
                f"--in-cluster: {error}; this needs a pod with a service account "
                "(automountServiceAccountToken), elsewhere give --kubeconfig FILE"
            ) from None

    def _place_of_kubeconfig(self) -> Place:
        files = [os.path.expanduser(each) for each in self._files.split(":") if each]
        if not any(map(os.path.exists, files)):
            raise ConfigError(f"no kubeconfig at {self._files}; {_NO_KUBECONFIG}")
        try:
            cluster = self._loader()._cluster  # where it is, whoever we are
            server = str(cluster["server"]).rstrip("/")
            return Place(server, _fingerprint(cluster, files[0]))
        except (_library().config.ConfigException, *_MALFORMED) as error:
            raise self._failure(error) from None

    def _loader(self) -> Any:  # noqa: ANN401
        kube_config = _library().config.kube_config
        merger = kube_config.KubeConfigMerger(self._files)
        names = list(_context_names(merger.config))
        wanted = self._access.context or merger.config.safe_get("current-context")
        if wanted not in names:
            why = f"no context {wanted!r}" if wanted else "no current-context"
            there = f"it has {', '.join(names)}" if names else "it has none"
            raise ConfigError(f"kubeconfig {self._files}: {why}, {there}; give --context NAME")
        return kube_config.KubeConfigLoader(
            config_dict=merger.config,
            active_context=wanted,
            config_base_path=None,
            config_persister=merger.save_changes,
        )

    def _failure(self, error: Exception) -> SourceError | ConfigError:
        if isinstance(error, ConfigError):
            return error
        if isinstance(error, FileNotFoundError) and not self._access.in_cluster:
            return IdentityError(f"{self._where}: {error.filename} is not there; install it")
        if str(error).startswith("exec:"):
            return IdentityError(f"{self._where}: {error}; run the plugin by hand to see why")
        if isinstance(error, _MALFORMED) or "onfig" in type(error).__name__:
            return ConfigError(f"{self._where}: {_one_line(error)}; `kubectl config view` shows it")
        return IdentityError(f"{self._where}: {type(error).__name__}: {_one_line(error)}")


_MALFORMED: Final = (
    *(yaml.YAMLError, AssertionError, AttributeError, KeyError, TypeError, ValueError, OSError),
)


def _library() -> Any:  # noqa: ANN401
    """Import kubernetes_asyncio, which takes 0.3 s and 40 MB: for those who need it."""
    import kubernetes_asyncio  # noqa: PLC0415

    logging.getLogger("kubernetes_asyncio").setLevel(logging.CRITICAL)  # we say it ourselves
    return kubernetes_asyncio


def _context_names(config: Any) -> Iterator[str]:  # noqa: ANN401
    for each in config["contexts"].value:
        yield each.value["name"] if hasattr(each, "value") else each["name"]


def _fingerprint(cluster: Any, file: str) -> str:  # noqa: ANN401
    embedded = cluster.safe_get("certificate-authority-data")
    if embedded:
        return hashlib.sha256(base64.b64decode(embedded)).hexdigest()
    path = cluster.safe_get("certificate-authority")
    if not path:
        return ""
    with open(os.path.join(os.path.dirname(cluster.path or file), path), "rb") as ca:
        return hashlib.sha256(ca.read()).hexdigest()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
