"""What calls a pool, and what is asked."""

import random
from collections.abc import Callable

QUESTION = b"\0\0\1\0\0\1\0\0\0\0\0\0\3www\7example\0\0\1\0\1"
RNG = random.SystemRandom()


class Caller:
    """Asks, and notes what it is told."""

    def __init__(self) -> None:
        self.replies: list[tuple[int, bytes]] = []
        self.failed: list[tuple[int, str]] = []
        self.wrongs: list[bytes] = []
        self.then: Callable[[], object] = lambda: None

    def deliver(self, token: int, message: bytes, now_s: float) -> bool:
        if message[12:] != QUESTION[12:]:
            return False
        self.replies.append((token, message))
        self.then()
        return True

    def fail(self, token: int, why: str, now_s: float) -> None:
        self.failed.append((token, why))
        self.then()

    def wrong(self, datagram: bytes, now_s: float) -> None:
        self.wrongs.append(datagram)

    @property
    def tokens(self) -> list[int]:
        return sorted(token for token, _ in self.replies)

    @property
    def failed_tokens(self) -> list[int]:
        return sorted(token for token, _ in self.failed)

    @property
    def whys(self) -> set[str]:
        return {why for _, why in self.failed}
