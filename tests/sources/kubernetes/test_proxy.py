"""Which proxy leads to a URL, by the variables of the environment, as Go programs read them."""

import pytest

from mcsdns.sources.kubernetes.proxy import proxy_for

PROXY = "http://proxy.example:3128"
API = "https://api.eu.example:6443"


# Whether there is one.


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        (API, {}, None),
        (API, {"HTTPS_PROXY": PROXY}, PROXY),
        (API, {"https_proxy": PROXY}, PROXY),
        (API, {"HTTPS_PROXY": PROXY, "https_proxy": "http://other"}, PROXY),
        (API, {"HTTPS_PROXY": "", "https_proxy": PROXY}, PROXY),
        (API, {"HTTPS_PROXY": ""}, None),
        (API, {"HTTP_PROXY": PROXY}, None),
        (API, {"ALL_PROXY": PROXY}, None),
        ("http://api.example", {"HTTP_PROXY": PROXY}, PROXY),
        ("http://api.example", {"http_proxy": PROXY}, PROXY),
        ("http://api.example", {"HTTPS_PROXY": PROXY}, None),
        (API, {"HTTPS_PROXY": "proxy.example:3128"}, PROXY),
        (API, {"HTTPS_PROXY": "https://proxy.example"}, "https://proxy.example"),
        (API, {"HTTPS_PROXY": "http://me:hush@proxy.example"}, "http://me:hush@proxy.example"),
        ("https://10.0.0.1:6443", {"HTTPS_PROXY": PROXY}, PROXY),
        ("https://[fd00::1]:6443", {"HTTPS_PROXY": PROXY}, PROXY),
    ],
)
def test_proxy_is_that_of_the_scheme(
    url: str, environment: dict[str, str], expected: str | None
) -> None:
    assert proxy_for(url, environment) == expected


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "[::1]", "localhost:6443"]
)
def test_this_machine_has_none(host: str) -> None:
    assert proxy_for(f"https://{host}", {"HTTPS_PROXY": PROXY}) is None


def test_no_proxy_in_capitals_outranks_small_letters() -> None:
    environment = {"HTTPS_PROXY": PROXY, "NO_PROXY": "other.example", "no_proxy": "*"}
    assert proxy_for(API, environment) == PROXY
    assert proxy_for(API, environment | {"NO_PROXY": ""}) is None


# What NO_PROXY covers.

COVERED = [
    ("api.eu.example", API, True),
    ("other.example", API, False),
    ("api.eu.example.org", API, False),
    ("eu.example", API, True),
    ("example", API, True),
    ("u.example", API, False),
    (".eu.example", API, True),
    (".example", API, True),
    (".api.eu.example", API, False),
    ("*.eu.example", API, True),
    ("*.api.eu.example", API, False),
    ("*", API, True),
    ("other.example,*", API, True),
    ("**", API, False),
    ("a*", API, False),
    # case
    ("API.EU.Example", API, True),
    (".EU.EXAMPLE", API, True),
    ("eu.example", "https://API.EU.EXAMPLE:6443", True),
    # empty entries, blanks
    ("", API, False),
    (",", API, False),
    (" , ,", API, False),
    (".", API, False),
    ("*.", API, False),
    (".", "https://api.eu.example.", True),
    ("other.example, eu.example ", API, True),
    (",eu.example,", API, True),
    ("other.example eu.example", API, False),
    # ports
    ("api.eu.example:6443", API, True),
    ("api.eu.example:443", API, False),
    ("eu.example:6443", API, True),
    (".eu.example:6443", API, True),
    ("*.eu.example:6443", API, True),
    ("*.eu.example:443", API, False),
    (":6443", API, False),
    (":", API, False),
    ("api.eu.example:x", API, False),
    ("api.eu.example", "https://api.eu.example", True),
    ("api.eu.example:6443", "https://api.eu.example", False),
    # addresses
    ("10.0.0.1", "https://10.0.0.1:6443", True),
    ("10.0.0.1", "https://10.0.0.10:6443", False),
    ("10.0.0.1", "https://110.0.0.1:6443", False),
    ("10.0.0.1:6443", "https://10.0.0.1:6443", True),
    ("10.0.0.1:443", "https://10.0.0.1:6443", False),
    ("10.0.0.1", API, False),
    ("fd00::1", "https://[fd00::1]:6443", True),
    ("FD00:0:0::1", "https://[fd00::1]:6443", True),
    ("fd00::1", "https://[fd00::2]:6443", False),
    ("*", "https://10.0.0.1:6443", True),
    ("*", "https://[fd00::1]:6443", True),
    # networks
    ("10.0.0.0/8", "https://10.9.9.9:6443", True),
    ("10.1.2.3/8", "https://10.9.9.9:6443", True),
    ("10.0.0.0/24", "https://10.0.1.1:6443", False),
    ("192.168.0.0/16,10.0.0.0/8", "https://10.9.9.9:6443", True),
    ("0.0.0.0/0", "https://10.9.9.9:6443", True),
    ("0.0.0.0/0", "https://[fd00::1]:6443", False),
    ("fd00::/8", "https://[fd12::1]:6443", True),
    ("fd00::/64", "https://[fd12::1]:6443", False),
    ("::/0", "https://10.9.9.9:6443", False),
    ("10.0.0.0/33", "https://10.9.9.9:6443", False),
    ("10.0.0.0/8", API, False),
    ("api.eu.example:443", "https://api.eu.example", True),  # an absent port is the scheme's
    ("10.0.0.1:80", "http://10.0.0.1", True),
    ("[fd00::1]:6443", "https://[fd00::1]:6443", True),
    ("*example", API, False),  # a star stands before a dot only
]


@pytest.mark.parametrize(("entries", "url", "is_covered"), COVERED)
def test_no_proxy(entries: str, url: str, *, is_covered: bool) -> None:
    environment = {"HTTPS_PROXY": PROXY, "HTTP_PROXY": PROXY, "NO_PROXY": entries}
    assert (proxy_for(url, environment) is None) is is_covered
