"""When changes are believed, told by looks at a clock of our own."""

import pytest

from mcsdns.sources.manifests.documents import FileState
from mcsdns.sources.manifests.source import Debounce, PendingChanges

DEBOUNCE = Debounce(still_s=1, gone_s=5, restless_s=20)
ONE, TWO, THREE, FOUR = (FileState(1, 1, time, time, 1) for time in range(4))
GONE = None
AS_READ = "as it was read"

LOOKS: list[tuple[str, list[tuple[float, FileState | str | None, bool]]]] = [
    # what the file is at which time, and whether it is believed
    ("still", [(0, ONE, False), (0.5, ONE, False), (1, ONE, True)]),
    ("changing", [(0, ONE, False), (0.9, TWO, False), (1.8, TWO, False), (2, TWO, True)]),
    ("gone", [(0, GONE, False), (4, GONE, False), (5, GONE, True)]),
    ("back", [(0, GONE, False), (4, TWO, False), (5, TWO, True)]),
    ("back as it was", [(0, GONE, False), (4, AS_READ, False), (4.5, GONE, False), (9, GONE, False),
                        (9.5, GONE, True)]),
    ("gone and back", [(0, ONE, False), (0.5, GONE, False), (1.5, ONE, False), (2.5, ONE, True)]),
    ("restless", [(0, ONE, False), (19.8, TWO, False), (19.9, THREE, False), (20, FOUR, True)]),
]  # fmt: skip


@pytest.mark.parametrize("looks", [looks for _, looks in LOOKS], ids=[name for name, _ in LOOKS])
def test_change_is_believed_once_it_lasts(
    looks: list[tuple[float, FileState | str | None, bool]],
) -> None:
    pending = PendingChanges(DEBOUNCE)
    for now, state, believed in looks:
        changes = {} if isinstance(state, str) else {"a.yaml": state}
        assert pending.look(changes, now) == (changes if believed else {}), now


def test_files_are_believed_one_by_one() -> None:
    pending = PendingChanges(DEBOUNCE)
    assert pending.look({"a": ONE, "b": ONE}, 0) == {}
    assert pending.look({"a": ONE, "b": TWO}, 1) == {"a": ONE}


def test_restless_file_begins_anew_once_it_was_read() -> None:
    pending = PendingChanges(DEBOUNCE)
    pending.look({"a": ONE}, 0)
    assert not pending.is_restless("a", 19)
    assert pending.is_restless("a", 20)
    pending.done("a")
    assert not pending.is_restless("a", 21)
    assert pending.look({"a": TWO}, 21) == {}
