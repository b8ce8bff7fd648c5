"""Why there is no answer: the Extended DNS Errors of our own (RFC 8914), and SERVFAIL with them."""

from typing import Final

from mcsdns.dns.types import EdeCode
from mcsdns.forward.render import Fitted, write_error_option
from mcsdns.forward.reply import failed_reply

TOO_MANY: Final = write_error_option(EdeCode.OTHER, "too many questions wait for upstreams")
SILENT: Final = write_error_option(EdeCode.NO_REACHABLE_AUTHORITY, "no upstream answered in time")
BROKEN: Final = write_error_option(EdeCode.NETWORK_ERROR, "no upstream can be reached")
NOBODY: Final = write_error_option(EdeCode.NETWORK_ERROR, "no upstream is known")
NO_TCP: Final = write_error_option(
    EdeCode.NETWORK_ERROR, "the upstream's reply needs TCP, which it does not answer on"
)
LOOP: Final = write_error_option(
    EdeCode.OTHER,
    "forwarding loop: what mcsdns sends upstream comes back to it; take the zone out of the other "
    "server's forward to mcsdns, or the other server out of --upstream",
)


def failure(errors: bytes) -> Fitted:
    """Return SERVFAIL with the errors."""
    return Fitted(failed_reply(errors))
