"""On paper: 1,500 Pythia checkpoints x 13 cells on 8 to 2,048 GPUs (`make scale`): scale.csv, docs/images/scale.png.

Seconds of a checkpoint are the dry run's, whose constants are fitted to the passes measured on an H200 (sweep.csv), and
those of three digests of its files. A GPU downloads a checkpoint, measures it, and takes the next: of the queue that
all share (claims in one store), or of its own shard. Downloads share one link evenly, and none is faster than one
stream. Nothing else takes time: no node fails, main memory and disks keep up, the hub answers.
"""

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from qidbayes.measure import Plan, load_plan
from qidbayes.measure.plan.cost import estimate, seconds_of
from qidbayes.measure.plan.shard import deal, longest_first
from qidbayes.resources import shipped

HERE = Path(__file__).parent
CHECKPOINTS = 250  # of each of six sizes
GPUS = tuple(2**n for n in range(3, 12))
HOURS = (0.1, 0.3, 1, 3, 10, 30)
LINKS = {"10 Gbit/s": 1.25e9, "100 Gbit/s": 12.5e9, "at hand": 1e30}  # bytes a second, of all GPUs together
STREAM = 0.5e9  # bytes a second, of one download
DIGEST = 1.0e9  # bytes a second; sha256 on one core
DIGESTS = 3  # of the download, against the hub's; of the weights before and after, against those of other checkpoints


@dataclass(frozen=True)
class Job:
    """One checkpoint: bytes to download, then seconds to measure."""

    bytes: float
    seconds: float


def simulate(queues: Sequence[Sequence[Job]], gpus: int, link: float, stream: float) -> tuple[float, float]:
    """Return when the last of the GPUs is done, and how many seconds they spent downloading, together.

    Parameters
    ----------
    queues
        One that all GPUs share, or one for each.
    gpus
        How many there are.
    link, stream
        Bytes a second of all downloads together, shared evenly, and of one at most.
    """
    waiting = [deque(queue) for queue in queues]
    mine = [waiting[0] if len(waiting) == 1 else waiting[gpu] for gpu in range(gpus)]
    now = served = downloading = 0.0  # `served`: bytes that a download under way since the beginning would have had
    loading: list[tuple[float, int, Job]] = []  # by the `served` at which each is complete
    measuring: list[tuple[float, int]] = []  # by when each is done

    def take(gpu: int) -> None:
        if mine[gpu]:
            job = mine[gpu].popleft()
            heapq.heappush(loading, (served + job.bytes, gpu, job))

    for gpu in range(gpus):
        take(gpu)
    while loading or measuring:
        rate = min(stream, link / len(loading)) if loading else 0.0
        loaded = now + (loading[0][0] - served) / rate if loading else math.inf
        done = measuring[0][0] if measuring else math.inf
        then = min(loaded, done)
        served += rate * (then - now)
        downloading += len(loading) * (then - now)
        now = then
        if loaded <= done:
            _, gpu, job = heapq.heappop(loading)
            heapq.heappush(measuring, (now + job.seconds, gpu))
        else:
            take(heapq.heappop(measuring)[1])
    return now, downloading


def workload() -> tuple[Plan, dict[str, Job]]:
    """Pythia's six sizes at 250 revisions each, with the quantizations and texts of the shipped `pythia-full`."""
    plan = load_plan(shipped("measurements") / "pythia-full" / "plan.toml")
    models = {c.model: c for c in plan.checkpoints}.values()
    many = tuple(replace(c, revision=f"step{n + 1}") for c in models for n in range(CHECKPOINTS))
    jobs = {}
    for checkpoint in models:
        (one,) = estimate(replace(plan, checkpoints=(checkpoint,)))
        seconds = seconds_of(plan, checkpoint) + DIGESTS * one.download_bytes / DIGEST
        jobs[checkpoint.model] = Job(one.download_bytes, seconds)
    return replace(plan, checkpoints=many), jobs


def main() -> None:
    plan, jobs = workload()
    for model, job in jobs.items():
        print(f"{model}: {job.bytes / 1e9:.1f} GB, {job.seconds:.0f} s")
    planned = [jobs[c.model] for c in plan.checkpoints]
    longest = [jobs[c.model] for c in longest_first(plan)]
    work, size = sum(job.seconds for job in planned), sum(job.bytes for job in planned)
    print(f"together {work / 3600:.0f} GPU-hours, {size / 1e12:.1f} TB")
    rows = []
    for gpus in GPUS:
        dealt = deal(plan, gpus)
        shards = [[jobs[c.model] for c in plan.checkpoints if dealt[c] == n + 1] for n in range(gpus)]
        ways = {"shared, plan's order": [planned], "shared, longest first": [longest], "shards": shards}
        for name, link in LINKS.items():
            for way, queues in ways.items():
                stream = link if name == "at hand" else STREAM
                seconds, downloading = simulate(queues, gpus, link, stream)
                alone = max(job.seconds + job.bytes / stream for job in planned)
                rows.append(
                    {
                        "gpus": gpus,
                        "link": name,
                        "way": way,
                        "hours": seconds / 3600,
                        "busy": work / (gpus * seconds),
                        "downloading": downloading / (gpus * seconds),
                        "hours_if_evenly_split": work / gpus / 3600,
                        "hours_of_download": size / link / 3600,
                        "hours_of_longest": alone / 3600,
                    }
                )
    table = pl.DataFrame(rows)
    table.write_csv(HERE / "scale.csv", float_precision=4)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=150):
        print(table.filter(pl.col("gpus").is_in([8, 64, 512])))
    draw(table)


def draw(table: pl.DataFrame) -> None:
    from matplotlib.figure import Figure

    from qidbayes.plots import style
    from qidbayes.plots.save import save

    with style.context():
        figure = Figure(figsize=(style.WIDTH, 0.65 * style.WIDTH), layout="constrained")
        axes = figure.subplots()
        for name, look in style.by_name(LINKS).items():
            some = table.filter(pl.col("way") == "shared, longest first", pl.col("link") == name)
            label = "files at hand" if name == "at hand" else f"all downloads over {name}"
            axes.plot(some["gpus"], some["hours"], marker=look.marker, color=look.color, label=label)
            if name != "at hand":
                least = some["hours_of_download"][0]
                axes.axhline(least, color=look.color, linestyle=":", linewidth=1)
                axes.text(8, 0.97 * least, f"the files over {name}", color=look.color, va="top", fontsize="small")
        one = table.filter(link="at hand", way="shared, longest first")
        axes.plot(one["gpus"], one["hours_if_evenly_split"], ":", color="grey", label="work / GPUs")
        longest = one["hours_of_longest"][0]
        axes.axhline(longest, color="grey", linestyle="--", linewidth=1)
        axes.annotate("one 12B checkpoint", (8, longest), color="grey", va="bottom", fontsize="small")
        axes.set(xscale="log", yscale="log", xlabel="H200 GPUs", ylabel="hours")
        axes.set_xticks(GPUS, [str(n) for n in GPUS])
        axes.set_yticks(HOURS, [f"{hours:g}" for hours in HOURS])
        axes.minorticks_off()
        axes.set_title("1,500 Pythia checkpoints × 13 cells, simulated, the longest first")
        axes.legend()
    save(figure, HERE.parent / "docs" / "images" / "scale.png")


if __name__ == "__main__":
    main()
