"""The examples in the docstrings and in the user guide run, and print what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import skmmg

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# Modules that cannot be imported without Triton, which the CPU builds of torch do not bring.
NEED_TRITON = {"skmmg.nn._triton", "skmmg.nn._triton_kernels"}
GUIDE = Path(__file__).parents[1] / "docs" / "user_guide"


def _examples() -> list[doctest.DocTest]:
    """Find every docstring of the package that has an example, in private modules too."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = [module.name for module in pkgutil.walk_packages(skmmg.__path__, "skmmg.")]
    if find_spec("triton") is None:
        modules = [name for name in modules if name not in NEED_TRITON]
    tests = [
        test for name in ["skmmg", *modules] for test in finder.find(importlib.import_module(name))
    ]
    return [test for test in tests if test.examples]


def _pages() -> list[doctest.DocTest]:
    """Read every page of the user guide as one test: its examples build on each other."""
    parser = doctest.DocTestParser()
    return [
        parser.get_doctest(page.read_text(encoding="utf-8"), {}, page.stem, str(page), 0)
        for page in sorted(GUIDE.glob("*.rst"))
    ]


def _run(test: doctest.DocTest) -> list[str]:
    """Run one test and give what doctest has to say about its failures."""
    report: list[str] = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=report.append)
    return report


def _params(tests: list[doctest.DocTest]) -> list[Any]:
    """Give each test its name as identifier."""
    return [pytest.param(test, id=test.name) for test in tests]


@pytest.mark.parametrize("test", _params(_examples()))
def test_the_examples_of_a_docstring_run(test: doctest.DocTest) -> None:
    report = _run(test)

    assert not report, "".join(report)


@pytest.mark.parametrize("test", _params(_pages()))
def test_the_examples_of_a_page_run(test: doctest.DocTest) -> None:
    report = _run(test)

    assert not report, "".join(report)
