"""The report of reproduce.py: tables and figures out of the lines of its log."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from _common import Record, compare_both, summarise, to_markdown, write_text
from _zoo import rows as all_rows
from matplotlib import pyplot as plt

mpl.use("agg")

OURS = "hgnn_ima"
BASELINES = ("hgt, early", "hgt, late")
METRICS = {"micro": "micro-F1", "macro": "macro-F1"}


def write_report(log: Iterable[Record], folder: Path) -> None:
    """Write `reproduce.md` and its figures, and print the text."""
    frame = pd.DataFrame(list(log))
    if "error" not in frame:
        frame["error"] = None
    order = {row.name: i for i, row in enumerate(all_rows())}  # whatever was run first
    frame = frame.sort_values("row", key=lambda names: names.map(order), kind="stable")
    parts = ["# All models of both papers", SETS, INTRODUCTION]
    sections = {
        "scores": scores_section,
        "ablations": ablations_section,
        "layers": layers_section,
        "pictures": pictures_section,
        "learning_rates": learning_rates_section,
        "epochs": epochs_section,
        "folds": folds_section,
        "cost": cost_section,
    }
    for experiment, section in sections.items():
        rows = frame[(frame.experiment == experiment) & frame.error.isna()]
        if len(rows):
            parts += section(rows.dropna(axis=1, how="all"), folder)
    parts += errors_section(frame)
    write_text("reproduce", parts, folder)


SETS = (
    "Paper 1 is that of HGNN-IMA (Li et al., IJCAI 2025), paper 2 that of MM-GCN (Yuan and Xue, "
    "2025). *IMDB*: the genre of films by keywords, overview and poster, with actors and "
    "directors, on the split that MHGAT's authors published, in which some films stand on both "
    "sides; *grouped*: splits in which none does. *planted*: random networks of which the best "
    "possible accuracy is known; one of two modalities tells the class, *differs by node*: not "
    "the same one for every item, *half missing*: and half of the rows are missing, *two hops*: "
    "it is to be seen two steps away and not at the item itself. *mfeat* (numerals, six matrices) "
    "and *wikipedia* (images and texts) have no network; their rows are linked by likeness. To "
    "read it: look for `mlp` first, which has no network; then at the spread over seeds, which is "
    "often larger than what is between two of the better models. No model is best everywhere."
)

INTRODUCTION = (
    "Written by `benchmarks/reproduce.py`. Scores are means ± standard deviations (n - 1) over "
    "seeds; a seed stands for the initial weights and for the split (for the network too where "
    "it is planted; IMDB's shipped split is one). Every model meets the same splits and is scored "
    "once on the test samples; it stops on the same validation samples, or, if it is trained "
    "without labels (SHGP, HERO, HetGNN as published), on its training loss. *default*: skmmg's "
    "settings, the same for all models. *published*: what the model's own paper or code says of "
    "training and, where it does, of the model; of several sets of values those for IMDB (SHGP, "
    "MHGAT), ACM (HERO) or Citeseer (StrucGCN). Ours in it: widths of HAN, SeHGNN, SHGP, HERO and "
    "SAGE (64) and of StrucGCN (128), dropouts of SAGE, HetGNN, StrucGCN and HAN's features, "
    "SeHGNN's hops, everything of MM-GCN "
    "and MAMSA but the learning rate; GCN's weight decay is on all weights, not the first layer's "
    "alone; HetGNN and IDKG take an epoch as one step, for at most 50 and 30 of them. SHGP as "
    "published never stops early. *tuned N*: the best of N trials on "
    "the validation samples, the default settings being the first trial; N, the ranges "
    "(`skmmg.tuning.search_space`) and the sampler are the same for every model. The number of "
    "seeds is in brackets where it is not five."
)


def table(rows: pd.DataFrame, index: str, columns: str, value: str, digits: int = 3) -> str:
    """Means and standard deviations in Markdown, in the order of the rows."""
    cells = rows.groupby([index, columns], sort=False)[value].agg(lambda v: cell(v, digits))
    wide = cells.unstack(columns, sort=False).reset_index()
    return to_markdown(wide)


def cell(values: pd.Series, digits: int) -> str:
    """Mean and standard deviation, with the number of seeds where it is not five."""
    count = "" if len(values) == 5 else f" ({len(values)})"
    return summarise(values, digits) + count


def scores_section(rows: pd.DataFrame, folder: Path) -> list[str]:
    """Paper 1, tables 2 and 3."""
    out = []
    for settings, part in rows.groupby("settings"):
        out.append(f"## Paper 1, table 2: {settings} settings")
        for metric, label in METRICS.items():
            out += [f"### {label}", table(part, "row", "data", metric)]
        tests = t_tests(part)
        if tests.shape[1] > 1:
            title = "### Paper 1, table 3: macro-F1 of HGNN-IMA minus that of HGT"
            out += [title, to_markdown(tests)]
    return out


def t_tests(rows: pd.DataFrame) -> pd.DataFrame:
    """Paired by seed, and Welch's; a column for each form of HGT that has two seeds or more."""
    lines = []
    for data, part in rows.groupby("data", sort=False):
        wide = part.pivot_table("macro", "seed", "row")
        line = {"data": data}
        for name in BASELINES:
            pair = wide[[OURS, name]].dropna() if {OURS, name} <= set(wide) else wide.iloc[:0, :0]
            if len(pair) > 1:
                line[name] = compare_both(pair[OURS].tolist(), pair[name].tolist())
        lines.append(line)
    return pd.DataFrame(lines)


def ablations_section(rows: pd.DataFrame, folder: Path) -> list[str]:
    """Paper 1, table 4."""
    return ["## Paper 1, table 4: ablations, macro-F1", table(rows, "row", "data", "macro")]


def layers_section(rows: pd.DataFrame, folder: Path) -> list[str]:
    """Paper 1, figure 3."""
    rows = rows.assign(line=rows.data + ", " + rows.row)
    draw_lines(rows, folder / "reproduce_layers.png")
    head = "## Paper 1, figure 3: number of layers, macro-F1"
    return [head, table(rows, "line", "settings", "macro"), "![](reproduce_layers.png)"]


def draw_lines(rows: pd.DataFrame, path: Path) -> None:
    """Macro-F1 against the number of layers, a panel per data set."""
    sets = rows.data.unique()
    fig, axes = plt.subplots(
        1, len(sets), figsize=(3.6 * len(sets), 3.4), layout="constrained", squeeze=False
    )
    rows = rows.assign(depth=rows.settings.str.split().str[0].astype(int))
    for ax, data in zip(axes[0], sets, strict=True):
        for name, part in rows[rows.data == data].groupby("row", sort=False):
            by_depth = part.groupby("depth")["macro"].agg(["mean", "std"])
            ax.errorbar(by_depth.index, by_depth["mean"], by_depth["std"], marker="o", label=name)
        ax.set(title=data, xlabel="layers", ylabel="macro-F1")
    axes[0, 0].legend()
    fig.savefig(path, dpi=120)
    plt.close(fig)


def pictures_section(rows: pd.DataFrame, folder: Path) -> list[str]:
    """t-SNE and attention against agreement."""
    fig, axes = plt.subplots(
        1, len(rows), figsize=(3.6 * len(rows), 3.6), layout="constrained", squeeze=False
    )
    lines = []
    for ax, (_, row) in zip(axes[0], rows.iterrows(), strict=True):
        x, y = zip(*row["points"], strict=True)
        ax.scatter(x, y, c=row["classes"], s=5, cmap="tab10")
        ax.set(title=row["data"], xticks=[], yticks=[])
        line = {"data": row["data"], "silhouette of the embedding": f"{row['silhouette']:.3f}"}
        if isinstance(row.get("by_agreement"), list):
            line["Spearman"] = f"{row['spearman']:+.3f}"
            for i, mean in enumerate(row["by_agreement"]):
                label = f"agreement {i / 5:.1f}-{(i + 1) / 5:.1f}"
                line[label] = "" if mean is None else f"{mean:.3f}"
        lines.append(line)
    fig.savefig(folder / "reproduce_embedding.png", dpi=120)
    plt.close(fig)
    return [
        "## Embedding (t-SNE of test samples) and attention against agreement of labels",
        "Attention of the last layer relative to an even spread over a node's edges, by the share "
        "of the source's other samples that have the node's class; Spearman's correlation over "
        "all edges. Seed 0.",
        to_markdown(pd.DataFrame(lines)),
        "![](reproduce_embedding.png)",
    ]


def learning_rates_section(rows: pd.DataFrame, folder: Path) -> list[str]:
    """Paper 2, table 1."""
    out = ["## Paper 2, table 1: cross-entropy on the test samples by learning rate"]
    for data, part in rows.groupby("data", sort=False):
        out += [f"### {data}", table(part, "row", "settings", "cross_entropy")]
    return out


def epochs_section(rows: pd.DataFrame, folder: Path) -> list[str]:
    """Paper 2, figure 1."""
    sets = rows.data.unique()
    fig, axes = plt.subplots(
        1, len(sets), figsize=(5 * len(sets), 3.8), layout="constrained", squeeze=False
    )
    for ax, data in zip(axes[0], sets, strict=True):
        for name, part in rows[rows.data == data].groupby("row", sort=False):
            curves = pd.DataFrame(part["curve"].tolist())
            ax.plot(curves.columns + 1, curves.mean(), label=name)
        ax.set(title=data, xlabel="epoch", ylabel="validation accuracy")
    axes[0, 0].legend()
    fig.savefig(folder / "reproduce_epochs.png", dpi=120)
    plt.close(fig)
    title = "## Paper 2, figure 1: accuracy against epochs, mean over seeds"
    return [title, "![](reproduce_epochs.png)"]


def folds_section(rows: pd.DataFrame, folder: Path) -> list[str]:
    """Paper 2, figure 2."""
    sets = rows.data.unique()
    fig, axes = plt.subplots(
        1, len(sets), figsize=(5 * len(sets), 3.8), layout="constrained", squeeze=False
    )
    for ax, data in zip(axes[0], sets, strict=True):
        groups = {
            n: p["macro"].to_numpy() for n, p in rows[rows.data == data].groupby("row", sort=False)
        }
        ax.boxplot(list(groups.values()), tick_labels=list(groups))
        ax.tick_params(axis="x", rotation=30)
        ax.set(title=data, ylabel="macro-F1")
    fig.savefig(folder / "reproduce_folds.png", dpi=120)
    plt.close(fig)
    return [
        "## Paper 2, figure 2: macro-F1 over seeds and five folds",
        to_markdown(
            rows.groupby(["data", "row"], sort=False)["macro"]
            .agg(lambda v: f"{summarise(v)} (median {v.median():.3f}, {len(v)} fits)")
            .unstack("data", sort=False)
            .reset_index()
        ),
        "![](reproduce_folds.png)",
    ]


def cost_section(rows: pd.DataFrame, folder: Path) -> list[str]:
    """Parameters, seconds per epoch, peak memory."""
    out = [
        "## Cost",
        "On random graphs, 20 % of the targets labelled, defaults, one thread: seconds of an epoch "
        "(median of three after the first, which makes what is kept for later ones), and memory "
        "above what the graph takes, at its peak.",
    ]
    for data, part in rows.groupby("data", sort=False):
        shown = pd.DataFrame(
            {
                "model": part["row"],
                "parameters": part["n_parameters"].map("{:,.0f}".format),
                "s per epoch": part["seconds_per_epoch"].map("{:.2f}".format),
                "s first epoch": part["first_epoch"].map("{:.1f}".format),
                "peak MB": part["peak_mb"].map("{:,.0f}".format),
            }
        )
        out += [f"### {data}", to_markdown(shown)]
    return out


def errors_section(frame: pd.DataFrame) -> list[str]:
    """What could not be run, and what the error said."""
    failed = frame[frame.error.notna()]
    if failed.empty:
        return []
    shown = failed.drop_duplicates(["experiment", "data", "row", "error"])
    return ["## Not run", to_markdown(shown[["experiment", "data", "row", "error"]])]
