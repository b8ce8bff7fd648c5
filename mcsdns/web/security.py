"""What stands between the status page and other sites' pages in the same browser.

Such a page may let a name of its own resolve to this address (DNS rebinding) and then read what is
served here as its own: the Host header is checked. And without reading the answers, it may request
what is costly: requests that a browser labels as another site's are refused.
"""

from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from mcsdns.dns import ip

_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
"""page.js makes no trusted types, so the browser itself refuses what `innerHTML` would insert."""
HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def protect(app: web.Application) -> None:
    """Guard everything that an application serves."""
    app.middlewares.append(_guard)
    app.on_response_prepare.append(_add_headers)


def is_own_host(host: str) -> bool:
    """Return whether a Host header names this server: an IP address, or `localhost`.

    No name service decides where these lead.
    """
    name = host.lower()
    try:
        address, _, is_bracketed = ip.split_port(name)
        ip.pack(address)
    except ValueError:
        return name.partition(":")[0] == "localhost"
    return is_bracketed is (":" in address)


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    host = request.headers.get("Host", "")
    if not is_own_host(host):
        raise web.HTTPForbidden(
            text=f"Host {host!r} is not this server; ask by IP address or as localhost, "
            "for instance through kubectl port-forward\n"
        )
    if _is_of_another_page(request):
        raise web.HTTPForbidden(text="asked by another site's page; open this one by itself\n")
    return await handler(request)


def _is_of_another_page(request: web.Request) -> bool:
    """Return whether a page of another origin sent the request, and not to show ours whole."""
    site = request.headers.get("Sec-Fetch-Site", "none")
    return site not in {"none", "same-origin"} and (
        request.headers.get("Sec-Fetch-Dest") != "document"
    )


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
