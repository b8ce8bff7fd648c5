"""What both ways to an upstream count, and how they tell of errors."""

import msgspec


class Counts(msgspec.Struct, frozen=True):
    """An immutable snapshot of what came of questions to one upstream, over one transport.

    Attributes:
        sent: questions. received: replies that were taken.
        late: replies to what was answered or forgotten before. wrong: ids never asked.
        refused: the id was right, but the caller said that it is no reply to its question.
        errors: what failed below DNS.
    """

    sent: int
    received: int
    late: int
    wrong: int
    refused: int
    errors: int

    @property
    def dropped(self) -> int:
        """How many replies were not believed."""
        return self.late + self.wrong + self.refused


def text_of(error: OSError) -> str:
    """Return what an error says, without its number."""
    return error.strerror or str(error) or type(error).__name__
