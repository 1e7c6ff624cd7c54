"""What bfloat16 and torch.compile make of a training step, and when compiling would pay.

A step on the whole of a network of IMDB's size (bench_epoch.py) or of AMAZON's (bench_speed.py),
with 64 hidden channels, three layers and eight heads. Compiled are the dense parts: in HGNN-IMA and
HGT what follows the edges in a layer (activation, linear map, dropout, residual), in the MLP its
layers. A whole module does not compile in torch 2.13 where features are sparse.

Contestants take turns in one process, one thread. On a CPU seconds are of CPU time, those of
compilers included, so that other load on the machine shows less; nothing is taken from a cache.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable

import bench_speed
import pandas as pd
import torch
from _common import Record, make_parser, results_folder, write_results
from _networks import Task, make_task
from torch import nn
from tqdm import tqdm

from skmmg.models import get_model
from skmmg.models.mlp import MLPBackbone
from skmmg.nn import HGNNIMAConv
from skmmg.training import choose_device

SIZES = {"hidden_channels": 64, "num_layers": 3, "heads": 8}
MODELS, NETWORKS = ("hgnn_ima", "hgt", "mlp"), ("IMDB", "AMAZON")
CONTESTANTS = ("float32", "bf16", "float32, compiled")
DEVICE = choose_device("auto")
Step = Callable[[], None]


def compile_dense_parts(module: nn.Module) -> None:
    """Compile what follows the edges, and the layers of the MLP."""
    for part in module.modules():
        if isinstance(part, HGNNIMAConv):
            part._update = torch.compile(part._update)
        elif isinstance(part, MLPBackbone):
            part.compile()


def make_step(task: Task, name: str, contestant: str) -> Step:
    """A training step: forward, backward, optimiser."""
    precision, *compiled = contestant.split(", ")
    spec = get_model(name)
    spec.set_params(**{k: v for k, v in SIZES.items() if k in spec.get_params()})
    module = spec.build(task.view.schema, task.n_classes)
    if compiled:
        compile_dense_parts(module)
    return bench_speed.make_step(module, task, precision)


def seconds_of(step: Step) -> float:
    """Seconds of one step: of CPU time, or on the clock for a GPU."""
    start = _clock()
    step()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return _clock() - start


def _clock() -> float:
    if DEVICE.type == "cuda":
        return time.perf_counter()
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)


def measure(task: Task, network: str, name: str, rounds: int) -> list[Record]:
    """Every contestant for one model: the first two steps, which may compile, and later ones."""
    torch.compiler.reset()
    steps = {c: make_step(task, name, c) for c in CONTESTANTS}
    first = {c: seconds_of(step) + seconds_of(step) for c, step in steps.items()}
    turns = [{c: seconds_of(s) for c, s in steps.items()} for _ in tqdm(range(rounds))]
    frame = pd.DataFrame(turns)
    median, gain = frame.median(), frame.rsub(frame["float32"], axis=0).median()
    return [
        {
            "network": network,
            "model": name,
            "step": c,
            "ms": round(1000 * median[c], 1),
            "less than float32 (ms)": round(1000 * gain[c], 1),
            "first two steps (s)": round(first[c], 1),
        }
        for c in CONTESTANTS
    ]


def main() -> None:
    """Measure, print and write."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    networks, models = NETWORKS, MODELS
    if args.quick:
        networks, models, args.rounds = NETWORKS[:1], MODELS[-1:], 1
    torch.set_num_threads(1)
    records: list[Record] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"TORCHINDUCTOR_CACHE_DIR": folder, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        for network in networks:
            task = make_task(network, args.data, str(DEVICE))
            for name in models:
                records += measure(task, network, name, args.rounds)
                print(pd.DataFrame(records[-len(CONTESTANTS) :]).to_string(index=False))
    write_results(
        "compile" if DEVICE.type == "cpu" else f"compile_{DEVICE.type}",
        "bfloat16 and torch.compile",
        {"Training step": pd.DataFrame(records)},
        records,
        notes=[f"Medians over {args.rounds} rounds in which all take turns."],
        settings=SIZES | {"rounds": args.rounds},
        folder=results_folder(args.quick),
    )


if __name__ == "__main__":
    main()
