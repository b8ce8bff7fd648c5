"""Certificates for tests, made by the `openssl` command: an authority, servers, clients.

Without that command the tests that need them are skipped, and say so.
"""

import base64
import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

OPENSSL = shutil.which("openssl")
_CA_CONFIG = """
[authority]
database = {folder}/index.txt
serial = {folder}/serial
new_certs_dir = {folder}
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
"""


@dataclass(frozen=True)
class Certificate:
    """A certificate and its private key, as PEM files."""

    cert: Path
    key: Path

    @property
    def cert_data(self) -> str:
        """The certificate as kubeconfigs embed it."""
        return base64.b64encode(self.cert.read_bytes()).decode()

    @property
    def key_data(self) -> str:
        return base64.b64encode(self.key.read_bytes()).decode()

    @property
    def key_lines(self) -> list[str]:
        """The secret lines of the key."""
        return [each for each in self.key.read_text().splitlines() if "-" not in each]


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path, name: str = "an authority") -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.txt").touch()
        (folder / "serial").write_text("01\n")
        (folder / "ca.cnf").write_text(_CA_CONFIG.format(folder=folder))
        self.ca = Certificate(folder / "ca.crt", folder / "ca.key")
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", f"/CN={name}", "-days", "30"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *("-keyout", str(self.ca.key), "-out", str(self.ca.cert)),
        )

    def server(
        self, *names: str, begins: str = "20200101000000Z", ends: str = "20991231000000Z"
    ) -> Certificate:
        """Make a certificate for names as `DNS:localhost`, `IP:127.0.0.1`."""
        extensions = [f"subjectAltName={','.join(names)}", "extendedKeyUsage=serverAuth"]
        return self._issue("server", extensions, begins, ends)

    def expired_server(self, *names: str) -> Certificate:
        return self.server(*names, ends="20200102000000Z")

    def client(self, name: str) -> Certificate:
        """Make a certificate for a user."""
        extensions = ["extendedKeyUsage=clientAuth"]
        return self._issue(name, extensions, "20200101000000Z", "20991231000000Z")

    def _issue(self, name: str, extensions: list[str], begins: str, ends: str) -> Certificate:
        number = int((self._folder / "serial").read_text(), 16)
        stem = self._folder / f"{number}-{name}"
        made = Certificate(stem.with_suffix(".crt"), stem.with_suffix(".key"))
        request, extension_file = stem.with_suffix(".csr"), stem.with_suffix(".ext")
        _openssl(
            *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", f"/CN={name}", "-keyout", str(made.key), "-out", str(request)),
        )
        common = [
            "basicConstraints=critical,CA:FALSE",
            "keyUsage=critical,digitalSignature",
            "subjectKeyIdentifier=hash",
            "authorityKeyIdentifier=keyid",
        ]
        extension_file.write_text("\n".join([*common, *extensions]) + "\n")
        _openssl(
            *("ca", "-batch", "-notext", "-config", str(self._folder / "ca.cnf")),
            *("-name", "authority", "-cert", str(self.ca.cert), "-keyfile", str(self.ca.key)),
            *("-startdate", begins, "-enddate", ends, "-extfile", str(extension_file)),
            *("-in", str(request), "-out", str(made.cert)),
        )
        return made

    def server_context(
        self, certificate: Certificate, *, ask_client: bool = False
    ) -> ssl.SSLContext:
        """A context for a server that, if told so, asks clients for a certificate of ours."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.cert, certificate.key)
        if ask_client:
            context.load_verify_locations(self.ca.cert)
            context.verify_mode = ssl.CERT_OPTIONAL
        return context


def _openssl(*arguments: str) -> None:
    assert OPENSSL
    done = subprocess.run([OPENSSL, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"openssl {arguments[0]}: {done.stderr}"


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority of this run; import it into a module of tests."""
    if not OPENSSL:
        pytest.skip("no `openssl` on the PATH to make certificates with: install OpenSSL")
    return Authority(tmp_path_factory.mktemp("authority"))
