"""The parameters of a planted network: untrusted input -> a checked design, or an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt

TARGET = "item"
RESERVED = ("all", "none", "per_node")


@dataclass(frozen=True)
class Design:
    """What `make_multimodal_graph` was asked for, with every short form written out."""

    n_samples: int
    n_classes: int
    widths: dict[str, int]  # modality -> number of features
    attributes: tuple[str, ...]  # the attribute types
    n_attributes: int  # number of nodes of each
    private: bool  # every target node has attribute nodes of its own
    n_neighbors: int
    pattern_names: tuple[str, ...]  # what `informative_modality` says
    patterns: npt.NDArray[np.bool_]  # (n_patterns, n_modalities)
    pattern_prob: npt.NDArray[np.float64]  # (n_classes, n_patterns)
    signal: float
    hops: int
    homophily: float
    missing: dict[str, dict[str, float]]  # node type -> modality -> share of rows
    owned: dict[str, tuple[str, ...]]  # node type -> the modalities that it has
    misaligned: dict[str, float]  # node type -> share of nodes


def check_design(
    n_samples: int,
    n_classes: int,
    modalities: int | Sequence[str],
    n_features: int | Mapping[str, int],
    attributes: int | Sequence[str],
    n_attributes: int | str,
    n_neighbors: int,
    informative: str | Mapping[int, str],
    signal: float,
    hops: int,
    homophily: float,
    missing: float | Mapping[str, float],
    missing_attributes: float | Mapping[str, float],
    missing_types: Mapping[str, str | Sequence[str]] | None,
    misaligned: float | Mapping[str, float],
) -> Design:
    """Check the parameters of `make_multimodal_graph`, which describes them."""
    n_samples = _check_int("n_samples", n_samples, 1)
    n_classes = _check_int("n_classes", n_classes, 2)
    n_neighbors = _check_int("n_neighbors", n_neighbors, 1)
    modality_names = _check_names("modalities", modalities, "modality_{}", RESERVED)
    attribute_types = _check_names("attributes", attributes, "attribute_{}", (TARGET,))
    node_types = (TARGET, *attribute_types)
    if hops not in (0, 1, 2) or isinstance(hops, bool):
        raise _error("hops", "0, 1 or 2", hops)
    private = isinstance(n_attributes, str) and n_attributes == "own"
    if private and hops == 2:
        raise ValueError(
            "n_attributes='own' gives every item attribute nodes of its own, so that no other item "
            "is two hops away, but hops=2 needs some. Give the number of attribute nodes instead."
        )
    featureless = attribute_types if hops == 2 else ()
    count = _check_n_attributes(n_attributes, n_samples, n_classes, n_neighbors)
    of_target, of_attributes = (
        _check_shares(name, shares, modality_names, below_one=True)
        for name, shares in {"missing": missing, "missing_attributes": missing_attributes}.items()
    )
    names, patterns, pattern_prob = _check_informative(informative, modality_names, n_classes)
    return Design(
        n_samples=n_samples,
        n_classes=n_classes,
        widths=_check_widths(n_features, modality_names, n_classes),
        attributes=attribute_types,
        n_attributes=count,
        private=private,
        n_neighbors=n_neighbors,
        pattern_names=names,
        patterns=patterns,
        pattern_prob=pattern_prob,
        signal=_check_real("signal", signal, np.inf),
        hops=int(hops),
        homophily=_check_real("homophily", homophily, 1.0),
        missing={TARGET: of_target} | dict.fromkeys(attribute_types, of_attributes),
        owned=_check_owned(missing_types, node_types, modality_names, featureless),
        misaligned=_check_shares("misaligned", misaligned, node_types),
    )


def _error(name: str, expected: str, got: Any) -> ValueError:
    """Write the one sentence of a wrong value."""
    return ValueError(
        f"The {name!r} parameter of make_multimodal_graph must be {expected}. Got {got!r} instead."
    )


def _is_int(value: Any) -> bool:
    """Tell whether a value is a whole number and not a truth value."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _check_int(name: str, value: Any, low: int) -> int:
    """Let whole numbers from `low` on pass."""
    if not _is_int(value) or value < low:
        raise _error(name, f"an int, {low} or more", value)
    return int(value)


def _check_real(name: str, value: object, high: float, below_one: bool = False) -> float:
    """Let numbers from 0 to `high` pass."""
    end = "1.0)" if below_one else f"{high}]" if np.isfinite(high) else "inf)"
    number = float(value) if not isinstance(value, bool) and isinstance(value, Real) else np.nan
    if not 0 <= number <= high or (below_one and number == 1) or np.isinf(number):
        raise _error(name, f"a float in the range [0.0, {end}", value)
    return number


def _check_names(name: str, given: Any, form: str, taken: tuple[str, ...]) -> tuple[str, ...]:
    """Turn a count into names, and let distinct names pass."""
    if _is_int(given) and given >= 1:
        return tuple(form.format(i) for i in range(given))
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence) or not given:
        raise _error(name, "an int, 1 or more, or a list of names", given)
    if len(set(given)) < len(given) or not all(isinstance(item, str) and item for item in given):
        raise _error(name, "a list of distinct names (str)", given)
    if clash := [item for item in given if item in taken]:
        raise _error(name, f"names other than {list(taken)}", clash[0])
    return tuple(given)


def _check_n_attributes(given: Any, n_samples: int, n_classes: int, n_neighbors: int) -> int:
    """Return the number of nodes of each attribute type."""
    if isinstance(given, str) and given == "auto":
        return max(n_samples // 4, n_classes)
    if isinstance(given, str) and given == "own":
        return n_samples * n_neighbors
    if not _is_int(given) or given < n_classes:
        expected = f"'auto', 'own' or an int, n_classes={n_classes} or more"
        raise _error("n_attributes", expected, given)
    return int(given)


def _check_widths(given: Any, modalities: tuple[str, ...], n_classes: int) -> dict[str, int]:
    """Return the number of features of each modality."""
    widths = _per_key("n_features", given, modalities, None)
    for value in widths.values():
        # The means of the classes are orthogonal, so that all classes are equally far apart.
        if not _is_int(value) or value < n_classes:
            raise _error("n_features", f"ints, n_classes={n_classes} or more", given)
    return {modality: int(value) for modality, value in widths.items()}


def _check_shares(
    name: str, given: Any, keys: tuple[str, ...], below_one: bool = False
) -> dict[str, float]:
    """Return one share for each modality or node type; those not named have none."""
    shares = _per_key(name, given, keys, 0.0)
    return {key: _check_real(name, value, 1.0, below_one) for key, value in shares.items()}


def _per_key(name: str, given: Any, keys: tuple[str, ...], default: Any) -> dict[str, Any]:
    """Write "one value, or a dict with some values" out as a dict with all of them."""
    if not isinstance(given, Mapping):
        return dict.fromkeys(keys, given)
    if unknown := [key for key in given if key not in keys]:
        raise _error(name, f"a value or a dict with keys among {list(keys)}", unknown[0])
    if default is None and len(given) < len(keys):
        raise _error(name, f"a value or a dict with the keys {list(keys)}", dict(given))
    return {key: given.get(key, default) for key in keys}


def _check_informative(
    given: Any, modalities: tuple[str, ...], n_classes: int
) -> tuple[tuple[str, ...], npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Return the names of the patterns, the patterns, and their probabilities in each class."""
    n_modalities = len(modalities)
    one_each = np.eye(n_modalities, dtype=bool)
    if isinstance(given, str) and given == "all":
        return ("all",), np.ones((1, n_modalities), dtype=bool), np.ones((n_classes, 1))
    if isinstance(given, str) and given == "per_node":
        uniform = np.full((n_classes, n_modalities), 1 / n_modalities)
        return modalities, one_each, uniform
    by_class = given if isinstance(given, Mapping) else dict.fromkeys(range(n_classes), given)
    if set(by_class) != set(range(n_classes)) or not set(by_class.values()) <= set(modalities):
        raise _error(
            "informative",
            f"'all', 'per_node', one of {list(modalities)}, or a dict of one of them for each "
            f"class 0 to {n_classes - 1}",
            given,
        )
    chosen = [modalities.index(by_class[label]) for label in range(n_classes)]
    return modalities, one_each, one_each[chosen].astype(np.float64)


def _check_owned(
    given: object,
    node_types: tuple[str, ...],
    modalities: tuple[str, ...],
    featureless: tuple[str, ...],
) -> dict[str, tuple[str, ...]]:
    """Return the modalities that each node type has; the featureless types have none."""
    asked = {} if given is None else given
    if not isinstance(asked, Mapping):
        raise _error("missing_types", "None or a dict {node type: modalities that it lacks}", given)
    lacking = _per_key("missing_types", asked, node_types, ())
    owned = {}
    for node_type, names in lacking.items():
        lacks = (names,) if isinstance(names, str) else tuple(names)
        if unknown := [name for name in lacks if name not in modalities]:
            raise _error("missing_types", f"modalities among {list(modalities)}", unknown[0])
        owned[node_type] = tuple(name for name in modalities if name not in lacks)
    if not owned[TARGET]:
        raise _error("missing_types", f"such that {TARGET!r} keeps a modality", given)
    return owned | dict.fromkeys(featureless, ())
