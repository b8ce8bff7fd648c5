"""Who we are to an API server: kubeconfigs, exec plugins, a pod's service account."""

import asyncio
import base64
import gc
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from mcsdns.errors import ConfigError, SourceError
from mcsdns.sources.kubernetes import auth
from mcsdns.sources.kubernetes.auth import Access, Identity, IdentityError, has_kubeconfig
from tests.certificates import Authority, authority
from tests.secured import Plain, assert_silent, config_of, lacks, silent, written
from tests.waiting import DEADLINE_S, until

__all__ = ["authority", "silent"]
pytestmark = pytest.mark.usefixtures("silent")

SERVER = "https://api.example:6443"
TOKEN = "hush-token"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with nothing in it, outside of any cluster."""
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(auth, "DEFAULT_KUBECONFIG", "~/.kube/config")
    return tmp_path / "home"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "some" / "config"


def access(path: Path | str, context: str = "") -> Access:
    return Access(kubeconfig=str(path), context=context)


def wrong(given: Access) -> ConfigError:
    """What is wrong before anything is asked."""
    with pytest.raises(ConfigError) as caught:
        Identity(given)
    assert_silent(caught.value)
    return caught.value


async def failure(given: Access) -> SourceError | ConfigError:
    """What is wrong when a configuration is wanted."""
    made = Identity(given)
    with pytest.raises((SourceError, ConfigError)) as caught:
        await made.configuration()
    assert_silent(caught.value)
    return caught.value


async def token_of(given: Access) -> str:
    made = await Identity(given).configuration()
    return str(await made.get_api_key_with_prefix("BearerToken")).strip()


def read(path: str | Path) -> bytes:
    return Path(path).read_bytes()


def merged(*configs: Plain, current: str = "") -> Plain:
    """Several contexts in one file."""
    whole: Plain = {"apiVersion": "v1", "kind": "Config"}
    for key in ("clusters", "users", "contexts"):
        whole[key] = [each for one in configs for each in one[key]]
    return whole | ({"current-context": current} if current else {})


EU = config_of("https://eu.example", user={"token": "hush-eu"}, name="eu")
US = config_of("https://us.example/", user={"token": "hush-us"}, name="us")


# Contexts.


@pytest.mark.parametrize(
    ("current", "context", "expected"),
    [
        ("eu", "", "https://eu.example"),
        ("us", "", "https://us.example"),
        ("eu", "us", "https://us.example"),
        ("", "us", "https://us.example"),
        ("nowhere", "eu", "https://eu.example"),
    ],
)
async def test_context_is_the_one_that_is_named(
    config: Path, current: str, context: str, expected: str
) -> None:
    given = access(written(config, merged(EU, US, current=current)), context)
    assert Identity(given).place.url == expected
    assert await token_of(given) == f"Bearer hush-{expected[8:10]}"


def test_context_that_is_not_there_lists_those_that_are(config: Path) -> None:
    error = wrong(access(written(config, merged(EU, US, current="eu")), "asia"))
    assert not lacks(error, str(config), "'asia'", "eu", "us", "--context")


@pytest.mark.parametrize(
    ("current", "expected"), [("", "no current-context"), ("gone", "no context 'gone'")]
)
def test_current_context_that_is_not_there(config: Path, current: str, expected: str) -> None:
    error = wrong(access(written(config, merged(EU, US, current=current))))
    assert not lacks(error, str(config), expected, "eu", "us", "--context")


def test_kubeconfig_without_contexts(config: Path) -> None:
    empty = {"clusters": [], "users": [], "contexts": [], "current-context": ""}
    assert not lacks(wrong(access(written(config, empty))), str(config), "none")
    assert not lacks(wrong(access(written(config, {"kind": "Config"}))), str(config), "none")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"clusters": []}, ["the cluster 'test'"]),
        ({"clusters": None}, ["the cluster 'test'"]),
        ({"clusters": [{"name": "test", "cluster": {}}]}, ["server"]),
        ({"clusters": [{"name": "test", "cluster": {"server": None}}]}, ["server"]),
        ({"clusters": [{"name": "test"}]}, ["cluster"]),
        ({"contexts": [{"name": "test"}]}, ["context"]),
        ({"contexts": [{"name": "test", "context": {"user": "test"}}]}, ["cluster"]),
        ({"contexts": [{"context": {"cluster": "test"}}]}, ["name"]),
        ({"contexts": "test"}, []),
        ({"contexts": {"test": {}}}, []),
    ],
)
def test_kubeconfig_that_lacks_something(config: Path, changed: Plain, words: list[str]) -> None:
    error = wrong(access(written(config, config_of(SERVER, user={"token": TOKEN}) | changed)))
    assert not lacks(error, str(config), *words)


# Files.


@pytest.mark.parametrize("text", ["a: [", "{", "a: b: c", "\t", "\x00"])
def test_kubeconfig_that_is_no_yaml(config: Path, text: str) -> None:
    assert not lacks(wrong(access(written(config, text))), str(config))


@pytest.mark.parametrize("text", ["", "---\n", "[]", "- a\n", "5", "only text"])
def test_kubeconfig_that_is_no_mapping(config: Path, text: str) -> None:
    assert not lacks(wrong(access(written(config, text))), str(config))


@pytest.mark.parametrize("text", ["", "[]", "only text"])
def test_kubeconfig_that_is_no_mapping_is_told_in_words(config: Path, text: str) -> None:
    error = str(wrong(access(written(config, text))))
    assert not [word for word in ("NoneType", "indices", "'str' object") if word in error]


def test_kubeconfig_that_is_no_utf8(config: Path) -> None:
    config.parent.mkdir()
    config.write_bytes(b"a: \xff\xfe")
    assert not lacks(wrong(access(config)), str(config))


def test_kubeconfig_that_is_a_folder(config: Path) -> None:
    config.mkdir(parents=True)
    assert not lacks(wrong(access(config)), str(config))


def test_missing_kubeconfig_says_what_to_give(config: Path) -> None:
    error = wrong(access(config))
    assert not lacks(error, str(config), "no such file", "--kubeconfig", "--manifests")


def test_missing_default_kubeconfig() -> None:
    assert not has_kubeconfig()
    assert not lacks(wrong(Access()), "~/.kube/config", "--kubeconfig")


def test_default_kubeconfig_is_that_of_kubectl(home: Path) -> None:
    written(home / ".kube" / "config", config_of(SERVER))
    assert has_kubeconfig()
    assert Identity(Access()).place.url == SERVER


def test_kubeconfig_given_outranks_the_environment(
    config: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(written(home / "other", EU)))
    assert has_kubeconfig()
    assert Identity(Access()).place.url == "https://eu.example"
    assert Identity(access(written(config, config_of(SERVER)))).place.url == SERVER


async def test_kubeconfig_of_two_files_is_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = written(tmp_path / "one" / "config", EU)
    two = written(tmp_path / "two" / "config", merged(US))
    monkeypatch.setenv("KUBECONFIG", f"{one}:{tmp_path / 'none'}::{two}")
    assert Identity(Access()).place.url == "https://eu.example"
    assert await token_of(Access(context="us")) == "Bearer hush-us"
    assert not lacks(wrong(Access(context="asia")), str(one), str(two), "eu", "us")


async def test_context_cluster_and_user_may_be_in_different_files(tmp_path: Path) -> None:
    one = written(tmp_path / "one", {**EU, "users": [], "clusters": []})
    two = written(tmp_path / "two", {"users": EU["users"]})
    three = written(tmp_path / "three", {"clusters": EU["clusters"]})
    given = access(f"{one}:{two}:{three}")
    assert Identity(given).place.url == "https://eu.example"
    assert await token_of(given) == "Bearer hush-eu"


@pytest.mark.parametrize("text", ["", "[]", "a: ["])
def test_second_file_that_is_wrong_is_told(tmp_path: Path, text: str) -> None:
    one, two = written(tmp_path / "one", EU), written(tmp_path / "two", text)
    assert not lacks(wrong(access(f"{one}:{two}")), str(two))


async def test_home_is_found_in_paths(home: Path) -> None:
    written(home / "config", EU)
    assert await token_of(access("~/config")) == "Bearer hush-eu"


# The authority of the API server.


def test_authority_is_known_by_its_file_or_its_data(config: Path, authority: Authority) -> None:
    expected = hashlib.sha256(authority.ca.cert.read_bytes()).hexdigest()
    written(config.parent / "pki" / "ca.crt", authority.ca.cert.read_text())
    for cluster in (
        {"certificate-authority": str(authority.ca.cert)},
        {"certificate-authority": "pki/ca.crt"},
        {"certificate-authority": "./pki/../pki/ca.crt"},
        {"certificate-authority-data": authority.ca.cert_data},
        {"certificate-authority-data": authority.ca.cert_data, "certificate-authority": "none"},
    ):
        given = access(written(config, config_of(SERVER, cluster)))
        assert Identity(given).place.ca_fingerprint == expected
    assert Identity(access(written(config, config_of(SERVER)))).place.ca_fingerprint == ""


def test_relative_path_is_that_of_its_own_file(tmp_path: Path, authority: Authority) -> None:
    written(tmp_path / "two" / "ca.crt", authority.ca.cert.read_text())
    second = config_of(SERVER, {"certificate-authority": "ca.crt"})
    one = written(tmp_path / "one" / "config", EU)
    two = written(tmp_path / "two" / "config", second)
    assert Identity(access(f"{one}:{two}", "test")).place.ca_fingerprint


def test_missing_authority_file_is_told(config: Path) -> None:
    cluster = {"certificate-authority": "missing.crt"}
    error = wrong(access(written(config, config_of(SERVER, cluster))))
    assert not lacks(error, str(config), str(config.parent / "missing.crt"))
    assert "install" not in str(error)


@pytest.mark.parametrize("text", ["abc", "é"])
def test_authority_data_that_is_no_base64_is_told(config: Path, text: str) -> None:
    cluster = {"certificate-authority-data": text}
    error = wrong(access(written(config, config_of(SERVER, cluster))))
    assert not lacks(error, str(config), "certificate-authority-data")


# Users.


async def test_token_of_a_user(config: Path) -> None:
    given = access(written(config, config_of(SERVER, user={"token": TOKEN})))
    assert await token_of(given) == f"Bearer {TOKEN}"


async def test_token_of_a_file_is_read_each_time(config: Path) -> None:
    given = access(written(config, config_of(SERVER, user={"tokenFile": "token"})))
    for number in range(3):
        written(config.parent / "token", f"{TOKEN}-{number}\n")
        assert await token_of(given) == f"Bearer {TOKEN}-{number}"


async def test_token_outranks_a_token_file(config: Path) -> None:
    user = {"token": TOKEN, "tokenFile": "missing"}
    assert await token_of(access(written(config, config_of(SERVER, user=user)))) == (
        f"Bearer {TOKEN}"
    )


async def test_missing_token_file_is_named(config: Path) -> None:
    error = await failure(access(written(config, config_of(SERVER, user={"tokenFile": "gone"}))))
    assert not lacks(error, str(config), str(config.parent / "gone"))


async def test_user_and_password(config: Path) -> None:
    user = {"username": "me", "password": "hush"}
    encoded = base64.b64encode(b"me:hush").decode()
    assert await token_of(access(written(config, config_of(SERVER, user=user)))) == (
        f"Basic {encoded}"
    )


async def test_client_certificate_of_files_and_of_data(config: Path, authority: Authority) -> None:
    client = authority.client("mcsdns")
    for user in (
        {"client-certificate": str(client.cert), "client-key": str(client.key)},
        {"client-certificate-data": client.cert_data, "client-key-data": client.key_data},
    ):
        given = access(written(config, config_of(SERVER, user=user)))
        made = await Identity(given).configuration()
        assert (read(made.cert_file), read(made.key_file)) == (read(client.cert), read(client.key))


@pytest.mark.parametrize("missing", ["client-certificate", "client-key"])
async def test_missing_client_certificate_is_named(
    config: Path, authority: Authority, missing: str
) -> None:
    client = authority.client("mcsdns")
    user = {"client-certificate": str(client.cert), "client-key": str(client.key)}
    user[missing] = "gone.pem"
    error = await failure(access(written(config, config_of(SERVER, user=user))))
    assert not lacks(error, str(config), str(config.parent / "gone.pem"))


@pytest.mark.parametrize("users", [None, [], [{"name": "other", "user": {"token": TOKEN}}]])
def test_user_that_is_not_there_is_named(config: Path, users: list[Plain] | None) -> None:
    given = access(written(config, config_of(SERVER) | {"users": users}))
    assert not lacks(wrong(given), str(config), "the user 'test'")


async def test_context_without_a_user_is_nobody(config: Path) -> None:
    context = {"name": "test", "context": {"cluster": "test"}}
    given = access(written(config, config_of(SERVER) | {"users": [], "contexts": [context]}))
    made = await Identity(given).configuration()
    assert await made.get_api_key_with_prefix("BearerToken") is None


# OpenID Connect.


class Renewing:
    """Stands in for the client of an issuer, which gives other tokens each time."""

    def __init__(self, *_: object) -> None:
        pass

    async def refresh_token(self, refresh: str) -> dict[str, str]:
        return {"id_token": f"id-for-{refresh}", "refresh_token": f"{refresh}-again"}


async def test_renewed_tokens_are_used_and_stand_in_their_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubernetes_asyncio.config import kube_config

    monkeypatch.setattr(kube_config, "OpenIDRequestor", Renewing)
    settings = dict.fromkeys(("client-id", "client-secret", "idp-issuer-url"), "some")
    provider = {"name": "oidc", "config": settings | {"refresh-token": "hush"}}
    document = config_of(SERVER, user={"auth-provider": provider})
    users = written(tmp_path / "users", {"users": document["users"]})
    others = written(tmp_path / "others", document | {"users": []})
    before = others.read_text()
    given = Access(kubeconfig=f"{others}:{users}")
    assert await token_of(given) == "Bearer id-for-hush"
    saved = yaml.safe_load(users.read_text())["users"][0]["user"]["auth-provider"]["config"]
    assert (saved["id-token"], saved["refresh-token"]) == ("id-for-hush", "hush-again")
    assert others.read_text() == before


# Secrets that stand in the wrong place.

OIDC = {"name": "oidc", "config": {"client-secret": "hush", "refresh-token": "hush"}}
MISPLACED = [
    ("token beside its user", [{"name": "test", "token": TOKEN}]),
    ("OIDC without an issuer", [{"name": "test", "user": {"auth-provider": OIDC}}]),
    ("null beside a password", [{"name": "test", "user": {"token": None, "password": "hush"}}]),
    ("password without a name",
     [{"name": "test", "user": {"password": "hush", "username": None}}]),
    ("token in a map", [{"name": "test", "user": {"token": {"value": "hush"}}}]),
    ("a user that is text", [f"name={TOKEN}"]),
]  # fmt: skip


@pytest.mark.parametrize("users", [pytest.param(users, id=why) for why, users in MISPLACED])
async def test_no_error_tells_a_secret(config: Path, users: list[Any]) -> None:
    given = access(written(config, config_of(SERVER) | {"users": users}))
    try:
        await Identity(given).configuration()
    except (SourceError, ConfigError) as error:
        assert_silent(error)


def test_no_error_tells_the_password_of_a_proxy(config: Path) -> None:
    cluster = {"proxy-url": "http://me:hush@proxy.example", "server": None}
    assert_silent(wrong(access(written(config, config_of(SERVER, cluster)))))


@pytest.mark.parametrize(
    "text",
    ['users: [{name: a, user: {token: "hush\n', "a: hush: b", "token: hush\n\tb", "? hush",
     "users: hush", "users: [hush]", "current-context: [hush]", "- hush"],
)  # fmt: skip
def test_no_syntax_error_tells_a_secret(config: Path, text: str) -> None:
    assert_silent(wrong(access(written(config, text))))


# Exec plugins.


def plugin(folder: Path, script: str, **given: Any) -> Plain:
    """A user by a plugin that is a shell script."""
    path = written(folder / "plugin", f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(path), **given}
    }


def credential(**status: Any) -> str:
    return json.dumps(
        {
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": status,
        }
    )


def plugged(config: Path, script: str, **given: Any) -> Access:
    return access(written(config, config_of(SERVER, user=plugin(config.parent, script, **given))))


async def test_plugin_gives_a_token(config: Path) -> None:
    config.parent.mkdir()
    assert await token_of(plugged(config, f"echo '{credential(token=TOKEN)}'")) == f"Bearer {TOKEN}"


async def test_plugin_is_told_arguments_and_environment(config: Path) -> None:
    config.parent.mkdir()
    script = f"""echo '{credential(token="hush")}' | sed "s/hush/hush-$1-$REGION/" """
    given = plugged(config, script, args=["eu"], env=[{"name": "REGION", "value": "west"}])
    assert await token_of(given) == "Bearer hush-eu-west"


async def test_plugin_gives_a_certificate(config: Path, authority: Authority) -> None:
    config.parent.mkdir()
    client = authority.client("plugged")
    shown = credential(
        clientCertificateData=client.cert.read_text(), clientKeyData=client.key.read_text()
    )
    answer = written(config.parent / "answer", shown)
    made = await Identity(plugged(config, f"cat {answer}")).configuration()
    assert (read(made.cert_file), read(made.key_file)) == (read(client.cert), read(client.key))


async def test_plugin_is_asked_for_each_configuration(config: Path) -> None:
    config.parent.mkdir()
    script = f"""echo x >> "$0.runs"
    echo '{credential(token="hush")}' | sed "s/hush/hush-$(wc -l < "$0.runs" | tr -d ' ')/" """
    given = plugged(config, script)
    assert [await token_of(given) for _ in range(3)] == [f"Bearer hush-{n}" for n in (1, 2, 3)]


async def test_plugin_that_fails_is_quoted(config: Path) -> None:
    config.parent.mkdir()
    error = await failure(plugged(config, "echo 'sign in first' >&2; echo hush-out; exit 7"))
    assert isinstance(error, IdentityError)
    assert not lacks(error, str(config), "7", "sign in first", "by hand")


@pytest.mark.parametrize(
    "script",
    ["echo nonsense hush", "true", "echo '[]'", "echo '{\"token\": \"hush\"}'",
     "printf '\\377'", f"echo '{credential(token=TOKEN)}' | sed s/v1/v9/"],
)  # fmt: skip
async def test_plugin_that_prints_nonsense(config: Path, script: str) -> None:
    config.parent.mkdir()
    error = await failure(plugged(config, script))
    assert not lacks(error, str(config))


@pytest.mark.parametrize(
    "script",
    [f"echo '{credential(tokn='hush')}'", f"echo '{credential()}'", "echo 5", "echo null",
     f"echo '{credential(clientCertificateData='x')}'"],
)  # fmt: skip
async def test_plugin_that_gives_nothing_is_told(config: Path, script: str) -> None:
    config.parent.mkdir()
    error = await failure(plugged(config, script))
    assert not lacks(error, str(config), "exec", "plugin")


async def test_plugin_that_says_several_lines_on_its_way_out(config: Path) -> None:
    config.parent.mkdir()
    error = await failure(plugged(config, "printf 'one\\ntwo\\n' >&2; exit 3"))
    assert not lacks(error, str(config), "3")


async def test_missing_plugin_is_named(config: Path) -> None:
    config.parent.mkdir()
    given = plugged(config, "true")
    (config.parent / "plugin").unlink()
    error = await failure(given)
    assert isinstance(error, IdentityError)
    assert not lacks(error, str(config), str(config.parent / "plugin"), "install")


async def test_plugin_that_may_not_be_run(config: Path) -> None:
    config.parent.mkdir()
    given = plugged(config, "true")
    (config.parent / "plugin").chmod(0o600)
    error = await failure(given)
    assert not lacks(error, str(config), str(config.parent / "plugin"))


@pytest.mark.parametrize("missing", ["command", "apiVersion"])
async def test_plugin_of_half_a_setting(config: Path, missing: str) -> None:
    config.parent.mkdir()
    user = plugin(config.parent, "true")
    del user["exec"][missing]
    error = await failure(access(written(config, config_of(SERVER, user=user))))
    assert not lacks(error, str(config), missing)


def hanging(config: Path) -> Access:
    """By a plugin that goes on until a file is there, and gives a token then."""
    config.parent.mkdir()
    os.mkfifo(config.parent / "plugin.go")
    return plugged(
        config, f"""echo x >> "$0.runs"; cat "$0.go"; echo '{credential(token=TOKEN)}'"""
    )


async def test_plugin_that_hangs_goes_on_and_is_not_started_twice(config: Path) -> None:
    given = hanging(config)
    made = Identity(given)
    made.load_limit_s = 0.1
    for _ in range(3):
        with pytest.raises(IdentityError) as caught:
            await made.configuration()
        assert not lacks(caught.value, str(config), "0.1 s")
    made.load_limit_s = DEADLINE_S
    await until((config.parent / "plugin.runs").exists)
    await asyncio.to_thread((config.parent / "plugin.go").write_text, "")
    shown = await (await made.configuration()).get_api_key_with_prefix("BearerToken")
    assert shown == f"Bearer {TOKEN}"
    assert (config.parent / "plugin.runs").read_text() == "x\n"


async def test_plugin_that_hangs_at_the_end_is_not_waited_for(config: Path) -> None:
    made = Identity(hanging(config))
    made.load_limit_s = 0.1
    with pytest.raises(IdentityError):
        await made.configuration()
    await until((config.parent / "plugin.runs").exists)
    made.close()
    await asyncio.to_thread((config.parent / "plugin.go").write_text, "")
    await until(lambda: len(asyncio.all_tasks()) == 1)
    gc.collect()  # what was left open warns


# A pod.


@pytest.fixture
def pod(tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a service account, and the environment of a pod."""
    from kubernetes_asyncio.config import incluster_config

    folder = tmp_path / "serviceaccount"
    written(folder / "token", TOKEN)
    written(folder / "ca.crt", authority.ca.cert.read_text())
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(folder / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(folder / "ca.crt"))
    monkeypatch.setattr(auth, "SERVICE_ACCOUNT_CA", str(folder / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return folder


IN_CLUSTER = Access(in_cluster=True)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("10.0.0.1", "https://10.0.0.1:443"), ("fd00::1", "https://[fd00::1]:443")],
)
async def test_pod_knows_where_its_api_server_is(
    pod: Path, monkeypatch: pytest.MonkeyPatch, host: str, expected: str
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    place = Identity(IN_CLUSTER).place
    digest = hashlib.sha256((pod / "ca.crt").read_bytes()).hexdigest()
    assert (place.url, place.ca_fingerprint) == (expected, digest)
    assert await token_of(IN_CLUSTER) == f"Bearer {TOKEN}"


async def test_pod_needs_no_kubeconfig_and_takes_none(pod: Path, home: Path) -> None:
    written(home / ".kube" / "config", "not a kubeconfig")
    assert await token_of(IN_CLUSTER) == f"Bearer {TOKEN}"


@pytest.mark.parametrize("name", ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"])
@pytest.mark.parametrize("value", [None, ""])
def test_outside_of_a_pod(
    pod: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    assert not lacks(wrong(IN_CLUSTER), "--in-cluster", "--kubeconfig")


def test_pod_without_an_authority(pod: Path) -> None:
    (pod / "ca.crt").unlink()
    error = wrong(IN_CLUSTER)
    assert not lacks(error, "--in-cluster", str(pod / "ca.crt"), "automountServiceAccountToken")


@pytest.mark.parametrize("name", ["token", "ca.crt"])
@pytest.mark.parametrize("text", [None, ""])
async def test_service_account_that_goes_is_told(pod: Path, name: str, text: str | None) -> None:
    error = await gone(pod / name, text)
    assert not lacks(error, "--in-cluster", "oken file" if name == "token" else "ert")
    assert "kube" not in str(error).removeprefix(str(pod))


def take_away(path: Path, text: str | None) -> None:
    path.unlink() if text is None else path.write_text(text)


async def gone(path: Path, text: str | None) -> SourceError | ConfigError:
    """What is wrong once a file of the pod is away, or has this text."""
    made = Identity(IN_CLUSTER)
    take_away(path, text)
    with pytest.raises((SourceError, ConfigError)) as caught:
        await made.configuration()
    assert_silent(caught.value)
    return caught.value
