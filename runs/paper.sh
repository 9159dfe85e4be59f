#!/usr/bin/env bash
# All of this package's results from nothing: `bash runs/paper.sh`, from anywhere. Times are of two cores.
#
# Every step is a command of its own: run the ones you want. What it makes lies where the docs look for it, with a row
# in checks/provenance.csv (commit, version, day, machine). With an H100 set GPU=1 for the steps at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

# The paper's points, fitted: constants, Table 1's tokens to thresholds and Figure 1's projection to 100T tokens, each
# with intervals and beside the paper's own numbers. In demo/, and in the README's tables. Four minutes.
make readme

# Table 1 and Figure 1 as the paper printed them: constants read back from Table 1, and Eq. 8 as it stands. Seconds.
.venv/bin/qidbayes tokens --published per-bit
.venv/bin/qidbayes tokens --published unified
.venv/bin/qidbayes project --published per-bit

# Figures 1 to 11, from ten fits. Ten minutes.
make figures

# Do bands hold where nothing was fitted? Later tokens, larger models, other bit widths, methods and suites. Forty minutes.
make backtest

# Which law? Grouped scores, stacking weights and leave-one-out of every law of QiD. Seventy minutes.
make compare
# The docs have the contest on the atlas of 796 rows; this one is on the table as it is now.
make contest CONTEST="pythia nano atlas"
# Each law's constants, simulated from and asked back. A quarter of an hour of one core.
make recovery
# A search for a law's form, on tables whose law is known and on shipped ones. Some minutes.
make search
make atlas
make atlas-later
# The table of many families and its posterior, as the package has them. A quarter of an hour of a core.
make atlas-fit

# The same where the truth is known, other forms of the discrepancy, and 100T tokens with slopes that wander. Twenty minutes.
make worlds
make forms
make far
# A fit given a family's rows against fits of all rows, and which sets of rows are refused. Ten minutes of one core.
make atlas-condition

# Every law on every table that it can be fitted to, with its diagnostics. Seven hours of a core, most of it bitnet.
make laws

# How many points a fit needs, from simulated tables. A quarter of an hour.
make points

# Tokens or learning rate? The suite nano, beside Pythia. Some hours.
make nano

# Models trained in low bits, and whether the drift of weights explains QiD. Two minutes.
make native
make nano-drift

# Does the sampler return the posterior that the docs state? 1,000 simulated tables of every law. A day; 20 minutes of 64 cores.
make sbc

# Are the fits exact? Against PyMC's NUTS on one dense normal, on five shapes of tables. Five minutes.
make exact

# Are posteriors what they were before the code was put in order? Five against those of an earlier commit. A minute.
make move

# How fast: against other samplers. Ten minutes.
make bench-fit

# Time and memory against rows, up to 100,000. Ten minutes.
make growth

# From weights to a law: the shipped tiny checkpoints, quantized and measured here. Five minutes.
make demo-measure

# Our quantizers against the libraries' own, each in an environment of its own. An hour, most of it downloads.
make check-quantizers
make check-hqq

# 1,500 checkpoints on 8 to 2,048 GPUs, on paper. Seconds.
make scale

# How far off a QiD is whose evaluation ends early: simulations. A minute.
.venv/bin/python benchmarks/until.py bias

# On one H100: the paper's Pythia checkpoints measured anew (921 GB to download, some 15 hours), and the speed of it.
if [ -n "${GPU:-}" ]; then
    .venv/bin/qidbayes measure pythia --output demo/pythia
    .venv/bin/qidbayes fit demo/pythia/table.parquet --method gptq --seed 0 --force --output demo/pythia.nc
    .venv/bin/python benchmarks/sweep.py
    .venv/bin/python benchmarks/sweep_estimate.py
    .venv/bin/python benchmarks/sweep_figure.py
    .venv/bin/python benchmarks/until.py measure measurements/tiny/plan.toml demo/until-tiny.csv
    .venv/bin/python benchmarks/until_fit.py demo/until-tiny.csv
    .venv/bin/python benchmarks/formats.py
    .venv/bin/python benchmarks/machines.py
    .venv/bin/python benchmarks/gpu.py
fi

# The site with all of it, in docs/site. A minute.
make docs
