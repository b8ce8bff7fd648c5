"""How `aiohttp` runs a server of tests: every request goes to one coroutine."""

from collections.abc import Awaitable, Callable

from aiohttp import web

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def runner_of(handle: Handle) -> web.AppRunner:
    """A server that listens nowhere yet; what it handles ends when the client goes away."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(
        application, handler_cancellation=True, shutdown_timeout=0.1, access_log=None
    )
    await runner.setup()
    return runner
