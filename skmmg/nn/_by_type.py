"""One module per node type, whatever the type's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar, cast

from torch import nn

M = TypeVar("M", bound=nn.Module)


class ByType(nn.Module, Generic[M]):
    """Modules looked up by name. `nn.ModuleDict` refuses names such as "a.b" or "items"."""

    def __init__(self, modules: Mapping[str, M]) -> None:
        super().__init__()
        self._index = {name: i for i, name in enumerate(modules)}
        self.entries = nn.ModuleList(modules.values())

    def __getitem__(self, name: str) -> M:
        return cast("M", self.entries[self._index[name]])

    def __contains__(self, name: str) -> bool:
        return name in self._index
