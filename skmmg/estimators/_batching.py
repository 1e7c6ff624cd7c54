"""`batch_size` and `num_neighbors`: what they mean for a model."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import Parameter, signature
from numbers import Integral
from typing import Any

from sklearn.base import clone

from skmmg.models import ModelSpec
from skmmg.training import BatchPlan


def make_plan(
    spec: ModelSpec,
    batch_size: int | None,
    num_neighbors: int | Sequence[int] | None,
    seed: int,
) -> BatchPlan | None:
    """How to train by mini-batches; None for training on the whole graph."""
    if batch_size is None:
        if num_neighbors is not None:
            raise ValueError(
                f"num_neighbors={num_neighbors!r} needs batch_size, got batch_size=None, which "
                "trains on the whole graph. Set batch_size, for instance to 512."
            )
        return None
    check_samples(spec)
    return BatchPlan(batch_size, _fan_outs(num_neighbors, spec), seed)


def check_samples(spec: ModelSpec) -> None:
    """Raise where a model needs the whole graph."""
    if spec.samples:
        return
    in_the_way = _options_in_the_way(spec)
    because = ", ".join(f"{name}={getattr(spec, name)!r}" for name in in_the_way)
    instead = ", ".join(f"{name}={default!r}" for name, default in in_the_way.items())
    raise ValueError(
        f"Model {spec.name!r} needs the whole graph at once{because and f' with {because}'}, got a "
        f"batch_size. Leave batch_size=None, {instead and f'set {instead}, '}or take a model that "
        "works on samples, such as 'hgnn_ima' or 'hgt'."
    )


def _options_in_the_way(spec: ModelSpec) -> dict[str, Any]:
    """Parameters that make a model need the whole graph, with the defaults that would not."""
    defaults = {
        name: parameter.default
        for name, parameter in signature(type(spec)).parameters.items()
        if parameter.default is not Parameter.empty
    }
    plain = clone(spec).set_params(**defaults)
    if not plain.samples:
        return {}
    return {
        name: default
        for name, default in defaults.items()
        if not clone(plain).set_params(**{name: getattr(spec, name)}).samples
    }


def _fan_outs(num_neighbors: int | Sequence[int] | None, spec: ModelSpec) -> tuple[int, ...]:
    """In-neighbours per relation that a node draws, one number per step of the model."""
    n_hops = spec.num_hops()
    numbers: list[Any] = [-1 if num_neighbors is None else num_neighbors]
    if isinstance(num_neighbors, list | tuple):
        numbers = list(num_neighbors)
    if any(not isinstance(n, Integral) or n < -1 or n == 0 for n in numbers):
        raise ValueError(
            "num_neighbors has to hold integers from 1 on, or -1 for all neighbours, got "
            f"{num_neighbors!r}."
        )
    if not isinstance(num_neighbors, list | tuple):
        numbers = numbers * n_hops
    if len(numbers) != n_hops:
        raise ValueError(
            f"num_neighbors has to hold one number for each of the {n_hops} steps that {spec!r} "
            f"looks away from a node, got {len(numbers)}: {numbers!r}. An int counts for every "
            "step."
        )
    return tuple(map(int, numbers))
