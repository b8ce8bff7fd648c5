"""Renders what `deploy/` holds, as kubectl and helm do."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy.build import RENDER
from tests.deploy.rendering import Renderer
from tests.gobuild import NotBuiltError


@pytest.fixture(scope="session")
def render() -> Renderer:
    try:
        return Renderer(RENDER.binary())
    except NotBuiltError as error:
        pytest.skip(str(error))


@pytest.fixture
def compose(render: Renderer, tmp_path: Path) -> Callable[..., list[dict[str, object]]]:
    """The objects of an overlay with components, as a user's own kustomization has them."""

    def build(overlay: str, *components: str) -> list[dict[str, object]]:
        return render.kustomize_with(tmp_path, overlay, components)

    return build
