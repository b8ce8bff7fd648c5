"""How many examples hypothesis tries: HYPOTHESIS_PROFILE is quick, ci (the default) or long."""

import os
from typing import Final

from hypothesis import settings

_SHARES: Final = {"quick": 0.1, "ci": 1.0, "long": 50.0}
_DEFAULT: Final = 100
PROFILE: Final = os.environ.get("HYPOTHESIS_PROFILE", "ci")


def examples(number: int) -> settings:
    """Return settings for a test that tries so many examples in CI, fewer or more elsewhere.

    No example has a deadline: none may depend on how fast the machine is.
    """
    return settings(max_examples=max(1, round(number * _SHARES[PROFILE])), deadline=None)


for name in _SHARES:
    settings.register_profile(name, max_examples=round(_DEFAULT * _SHARES[name]), deadline=None)
settings.load_profile(PROFILE)
