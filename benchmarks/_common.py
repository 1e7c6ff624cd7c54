"""What the benchmarks share: arguments, jobs with a progress bar, summaries, result files."""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from scipy import stats
from tqdm import tqdm

import skmmg

RESULTS = Path(__file__).parent / "results"
SEEDS = (0, 1, 2, 3, 4)
PACKAGES = ("scikit-learn", "torch", "torch-geometric", "skorch", "numpy", "scipy")

Record = dict[str, Any]


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Arguments that every benchmark takes, because `make bench` gives all of them the same."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", metavar="FOLDER", help="folder of the IMDB network, as load_imdb")
    parser.add_argument("--quick", action="store_true", help="a smoke run; its numbers say nothing")
    parser.add_argument("--jobs", type=int, default=-1, help="processes; -1: one per core")
    return parser


def results_folder(quick: bool) -> Path:
    """Where results go: a smoke run must not overwrite real ones."""
    return Path(tempfile.mkdtemp(prefix="skmmg-bench-")) if quick else RESULTS


def run_jobs(
    function: Callable[..., Record], tasks: Iterable[Mapping[str, Any]], n_jobs: int = -1
) -> list[Record]:
    """Call ``function(**task)`` for every task, one torch thread each, in the tasks' order.

    Every result is joined to its task's values that a table can hold.
    """
    tasks = list(tasks)
    n_jobs = min(joblib.effective_n_jobs(n_jobs), len(tasks))
    jobs = (joblib.delayed(_run_one)(function, task) for task in tasks)
    results = joblib.Parallel(n_jobs, return_as="generator")(jobs)
    return list(tqdm(results, total=len(tasks), unit="fit"))


def _run_one(function: Callable[..., Record], task: Mapping[str, Any]) -> Record:
    torch.set_num_threads(1)
    plain = {k: v for k, v in task.items() if isinstance(v, (str, int, float, bool))}
    return plain | function(**task)


def summarise(values: Iterable[float], digits: int = 3) -> str:
    """Mean and standard deviation (n - 1) over seeds, as in ``0.652 ± 0.004``."""
    numbers = np.asarray(list(values), dtype=float)
    if len(numbers) < 2:
        return f"{numbers.mean():.{digits}f}"
    return f"{numbers.mean():.{digits}f} ± {numbers.std(ddof=1):.{digits}f}"


def compare(values: Sequence[float], others: Sequence[float], digits: int = 3) -> str:
    """Mean difference of pairs (same seed, same split) and p of the two-sided paired t-test."""
    difference = float(np.mean(values) - np.mean(others))
    p = float(stats.ttest_rel(values, others).pvalue) if len(values) > 1 else float("nan")
    return f"{difference:+.{digits}f} (p = {p:.2g})"


def compare_both(values: Sequence[float], others: Sequence[float], digits: int = 3) -> str:
    """As `compare`, with p of Welch's t-test, which takes the seeds of the two for unrelated."""
    welch = float(stats.ttest_ind(values, others, equal_var=False).pvalue)
    return f"{compare(values, others, digits)[:-1]}; Welch {welch:.2g})"


def summary_table(
    records: Iterable[Record],
    rows: str | list[str],
    columns: str | list[str] | None = None,
    values: Sequence[str] = ("accuracy",),
    digits: int = 3,
) -> pd.DataFrame:
    """Means and standard deviations, one row per `rows` and one column per `columns` and value.

    The order is the order in which they first occur.
    """
    frame, keys = pd.DataFrame(list(records)), [rows] if isinstance(rows, str) else list(rows)
    columns = [columns] if isinstance(columns, str) else list(columns or ())
    groups = frame.groupby(keys + columns, sort=False)[list(values)]
    table = groups.agg(lambda group: summarise(group, digits))
    if columns:
        table = table.unstack(columns, sort=False)
        table.columns = [_join(column, len(values) > 1) for column in table.columns]
    return table.reset_index()


def _join(column: Sequence[Any], with_value: bool) -> str:
    return ", ".join(map(str, column if with_value else column[1:]))


def to_markdown(table: pd.DataFrame) -> str:
    """A table of GitHub's Markdown."""
    lines = [list(map(str, table.columns)), ["---"] * table.shape[1]]
    lines += [["" if v is None or v != v else str(v) for v in row] for row in table.values.tolist()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def read_log(file: Path) -> list[Record]:
    """Runs of earlier calls, a line each."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def run_logged(
    runs: Iterable[Record], n_runs: int, log: list[Record], file: Path | None
) -> list[Record]:
    """Add runs to the log as they finish, and to its file, so that nothing is lost."""
    for record in tqdm(runs, total=n_runs, unit="run"):
        log.append(record)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(record) + "\n")
    return log


def environment() -> dict[str, str]:
    """Machine and versions."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "cpu": _cpu_model(),
        "cores": str(joblib.cpu_count()),
        "torch threads per process": "1",
        "gpu": gpu,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "skmmg": skmmg.__version__,  # it may be a checkout that is not installed
        **{package: version(package) for package in PACKAGES},
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def write_results(
    name: str,
    title: str,
    tables: Mapping[str, pd.DataFrame],
    records: Sequence[Record],
    *,
    notes: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    folder: Path = RESULTS,
) -> Path:
    """Print the tables and write them to ``<name>.md``, with every number in ``<name>.json``.

    `tables` maps a heading to a table; `notes` are paragraphs below the title; `settings` are kept
    in the JSON file. The `.md` file ends with machine and versions.
    """
    target = write_tables(name, title, tables, notes=notes, folder=folder)
    content = {
        "title": title,
        "environment": environment(),
        "settings": dict(settings or {}),
        "records": list(records),
    }
    numbers = json.dumps(content, indent=1, default=_to_plain)
    target.with_suffix(".json").write_text(numbers + "\n", encoding="utf-8")
    return target


def write_tables(
    name: str,
    title: str,
    tables: Mapping[str, pd.DataFrame],
    *,
    notes: Sequence[str] = (),
    folder: Path = RESULTS,
) -> Path:
    """Print the tables and write them to ``<name>.md``, which ends with machine and versions."""
    parts = [f"# {title}", *notes]
    for heading, table in tables.items():
        parts += [f"## {heading}", to_markdown(table)]
    return write_text(name, parts, folder)


def write_text(name: str, parts: Sequence[str], folder: Path = RESULTS) -> Path:
    """Print paragraphs and write them to ``<name>.md``, with machine and versions at the end."""
    foot = "; ".join(f"{key} {value}" for key, value in environment().items())
    text = "\n\n".join([*parts, foot])
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}.md"
    target.write_text(f"{text}\n", encoding="utf-8")
    print(f"{text}\n\nwritten to {target}")
    return target


def _to_plain(value: Any) -> Any:
    """JSON's form of numpy's numbers and of what has parameters."""
    return value.item() if isinstance(value, np.generic) else str(value)
