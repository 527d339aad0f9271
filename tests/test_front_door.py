"""The names `import tocsin` offers."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tocsin as tc


@pytest.mark.parametrize("name", tc.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(tc, name) is not None


def test_the_list_of_homes_and_the_list_of_names_agree() -> None:
    assert {*tc._HOME_OF, *tc._ROOMS} == set(tc.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="tocsin has no 'Detecton'"):
        _ = tc.Detecton


def test_importing_tocsin_loads_no_compiler_and_no_frame() -> None:
    code = "import sys, tocsin; print([m for m in ('numba', 'polars', 'scipy', 'pandas') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
