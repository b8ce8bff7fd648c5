"""What stands between the status page and other people's pages in the same browser.

A page elsewhere may have a name of its own point to this address (DNS rebinding) and then read
what we serve as its own; and it may ask, unread, for what costs us much. Both end here.
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
"""No policy makes trusted types, so the browser itself refuses what `innerHTML` would do."""
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


def is_own_host(host: str, configured: str = "") -> bool:
    """Return whether a Host header names this server: an address, `localhost`, or `configured`.

    No name service decides where these lead.
    """
    name = host.lower()
    if name.startswith("["):
        name, bracket, port = name[1:].partition("]")
        if not bracket or ":" not in name or (port and not port.startswith(":")):
            return False
    else:
        name = name.partition(":")[0]
    return name in {"localhost", configured.lower() or "localhost"} or _is_address(name)


def _is_address(text: str) -> bool:
    try:
        ip.pack(text)
    except ValueError:
        return False
    return True


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
