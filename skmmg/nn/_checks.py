"""Checks of a layer's options."""

from __future__ import annotations

from collections.abc import Sequence


def check_option(name: str, value: str | None, options: Sequence[str | None]) -> None:
    """Raise unless `value` is one of `options`."""
    if value not in options:
        raise ValueError(
            f"{name} has to be one of {list(options)}, got {value!r}. Choose one of them."
        )
