"""A short run of each target, bounded by its number of inputs; `make fuzz` has the long one."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.inputs import inputs_of, seeds_of
from tests.fuzz.targets import TARGETS
from tests.profiles import examples


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    assert seeds_of(name)
    for octets in seeds_of(name):
        TARGETS[name].run(octets)


@pytest.mark.parametrize("name", TARGETS)
@settings(examples(300), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_changed_seeds(name: str, data: st.DataObject) -> None:
    TARGETS[name].run(data.draw(inputs_of(name)))
