"""Every law of QiD and of the loss on the same held-out measurements: `make contest`, or `contest.py TABLE…`.

Two things are asked of each law. The loss after quantization of a checkpoint of which nothing was measured: a law of
QiD has `kaplan-16bit`, fitted to the same checkpoints, beside it. And the QiD of one whose 16-bit loss is known, which
a law of the loss answers by a difference, if it has the 16-bit losses among its rows. All laws are taken at their word,
without a discrepancy and with effects of runs and checkpoints, so that equations are compared and not what mends them.

A table that is not shipped joins by its name or path; rows of tables that are not named stay. Of `atlas` whole
families are left out in turn. `docs/contest.md` reads the results.
"""

import os
import sys
import time
import warnings
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator
from scipy.special import logsumexp

import qidbayes as qb
from qidbayes.law import Law
from qidbayes.plots import style
from qidbayes.plots.save import save
from qidbayes.posterior.of_loss import qid_draws
from qidbayes.posterior.predictive import Predictive, crps
from qidbayes.score.parallel import each
from qidbayes.score.stacking import stacking_weights

HERE = Path(__file__).parent
TABLE, POINTS = HERE / "contest.csv", HERE / "contest-points.csv"
JOBS = int(os.environ.get("JOBS", os.cpu_count() or 1))
SEED, KEPT, EACH, RESAMPLES = 0, 500, 20, 400
SAMPLER = {"chains": 2, "random_seed": SEED}
FEWER = {"draws": 700, "tune": 500}
"""Transitions of a fit to `atlas`, whose rows are on no grid."""
QID = ("unified", "vanishing", "ceiling", "precision-ptq", "per-bit", "pooled-bit")
LOSS = ("shannon", "precision-training")
BESIDE = {"unified, shannon-16bit": "unified", "per-bit, shannon-16bit": "per-bit"}
"""Laws of QiD with the Shannon law of the 16-bit loss beside them, in the place of `kaplan-16bit`."""
ON_NANO = ("unified", "per-bit", "decayed", "per-bit, shannon-16bit")
"""A fit to nano takes minutes, of `shannon` more than ten. No other table has the column of `decayed`."""
FAMILIES, FAMILY = ("bloom", "llama-1", "opt", "pythia"), "a family that was not fitted"
"""Of `atlas`, those that had losses and rows of GPTQ when the contest was run, on its 796 rows. `nano` is far from any
model that somebody asks about: it is fitted, not left out, as are the suites that came later."""
KEYS = ("table", "split", "law")


@dataclass(frozen=True)
class Task:
    """One law and one split of one table."""

    table: str
    split: str
    law: str


def measured(name: str) -> pl.DataFrame:
    """Return a table's rows of GPTQ at 2 to 4 bits with the columns that some laws take."""
    table = qb.load_table(name)
    table = table.filter(pl.col("method") == "gptq", pl.col("bits") <= 4, pl.col("status") == "ok", pl.col("loss") > 0)
    if name in ("nano", "atlas"):  # of a QiD that is a twentieth noise or more, a law of the loss knows nothing
        table = table.filter(pl.col("qid_se").fill_null(0.0) <= 0.05 * pl.col("qid"))
    if name == "nano":
        table = table.filter(pl.col("group_size") == 64, pl.col("tokens") > 30e6)
        schedule = pl.col("model").str.split("-").list.get(2)
        cosine = 1 - (pl.col("learning_rate") - 2e-4) / (2e-3 - 2e-4)
        decayed = pl.when(schedule == "stable").then(0.0).when(schedule == "decayed").then(1.0).otherwise(cosine)
        table = table.with_columns(decayed=decayed.clip(0.0, 1.0))
    return table.filter(pl.col("qid") > 0).with_columns(bits_activation=pl.lit(16.0), bits_kv=pl.lit(16.0))


def rows(name: str) -> pl.DataFrame:
    """Return those of them that tell tokens, which all laws of the contest take."""
    return measured(name).filter(pl.col("tokens").is_not_null())


def splits(name: str) -> dict[str, tuple[pl.DataFrame, pl.DataFrame]]:
    """Return what is fitted and what is asked: larger models, the ends of runs, and both, as the Shannon paper does.

    Of `atlas`, one family after the other.
    """
    table = rows(name)
    if name == "atlas":
        of = {suite: pl.col("suite") == suite for suite in FAMILIES}
        return {f"{FAMILY}: {suite}": (table.filter(~own), table.filter(own)) for suite, own in of.items()}
    sizes = table["n_params"].unique().sort()
    large = pl.col("n_params") == sizes[-1]
    late = pl.col("tokens") > 0.33 * pl.col("tokens").max().over("model")
    early = pl.col("tokens") <= 0.6 * table["tokens"].max()
    return {
        "the last two thirds of runs": (table.filter(~late), table.filter(late)),
        "the largest size": (table.filter(~large), table.filter(large)),
        "the largest size, fitted to the first 60% of tokens": (table.filter(~large & early), table.filter(large)),
    }


def declared(name: str) -> Law:
    """Return a law that is taken at its word, with effects of runs."""
    law = qb.load_law(BESIDE.get(name, "shannon" if name == "shannon-16bit" else name))
    if name == "shannon-16bit":
        priors = {parameter: qb.Prior(p.family, **dict(p.arguments)) for parameter, p in law.priors.items()}
        law = replace(law, name=name, response="loss_16bit", unquantized=None, priors=priors)
    groups = ("model",) if law.response == "loss_16bit" else ("model", "checkpoint")
    return law.with_noise(discrepancy="none", groups=groups)


def thinned(found: Predictive) -> Predictive:
    """Return so many of the draws, evenly spaced."""
    keep = np.linspace(0, len(found.mean) - 1, KEPT).round().astype(int)
    return Predictive(found.mean[keep], found.sd[keep])


def of_sum(base: Predictive, qid: Predictive, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return draws of 16-bit loss + QiD, and the log density of measured losses (nats per token, each its own row).

    The density of a sum is the mean over draws of one part of the density of the other at what is left. Either part may
    be drawn; the mean of both estimates is good where either is.
    """
    rng = np.random.default_rng(SEED)
    whole, added = (np.exp(p.mean + p.sd * rng.standard_normal((EACH, *p.mean.shape))) for p in (base, qid))
    densities = [_of_rest(qid, loss - whole), _of_rest(base, loss - added)]
    return (whole + added).reshape(-1, len(loss)), np.logaddexp(*densities) - np.log(2)


def _of_rest(part: Predictive, rest: np.ndarray) -> np.ndarray:
    """Return the log of the mean density of a part of a sum at what the other part leaves; shape ``(rows,)``."""
    log_rest = np.log(np.where(rest > 0, rest, 1.0))
    log_density = -0.5 * ((log_rest - part.mean) / part.sd) ** 2 - np.log(part.sd * np.sqrt(2 * np.pi)) - log_rest
    log_density = np.where(rest > 0, log_density, -np.inf).reshape(-1, rest.shape[-1])
    return np.asarray(logsumexp(log_density, axis=0) - np.log(len(log_density)))


@cache
def base_of(table: str, split: str, law: str) -> qb.Fit:
    """Return the fit of a law of the 16-bit loss, which stands beside several laws of QiD."""
    return fitted(table, split, law)


def fitted(table: str, split: str, law: str) -> qb.Fit:
    """Return a law's fit to the first part of a split."""
    return qb.fit(splits(table)[split][0], declared(law), **SAMPLER, **(FEWER if table == "atlas" else {}))


def answers(task: Task) -> tuple[pl.DataFrame, dict[str, object]]:
    """Fit, and return a row for each measurement that was held out, and what there is to say of the fit."""
    warnings.simplefilter("ignore")
    _, asked = splits(task.table)[task.split]
    started = time.process_time()
    fit = fitted(task.table, task.split, task.law)
    seconds, law = time.process_time() - started, fit.law
    loss, qid = asked["loss"].to_numpy(), asked["qid"].to_numpy()
    expected = thinned(fit.predictive(asked))
    if law.response == "qid":
        base = base_of(task.table, task.split, "shannon-16bit" if task.law in BESIDE else "kaplan-16bit")
        draws, log_density = of_sum(thinned(base.predictive(asked)), expected, loss)
        of_qid = np.exp(expected.draws(SEED))
    else:
        draws, log_density = np.exp(expected.draws(SEED)), expected.log_density(np.log(loss)) - np.log(loss)
        of_qid = qid_draws(fit, fit.curve(), asked, "response") if law.unquantized else None
    found = {"loss": scored(draws, loss), **({"qid": scored(of_qid, qid)} if of_qid is not None else {})}
    columns = {f"{what}_{name}": values for what, scores in found.items() for name, values in scores.items()}
    said = {"seconds": round(seconds, 1), "failed": "; ".join(fit.diagnostics.problems())}
    named = asked.select("model", "n_params", "tokens", "bits", "loss", "qid")
    columns = {"log_density": log_density, **columns}
    return named.with_columns(pl.Series(name, values) for name, values in columns.items()), said


def scored(draws: np.ndarray, measured: np.ndarray) -> dict[str, np.ndarray]:
    """Return the median, the 90% band and CRPS of each row, in nats per token."""
    low, middle, high = np.quantile(draws, [0.05, 0.5, 0.95], axis=0)
    return {"median": middle, "lower": low, "upper": high, "crps": crps(draws, measured)}


def summary(points: pl.DataFrame) -> pl.DataFrame:
    """Return the scores of each law on each split."""

    def of(what: str) -> list[pl.Expr]:
        inside = pl.col(what).is_between(f"{what}_lower", f"{what}_upper").mean()
        width = (pl.col(f"{what}_upper") - pl.col(f"{what}_lower")).median()
        return [inside.alias(f"{what}_coverage_90"), width.alias(f"{what}_width_90"), pl.col(f"{what}_crps").mean()]

    error = pl.col("loss") - pl.col("loss_median")
    r2 = 1 - error.pow(2).sum() / (pl.col("loss") - pl.col("loss").mean()).pow(2).sum()
    return points.group_by(*KEYS, maintain_order=True).agg(
        pl.len().alias("points"), pl.col("log_density").mean(), *of("loss"), r2.alias("loss_r2"), *of("qid")
    )


def weights(points: pl.DataFrame) -> pl.DataFrame:
    """Return stacked weights of the log density of the loss, with a 90% interval over resampled runs.

    A split that asks of a single run has no interval.
    """
    found = []
    for (table, split), some in points.group_by("table", "split", maintain_order=True):
        rows = some.with_columns(row=pl.int_range(pl.len()).over("law"))  # every law answers them in one order
        wide = rows.pivot(on="law", index=["row", "model"], values="log_density", maintain_order=True)
        laws = wide.columns[2:]
        density, runs = wide.select(laws).to_numpy(), wide["model"].to_numpy()
        names, rng = np.unique(runs), np.random.default_rng(SEED)
        own = stacking_weights(density)
        resampled = []
        for _ in range(RESAMPLES if len(names) > 1 else 0):
            chosen = np.concatenate([np.flatnonzero(runs == one) for one in rng.choice(names, len(names))])
            resampled.append(stacking_weights(density[chosen]))
        low, high = np.quantile(resampled, [0.05, 0.95], axis=0) if resampled else (np.full(len(laws), np.nan),) * 2
        columns = {"table": table, "split": split, "runs": len(names), "law": laws}
        found.append(pl.DataFrame({**columns, "weight": own, "lower": low, "upper": high}))
    return pl.concat(found)


def draw(table: pl.DataFrame) -> None:
    """Draw each law's error of the loss and of QiD, and its stacked weight, a row of panels for each table."""
    names = table["table"].unique(maintain_order=True).to_list()
    parts = {"loss_crps": "CRPS of the loss (nats/token)", "qid_crps": "CRPS of QiD (nats/token)", "weight": "Weight"}
    looks = style.by_name(table["split"].unique(maintain_order=True))
    counts = [table.filter(table=name)["law"].n_unique() for name in names]
    notes = [
        "Measurements that were not fitted. Left and middle: the mean continuous ranked probability score (CRPS), the "
        "lower the better. Right: each law's share in the mixture of all with the highest log density of the loss; "
        "bars: 90% over resampled runs.",
    ]
    with style.context():
        figure = style.figure("The contest of laws", notes, height=0.9 + 0.5 * len(names) + 0.21 * sum(counts))
        grid = figure.subplots(len(names), 3, sharey="row", squeeze=False, height_ratios=counts)
        for name, panels in zip(names, grid, strict=True):
            some = table.filter(table=name)
            laws = some["law"].unique(maintain_order=True).to_list()[::-1]
            own = some["split"].unique(maintain_order=True).to_list()
            for axes, (column, label) in zip(panels, parts.items(), strict=True):
                for i, split in enumerate(own):
                    rows, look = some.filter(split=split), looks[split]
                    y = np.array([laws.index(law) for law in rows["law"]]) + 0.22 * ((len(own) - 1) / 2 - i)
                    axes.plot(rows[column], y, linestyle="none", marker=look.marker, color=look.color)
                    if column == "weight":
                        axes.hlines(y, rows["lower"], rows["upper"], color=look.color, lw=0.9)
                if column != "weight":
                    axes.set_xscale("log")
                    style.nats_axis(axes.xaxis)
                    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7), numticks=99))
                    axes.xaxis.set_minor_locator(NullLocator())
                axes.set_yticks(range(len(laws)), laws)
                axes.set_ylim(-0.6, len(laws) - 0.4)
                axes.set_xlabel(label)
                style.grid(axes)
            panels[0].set_title(name, loc="left", fontweight="bold")
        handles = [
            Line2D([], [], linestyle="none", marker=look.marker, color=look.color, label=split)
            for split, look in looks.items()
        ]
        style.legend_below(figure, handles, 2)
        save(figure, HERE.parent / "docs" / "images" / "contest.png")


def kept(task: Task) -> tuple[pl.DataFrame, dict[str, object]]:
    """Return the answers to a task, from a run before if there are any."""
    folder = HERE / "contest"
    folder.mkdir(exist_ok=True)
    path = folder / f"{Path(task.table).stem}-{task.law}-{task.split}.parquet"
    if not path.exists():
        points, said = answers(task)
        points.write_parquet(path, metadata={name: str(value) for name, value in said.items()})
    found = pl.read_parquet_metadata(path)
    named = {"table": task.table, "split": task.split, "law": task.law}
    about = {"seconds": float(found["seconds"]), "failed": found["failed"]}
    return pl.read_parquet(path).with_columns(**{k: pl.lit(v) for k, v in named.items()}), {**named, **about}


def main() -> None:
    """Run the contest on the tables named, and write its tables; what a run before has done is kept in a folder."""
    found: list[tuple[pl.DataFrame, dict[str, object]]] = []
    for name in sys.argv[1:] or ["pythia", "nano"]:
        laws, asked = (*QID, *BESIDE, *LOSS), list(splits(name))
        if name == "nano":
            laws = ON_NANO
        print(f"{name}: {measured(name).height - rows(name).height} rows without tokens are left out", flush=True)
        for one in each(kept, [Task(name, split, law) for law in laws for split in asked], JOBS):
            found.append(one)
            print(*one[1].values(), flush=True)
    whole = pl.col("split").str.split(": ").list.first()  # the families that were left out, together
    points = pl.concat([one for one, _ in found], how="diagonal").with_columns(whole)
    of_fits = pl.DataFrame([said for _, said in found]).with_columns(whole).group_by(KEYS, maintain_order=True)
    said = of_fits.agg(pl.col("seconds").sum(), pl.col("failed").filter(pl.col("failed") != "").str.join("; "))
    table = summary(points).join(said, on=KEYS, maintain_order="left")
    table = table.join(weights(points), on=KEYS, maintain_order="left").with_columns(pl.selectors.float().round(4))
    points = points.select(*KEYS, pl.exclude(KEYS)).with_columns(pl.selectors.float().round_sig_figs(5))
    table, points = (with_others(made, file) for made, file in ((table, TABLE), (points, POINTS)))
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=240):
        print(table)
    table.write_csv(TABLE)
    points.write_csv(POINTS)
    draw(table)


def with_others(made: pl.DataFrame, file: Path) -> pl.DataFrame:
    """Return a table with the rows of other tables that the file has."""
    known = pl.read_csv(file, schema_overrides=made.schema) if file.exists() else made.clear()
    others = known.filter(~pl.col("table").is_in(made["table"].unique().implode()))
    return pl.concat([others, made], how="diagonal_relaxed")


if __name__ == "__main__":
    main()
