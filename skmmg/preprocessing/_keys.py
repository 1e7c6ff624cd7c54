"""Keys of a dict of transformers: a modality, or a modality of one node type."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any, TypeAlias

from skmmg._sklearn import requested_metadata
from skmmg.graph import Schema

Pair: TypeAlias = tuple[str, str]  # (node type, modality)
Key: TypeAlias = str | Pair

_WHAT_A_KEY_IS = "a modality ('text') or a node type and a modality (('director', 'text'))"


def list_pairs(schema: Schema) -> list[Pair]:
    """List every modality of every node type."""
    return [(t, modality) for t, widths in schema.node_types.items() for modality in widths]


def spell_key(key: Key) -> str:
    """Spell a key as the name of a parameter."""
    return key if isinstance(key, str) else "/".join(map(str, key))


def check_transformers(transformers: Any, schema: Schema, reserved: Collection[str]) -> None:
    """Check the keys against what there is, and that the values can transform."""
    if not isinstance(transformers, Mapping):
        _check_transformer("transformers", transformers)
        return
    known: list[Key] = [*schema.modalities, *list_pairs(schema)]
    for key, transformer in transformers.items():
        _check_key(key, known)
        _check_spelling(key, reserved)
        _check_transformer(f"transformers[{key!r}]", transformer)
    spelled = [spell_key(key) for key in transformers]
    twice = [name for name in spelled if spelled.count(name) > 1]
    if twice:
        raise ValueError(
            f"Two keys of transformers are spelled {twice[0]!r} as a parameter. Rename the node "
            f"type or the modality that has '/' in its name."
        )


def _check_key(key: Any, known: list[Key]) -> None:
    """Let a key pass that names something in the data."""
    if key in known:
        return
    is_pair = isinstance(key, tuple) and len(key) == 2
    if not isinstance(key, str) and not is_pair:
        raise TypeError(f"A key of transformers must be {_WHAT_A_KEY_IS}, got {key!r}.")
    by_spelling = {spell_key(k): k for k in known}
    alike = get_close_matches(spell_key(key), by_spelling, n=1)
    hint = f" Did you mean {by_spelling[alike[0]]!r}?" if alike else ""
    same_kind = [k for k in known if isinstance(k, type(key))]
    raise ValueError(
        f"A key of transformers must be {_WHAT_A_KEY_IS} of X, got {key!r}.{hint} "
        f"Known: {', '.join(map(repr, same_kind))}."
    )


def _check_spelling(key: Key, reserved: Collection[str]) -> None:
    """Let a key pass that get_params and set_params can tell from other parameters."""
    name = spell_key(key)
    if name in reserved or "__" in name:
        raise ValueError(
            f"The key {key!r} of transformers cannot be told from other parameters: it must have "
            f"no '__' and be none of {sorted(reserved)}. Rename the modality."
        )


def _check_transformer(where: str, transformer: Any) -> None:
    """Let transformers, 'passthrough' and 'drop' pass."""
    if isinstance(transformer, str) and transformer in ("passthrough", "drop"):
        return
    has_methods = hasattr(transformer, "fit") and hasattr(transformer, "transform")
    if isinstance(transformer, type) or not has_methods:
        is_class = isinstance(transformer, type)
        hint = f" Write {transformer.__name__}()." if is_class else ""
        raise TypeError(
            f"{where} must be a transformer with fit and transform, 'passthrough' or 'drop', got "
            f"{transformer!r}.{hint}"
        )
    requested = sorted(requested_metadata(transformer))
    if requested:
        raise NotImplementedError(
            f"{where}, {transformer!r}, requests {', '.join(requested)}, which a "
            f"ModalityTransformer does not hand on. Leave the request out, or set it to False, as "
            f"set_fit_request(sample_weight=False) does; for a 2-D X there is ColumnTransformer."
        )
