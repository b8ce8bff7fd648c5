"""Every error of mcsdns, in one tree.

McsdnsError                 root: whatever we raise on purpose
├── InvalidNameError         a domain name that RFC 1035 does not allow
├── MessageError            a DNS message we cannot serve; carries the rcode to reply with
├── ObjectError             a Kubernetes object that does not have the documented shape
├── ConfigError             a setting that is unknown, badly written or impossible
│   └── NoSourceError       nothing says where objects come from
├── SourceError             a source that cannot be read at all
│   ├── IdentityError       (sources/identity) we cannot say who we are to an API server now
│   ├── ApiError            (sources/cluster) an API server that cannot be asked, or refuses
│   └── SnapshotError       (sources/snapshot) a snapshot that is not to be believed
├── CasesError              a file of test cases that cannot be understood
├── NoReplyError            a server that was asked and did not answer
└── ReplyError              a server's reply that is no DNS message
    └── MalformedReplyError  it answers the question, and its records cannot be read
"""


class McsdnsError(Exception):
    """Root of all errors raised on purpose."""


class InvalidNameError(McsdnsError):
    """A domain name breaks a limit of RFC 1035, section 2.3.4, or is badly escaped."""


class MessageError(McsdnsError):
    """A peer's message that gets an error reply.

    Attributes:
        rcode: the response code to send.
        question_bytes: length of the question section when it was whole, else 0; the reply
            repeats that many bytes.
        edns: whether an OPT record was seen, so that the reply carries one.
    """

    def __init__(
        self, rcode: int, why: str, question_bytes: int = 0, *, edns: bool = False
    ) -> None:
        super().__init__(why)
        self.rcode = rcode
        self.question_bytes = question_bytes
        self.edns = edns


class ObjectError(McsdnsError):
    """An object has a field of the wrong type or lacks one that is needed.

    Attributes:
        path: the field, as `$.spec.ports[0].port`.
    """

    def __init__(self, why: str, path: str = "$") -> None:
        super().__init__(why)
        self.path = path


class ConfigError(McsdnsError):
    """A setting is unknown, has a bad value, or asks for what cannot be had; exit status 2."""


class NoSourceError(ConfigError):
    """Neither manifests nor an API server are named, and none is where one usually is."""


class SourceError(McsdnsError):
    """A source of objects cannot be read; says where and what to do."""


class CasesError(McsdnsError):
    """A file of test cases is not of the documented form; says where."""


class NoReplyError(McsdnsError):
    """A server that was asked did not answer; says how it was asked and what to look at."""


class ReplyError(McsdnsError):
    """What a server sent is no well-formed DNS message; says where it breaks."""


class MalformedReplyError(ReplyError):
    """A server's reply to what it was asked cannot be read; says where it breaks."""
