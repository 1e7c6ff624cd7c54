"""What skmmg offers is what it says: in `__all__`, in the API reference, in docstrings."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import skmmg

ROOT = Path(__file__).parents[1]

# How a model is trained is the engine behind the estimators. Its names are for the other rooms, and
# nothing is promised about them.
ENGINE = "skmmg.training"


def _public_modules() -> list[str]:
    """Name skmmg and its rooms: the modules without a leading underscore, but for the engine."""
    found = (module.name for module in pkgutil.iter_modules(skmmg.__path__, "skmmg."))
    rooms = (name for name in found if not name.split(".")[-1].startswith("_") and name != ENGINE)
    return ["skmmg", *rooms]


def _documented_names() -> set[str]:
    """Collect the entries of every autosummary in docs/api.rst, with their module."""
    names: set[str] = set()
    module = "skmmg"
    for line in (ROOT / "docs" / "api.rst").read_text(encoding="utf-8").splitlines():
        if found := re.match(r"\.\. currentmodule:: (\S+)", line):
            module = found[1]
        elif found := re.match(r"   ([A-Za-z]\w*)$", line):
            names.add(f"{module}.{found[1]}")
    return names


def _offered(module: ModuleType) -> dict[str, Any]:
    """Map the names of `__all__` to their classes and functions; constants need no docstring."""
    values = {name: getattr(module, name) for name in module.__all__}
    return {
        name: value
        for name, value in values.items()
        if inspect.isclass(value) or inspect.isfunction(value)
    }


def _public_objects() -> list[tuple[str, Any]]:
    """List (dotted name, object), each object once: under the first module that offers it."""
    seen: dict[int, tuple[str, Any]] = {}
    for name in _public_modules():
        for key, value in _offered(importlib.import_module(name)).items():
            seen.setdefault(id(value), (f"{name}.{key}", value))
    return list(seen.values())


DESCRIBED = [pytest.param(name, value, id=name) for name, value in _public_objects()]


@pytest.mark.parametrize("name", _public_modules())
def test_every_public_module_lists_its_names(name: str) -> None:
    module = importlib.import_module(name)
    names = module.__all__

    assert list(dict.fromkeys(names)) == list(names)
    assert all(hasattr(module, key) for key in names)


@pytest.mark.parametrize("name", _public_modules())
def test_nothing_public_is_left_out_of_all(name: str) -> None:
    module = importlib.import_module(name)
    own = {
        key
        for key, value in vars(module).items()
        if not key.startswith("_") and getattr(value, "__module__", "").startswith("skmmg")
    }

    assert own <= set(module.__all__)


@pytest.mark.parametrize("name", _public_modules())
def test_every_name_in_all_is_found_by_dir(name: str) -> None:
    module = importlib.import_module(name)

    assert set(module.__all__) <= set(dir(module))


def test_the_api_reference_documents_every_public_name_and_no_other() -> None:
    offered = {
        f"{name}.{key}"
        for name in _public_modules()
        for key in _offered(importlib.import_module(name))
    }
    documented = _documented_names()
    objects = {id(_resolve(name)) for name in documented & offered}

    assert documented - offered == set(), "docs/api.rst lists names that are not public"
    assert {name for name in offered if id(_resolve(name)) not in objects} == set()


def _resolve(name: str) -> Any:
    """Import the object of a dotted name."""
    module, _, key = name.rpartition(".")
    return getattr(importlib.import_module(module), key)


@pytest.mark.parametrize(("name", "value"), DESCRIBED)
def test_every_public_name_has_a_docstring_with_an_example(name: str, value: Any) -> None:
    doc = inspect.getdoc(value) or ""

    assert re.search(r"^Examples\n-+$", doc, flags=re.MULTILINE), f"{name} shows no example"
    assert ">>> " in doc


@pytest.mark.parametrize(("name", "value"), DESCRIBED)
def test_a_docstring_names_the_parameters_of_the_signature(name: str, value: Any) -> None:
    signature = inspect.signature(value)
    expected = [key for key in signature.parameters if not key.startswith("_")]

    assert _described_parameters(inspect.getdoc(value) or "") == expected, name


def _described_parameters(doc: str) -> list[str]:
    """Read the names in the Parameters section; a dataclass may call its fields Attributes."""
    section = re.search(
        r"^(?:Parameters|Attributes)\n-+\n(.*?)(?=^\w[\w ]*\n-+$|\Z)", doc, re.MULTILINE | re.DOTALL
    )
    text = section[1] if section else ""
    lines = re.findall(r"^\*{0,2}(\w[\w, *]*?)(?: : .*)?$", text, re.MULTILINE)
    return [name.strip() for line in lines for name in line.split(",")]


def test_the_version_is_the_one_that_is_installed() -> None:
    assert skmmg.__version__ == version("skmmg")


def test_the_citation_names_the_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")

    assert f"\nversion: {skmmg.__version__}\n" in citation


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(skmmg.__path__[0]) / "py.typed").is_file()


def test_importing_skmmg_imports_no_torch() -> None:
    code = "import sys, skmmg; sys.exit('torch' in sys.modules)"

    subprocess.run([sys.executable, "-c", code], check=True)


ALONE = """
import importlib, sys, types

package = types.ModuleType("skmmg")  # in the place of skmmg/__init__.py, which imports everything
package.__path__ = [sys.argv[1]]
sys.modules["skmmg"] = package
importlib.import_module(sys.argv[2])
loaded = {"torch", "torch_geometric", "skorch"} & set(sys.modules)
sys.exit(f"{sys.argv[2]} imports {loaded}" if loaded else 0)
"""


@pytest.mark.parametrize(
    "room",
    ["skmmg.graph", "skmmg.datasets", "skmmg.preprocessing", "skmmg.metrics", "skmmg.retrieval"],
)
def test_a_room_that_needs_no_torch_imports_none(room: str) -> None:
    subprocess.run([sys.executable, "-c", ALONE, skmmg.__path__[0], room], check=True)


def test_the_guide_says_how_every_model_takes_modalities_and_whether_mini_batches() -> None:
    guide = (ROOT / "docs" / "user_guide" / "models.rst").read_text(encoding="utf-8")
    said = {
        name: (set(fusion.split(", ")), batches)
        for names, fusion, batches in re.findall(
            r"   \* - (\*\*.+)\n(?:     .+\n|       .+\n)+?     - (.+)\n     - (yes|no)\n", guide
        )
        for name in re.findall(r"\*\*(\w+)\*\*", names)
    }

    assert said == {
        name: (set(spec.fusion_modes) or {"natively"}, "yes" if spec().samples else "no")
        for name, spec in skmmg.models.MODELS.items()
    }
