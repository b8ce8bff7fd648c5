from collections.abc import Callable

import pytest

from tests.diagnostics.explain.shop_world import SHOP, Explained


@pytest.fixture
def make_world() -> Callable[..., Explained]:
    return lambda text=SHOP, **settings: Explained(text, **settings)


@pytest.fixture
def shop() -> Explained:
    return Explained(SHOP)
