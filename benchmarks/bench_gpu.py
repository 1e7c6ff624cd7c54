"""HGNN-IMA and HGT on a GPU: training steps, inference and memory; mini-batches.

*Steps.* As in `bench_speed.py`, and on its networks: 64 channels, three layers, eight heads, two
modalities. Each model computes its edges by the sparse products and by the kernel (Triton's), in
float32 and with products of bfloat16. The yardsticks are one network of PyG's HGTConv per modality
with late fusion, and the paper's equations edge by edge. All take turns in one process; times are
those between two events on the GPU, so the gaps in which it waits for Python count in. Memory is
the most that torch had allocated above what was there before the step. What fails in its first
step is left out, and told below the title.

*Mini-batches.* An epoch of HGNN-IMA on a network of `bench_minibatch.py`, the second of a fit, on
the GPU and on the CPU.

``--device cpu`` runs the same on the CPU, to see that the program works: seconds are of CPU time,
the kernel is the C++ one, memory is not measured.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from _common import Record, make_parser, results_folder, write_results
from _memory import in_fresh_process
from _networks import GRAPHS, Task, make_task
from bench_minibatch import BATCH_SIZE, NUM_NEIGHBORS, make_network, run_network
from bench_speed import (
    CHANNELS,
    HEADS,
    LAYERS,
    PLAIN,
    PYG,
    SIZE,
    Step,
    build,
    build_hgt,
    build_plain,
    build_pyg,
    check_equal,
    cpu_seconds,
    make_step,
    measure_seconds,
    ratio,
    within,
)
from torch import nn

from skmmg.training import autocast

KERNELS = {"cuda": "triton", "cpu": "fused"}
MODELS: dict[str, Callable[[Task], nn.Module]] = {
    "HGNN-IMA": build,
    "HGT late": lambda task: build_hgt(task, "late"),
}
KERNEL_RUN = "HGNN-IMA, kernel"
SHARE_LABELLED = 0.95
Runs = dict[str, tuple[Step, Step]]  # training step and inference, by name


# ------------------------------------------------------------------------------------ the steps
def make_runs(task: Task) -> Runs:
    """All contestants."""
    kernel = KERNELS[task.tensors.device.type]
    runs = {}
    for model, make in MODELS.items():
        for name, backend in (("sparse products", "sparse"), ("kernel", kernel)):
            for ending, precision in (("", "float32"), (", bf16", "bf16")):
                run = make_run(make(task), task, backend, precision)
                runs[f"{model}, {name}{ending}"] = run
    runs[PYG] = make_run(build_pyg(task), task, "sparse")
    runs[PLAIN] = make_run(build_plain(task), task, "sparse", whole=True)
    return runs


def make_run(
    module: nn.Module, task: Task, backend: str, precision: str = "float32", whole: bool = False
) -> tuple[Step, Step]:
    """A training step of a module, and its inference for the training nodes."""
    train = make_step(module, task, precision)
    ids = torch.tensor(task.view.ids, device=task.tensors.device)

    def infer() -> None:
        with torch.no_grad(), autocast(precision, ids.device):
            module.eval()(task.tensors, ids)

    return within(train, backend, whole), within(infer, backend, whole)


def leave_out_failures(runs: Runs) -> tuple[Runs, dict[str, str]]:
    """Those whose first step works, and what the others' errors say."""
    working, errors = {}, {}
    for name, steps in runs.items():
        try:
            for step in steps:
                step()
        except RuntimeError as error:  # torch's out of memory, too
            errors[name] = str(error).partition("\n")[0]
        else:
            working[name] = steps
    return working, errors


def gpu_seconds(step: Step) -> float:
    """Seconds between two events on the GPU."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    step()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def peak_mb(step: Step) -> float:
    """What torch allocates at most on the GPU during a step, above what was there, in MiB."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def measure_graph(name: str, folder: str | None, device: str, rounds: int) -> list[Record]:
    """Times, ratios and memory of all contestants on one network, and the errors of the others."""
    task = make_task(name, folder, device)
    runs, errors = leave_out_failures(make_runs(task))
    kernel = KERNELS[device] if KERNEL_RUN in runs else "sparse"
    difference = check_equal(task, kernel, with_plain=PLAIN in runs)
    print(f"{name}: {task.view.graph!r}; scores differ by {difference:.1e}; errors: {errors}")
    on_gpu = device == "cuda"
    seconds_of = gpu_seconds if on_gpu else cpu_seconds
    training, inference = (
        measure_seconds({n: steps[i] for n, steps in runs.items()}, rounds, seconds_of)
        for i in range(2)
    )
    network = f"{name} ({sum(task.tensors.num_nodes.values()):,} / {task.n_edges:,})"
    records: list[Record] = [
        {
            "network": network,
            "step": run,
            "training (ms)": f"{1e3 * training[run].median():.2f}",
            "times the speed of PyG's": ratio(training, PYG, run) if PYG in runs else "",
            "of the plain equations'": ratio(training, PLAIN, run) if PLAIN in runs else "",
            "inference (ms)": f"{1e3 * inference[run].median():.2f}",
            "training, peak (MB)": f"{peak_mb(steps[0]):.0f}" if on_gpu else "",
            "inference, peak (MB)": f"{peak_mb(steps[1]):.0f}" if on_gpu else "",
        }
        for run, steps in runs.items()
    ]
    return records + [{"network": network, "step": n, "error": e} for n, e in errors.items()]


# ------------------------------------------------------------------------------ the mini-batches
def measure_minibatches(n_nodes: int, device: str) -> list[Record]:
    """The second epoch of a fit, and predictions for all nodes, in processes of their own."""
    with tempfile.TemporaryDirectory(prefix="skmmg-bench-") as name:
        make_network(n_nodes, 10 * n_nodes, Path(name))
        return [
            {"device": d}
            | in_fresh_process(run_network, Path(name), BATCH_SIZE, SHARE_LABELLED, d, 2)
            for d in dict.fromkeys((device, "cpu"))
        ]


# -------------------------------------------------------------------------------------- the report
def main() -> None:
    """Measure, print and write, again after every network, so that nothing is lost."""
    parser = make_parser(__doc__)
    parser.add_argument("--device", default="cuda", choices=KERNELS)
    parser.add_argument("--graphs", nargs="*", default=list(GRAPHS), choices=GRAPHS)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--nodes", type=int, default=100_000, help="of the mini-batches; 0: none")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device here; --device cpu --quick is a smoke run")
    if args.quick:
        args.graphs, args.rounds, args.nodes = ["IMDB"], 1, 2_000
    torch.set_num_threads(1)
    folder = results_folder(args.quick)
    steps: list[Record] = []
    for name in args.graphs:
        steps += measure_graph(name, args.data, args.device, args.rounds)
        report(steps, [], args.device, args.rounds, folder)
    if args.nodes:
        report(
            steps, measure_minibatches(args.nodes, args.device), args.device, args.rounds, folder
        )


def report(
    steps: list[Record], minibatches: list[Record], device: str, n_rounds: int, folder: Path
) -> None:
    """Print and write what there is so far."""
    failed = [f"{r['network']}, {r['step']}: {r['error']}." for r in steps if "error" in r]
    done = [r for r in steps if "error" not in r]
    tables = {
        "Steps, ours on what the training nodes can see": done,
        f"Mini-batches of {BATCH_SIZE}, num_neighbors={NUM_NEIGHBORS}": minibatches,
    }
    write_results(
        "gpu" if device == "cuda" else f"gpu_on_{device}",
        "HGNN-IMA and HGT on a GPU",
        {title: pd.DataFrame(records) for title, records in tables.items() if records},
        [*steps, *minibatches],
        notes=[
            f"{CHANNELS} channels, {LAYERS} layers, {HEADS} heads, two modalities, device "
            f"{device!r}. The networks are given with their numbers of nodes and edges. Medians "
            f"over {n_rounds} rounds in which all take turns; ratios are medians of each round's "
            "training steps. Memory is what torch allocates on the GPU above what was there.",
            *(["Left out because of an error: " + " ".join(failed)] if failed else []),
        ],
        settings={**SIZE, "rounds": n_rounds},
        folder=folder,
    )


if __name__ == "__main__":
    main()
