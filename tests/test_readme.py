"""The examples of the README run as pasted, in an empty folder, and print what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
NUMBER = r"\d\.\d+"


def _blocks() -> list[str]:
    """Cut the Python blocks out of the README."""
    text = README.read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def _promised(code: str) -> list[float]:
    """Read the numbers in the comments behind the prints: what the example says it prints."""
    comments = re.findall(r"print\(.*\)  # (.*)", code)
    return [float(number) for comment in comments for number in re.findall(NUMBER, comment)]


def test_the_readme_shows_arrays_and_a_network() -> None:
    blocks = "\n".join(_blocks())

    assert "load_mfeat()" in blocks
    assert "make_multimodal_graph(" in blocks


@pytest.mark.parametrize("code", _blocks(), ids=lambda code: re.findall(r"(\w+)\(", code)[0])
def test_an_example_of_the_readme_prints_what_it_says(
    code: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    exec(compile(code, str(README), "exec"), {"__name__": "__main__"})

    printed = [float(number) for number in re.findall(NUMBER, capsys.readouterr().out)]
    # Other processors add in another order, and an epoch more or less moves a few rows.
    assert printed == pytest.approx(_promised(code), abs=0.03)
