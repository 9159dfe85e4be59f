"""Read a plan from its TOML file."""

import os
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import cast

from qidbayes.errors import InputError
from qidbayes.measure.plan.methods import CHANNEL, METHODS, PREQUANTIZED, Method, check_settings
from qidbayes.measure.plan.plan import (
    CATALOGUE,
    Calibration,
    Checkpoint,
    Evaluation,
    Plan,
    Quantization,
    Source,
    TextSet,
    digest,
)
from qidbayes.measure.plan.schedule import SHAPES, Schedule, Shape
from qidbayes.methods import OF_FILES, SYNONYMS, old_type
from qidbayes.model_names import read_name
from qidbayes.toml import LARGEST, LONGEST, Section, accepted, read_toml

_MAX_BYTES = 1_000_000
DTYPES = ("float16", "bfloat16", "float32")
_BEGINS = ("document", "window")  # where a begin-of-text token may stand
_MOST = 10_000  # checkpoints, and quantizations, of one plan: more is a slip, and would fill the memory
_MOST_CELLS = 1_000_000  # likewise, of all checkpoints together
_MOST_ORDERS = 16
_LEAST_PARAMETERS, _LEAST_TOKENS = 1_000, 100_000  # the table's: what is smaller was written in other units
_NAME = re.compile("[a-z0-9][a-z0-9.-]*")


def load_plan(path: str | os.PathLike[str]) -> Plan:
    """Read and check a plan; needs neither torch nor a network.

    Relative paths in it are relative to the file's folder.

    Raises
    ------
    InputError
        Naming the file, the table and the key, and what would be accepted there.

    Examples
    --------
    >>> from qidbayes.resources import shipped
    >>> plan = load_plan(shipped("measurements") / "tiny" / "plan.toml")
    >>> plan.suite, len(plan.checkpoints), str(plan.quantizations[0])
    ('tiny', 12, 'gptq 2 bits g32')
    """
    path = Path(path)
    root = Section(read_toml(path, "a plan", _MAX_BYTES), str(path))
    folder = path.absolute().parent
    says = digest(root.values)
    evaluation = root.section("evaluation")
    plan = Plan(
        suite=_slug(root, "suite"),
        title=root.text("title", default=""),
        dtype=root.choice("dtype", DTYPES) if "dtype" in root else None,
        begin=root.choice("begin", _BEGINS) if "begin" in root else None,
        seed=root.count("seed", default=0, minimum=0),
        checkpoints=_checkpoints(root, folder),
        quantizations=_all_quantizations(root, folder),
        evaluation=_evaluation(evaluation, folder),
        calibration=_calibration(root.section("calibration"), folder) if "calibration" in root else None,
        hash=says,
    )
    root.close()
    _check_together(plan, root.where)
    return plan


def _slug(table: Section, key: str, default: str | None = None, *, fold: bool = False) -> str:
    name = table.text(key, default)
    name = name.lower() if fold else name
    if not _NAME.fullmatch(name):
        raise table.wrong(key, "a name of lower-case letters, digits, '.' and '-'")
    return name


def _source(table: Section, folder: Path) -> Source:
    """Read `id = "owner/name"` (the hub) or `path = "folder"`."""
    if ("id" in table) == ("path" in table):
        raise InputError(f'{table.where}: give either id = "owner/name" (on the hub) or path = "a folder"')
    if "id" in table:
        return Source(table.text("id"))
    return Source(table.text("path"), folder / table.text("path"))


def _checkpoints(root: Section, folder: Path) -> tuple[Checkpoint, ...]:
    steps = _Steps(root.section("revisions")) if "revisions" in root else None
    models = root.sections("models")
    with_steps = sum("tokens" not in table for table in models) if steps else 0
    made = len(models) - with_steps + (with_steps * len(steps.steps) if steps else 0)
    if made > _MOST:
        raise InputError(f"{root.where}: {len(models):,} models make {made:,} checkpoints; give at most {_MOST:,}")
    return tuple(c for table in models for c in _checkpoints_of(table, folder, steps))


class _Steps:
    """The plan's `[revisions]`: the steps every model was kept at, and what a step means."""

    def __init__(self, table: Section) -> None:
        self.name = table.text("name", default="step{step}")
        if "{step}" not in self.name:
            raise table.wrong("name", 'a pattern with {step} in it, like "step{step}"')
        self.steps = [_whole(table, "steps", value) for value in table.many("steps", "a list of training steps")]
        self.tokens_per_step = table.count("tokens_per_step")
        if min(self.steps) * self.tokens_per_step < _LEAST_TOKENS:
            raise table.wrong("steps", f"steps that make at least {_LEAST_TOKENS:,} training tokens each")
        if max(self.steps) * self.tokens_per_step > LARGEST:
            raise table.wrong("tokens_per_step", "the training tokens of one step")
        self.schedule = _schedule(table.section("learning_rate")) if "learning_rate" in table else None
        table.close()


def _schedule(table: Section) -> Schedule:
    shape = table.choice("schedule", SHAPES)
    constant = shape == "constant"
    warmup = table.count("warmup_steps", default=0, minimum=0)
    total = table.count("total_steps", default=0 if constant else None, minimum=0 if constant else warmup + 1)
    final = float(table.number("final", default=1.0 if constant else 0.0, minimum=0))
    table.close()
    return Schedule(cast("Shape", shape), warmup, total, final)


def _checkpoints_of(table: Section, folder: Path, steps: _Steps | None) -> list[Checkpoint]:
    source = _source(table, folder)
    model = table.text("name", default=source.name)
    n_params = table.count("n_params", minimum=_LEAST_PARAMETERS)
    peak = float(table.number("learning_rate", minimum=0)) if "learning_rate" in table else None
    tokenizer = _tokenizer(table, "tokenizer", folder)

    def checkpoint(revision: str, tokens: int, rate: float | None) -> Checkpoint:
        filled = source.filled(revision=revision)
        if len(filled.name) > LONGEST:
            raise InputError(f"{table.where}: its path is longer than {LONGEST:,} characters; give a shorter one")
        return Checkpoint(model, filled, revision, n_params, tokens, rate, tokenizer)

    if "tokens" in table:
        made = [checkpoint(table.text("revision", default="main"), table.count("tokens", minimum=_LEAST_TOKENS), peak)]
    elif steps is None:
        raise InputError(f"{table.where}: give tokens, or a table [revisions] with the steps of every model")
    else:
        schedule = steps.schedule or Schedule()
        made = [
            checkpoint(
                steps.name.replace("{step}", str(step)),
                step * steps.tokens_per_step,
                None if peak is None else schedule.rate(peak, step),
            )
            for step in steps.steps
        ]
    table.close()
    return made


def _tokenizer(table: Section, key: str, folder: Path) -> Source | None:
    """Where a tokenizer is: a folder if there is one, else a repository of the hub."""
    name = table.optional_text(key)
    if name is None:
        return None
    try:
        here = (folder / name).is_dir()
    except OSError:  # a name too long for a file's, or a folder that may not be looked into
        here = False
    return Source(name, folder / name) if here else Source(name)


def _whole(table: Section, key: str, value: object, least: int = 1, most: int = LARGEST) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        upto = "" if most == LARGEST else f" and at most {most}"
        raise table.wrong(key, f"whole numbers of at least {least}{upto}")
    return value


def _all_quantizations(root: Section, folder: Path) -> tuple[Quantization, ...]:
    tables = root.sections("quantizations")
    made = sum(table.size("bits") * table.size("group_size") for table in tables)  # before any of them is
    if made > _MOST:
        raise InputError(
            f"{root.where}: {len(tables):,} tables [[quantizations]] make {made:,} widths and group sizes; "
            f"give at most {_MOST:,}"
        )
    return tuple(q for table in tables for q in _quantizations(table, folder))


def _quantizations(table: Section, folder: Path) -> list[Quantization]:
    """One quantization for every width and group size that the table names."""
    name_of_method = table.choice("method", METHODS)
    method = METHODS[name_of_method]
    name = _slug(table, "name", default=name_of_method, fold=True)
    known = {"name", *method.settings}
    if name_of_method == PREQUANTIZED:
        return _of_files(table, folder, known)
    shapes = [method.fixed] if method.fixed else _shapes(table, method)
    said = _settings(table, name_of_method, known)
    name = SYNONYMS.get(name, name)
    return [Quantization(name, name_of_method, bits, group, said) for bits, group in shapes]


def _settings(table: Section, method: str, known: Collection[str]) -> tuple[tuple[str, object], ...]:
    settings = table.rest()
    for key in settings:
        if key not in known:
            raise InputError(f"{table.where}: {method} has no setting {key}; {accepted(key, known)}")
    try:
        check_settings(method, settings)
    except InputError as error:
        raise InputError(f"{table.where}: {error}") from None
    return tuple(sorted(settings.items()))


def _of_files(table: Section, folder: Path, known: set[str]) -> list[Quantization]:
    """Files that somebody else has quantized; of GGUF the type says what a row's method, bits and settings are."""
    source = _source(table, folder)
    models = frozenset(map(str, table.many("models", "a list of models"))) if "models" in table else None
    recipe, name = table.text("settings", default=""), table.text("name", default="").lower()
    if "file" in table or name.partition("-")[0] == OF_FILES:
        source = replace(source, file=_file(table) if "file" in table else None)
        first, _, rest = name.partition("-")
        if first not in ("", OF_FILES):
            raise table.wrong("name", f"none to a GGUF file, whose method is {OF_FILES}; settings tell files apart")
        recipe, bits = _type(table, source, recipe or old_type(name) or rest)
        name = OF_FILES
        shapes: list[tuple[float, int | None]] = [(bits, None)]
    else:
        if not name:
            raise table.wrong("name", "what the files were quantized with, such as gptq, awq, autoround or bnb-nf4")
        name = _slug(table, "name", fold=True)
        shapes = [(float(bits), group) for bits, group in _shapes(table, METHODS[PREQUANTIZED])]
    said = _settings(table, PREQUANTIZED, known | {"id", "path", "file", "models", "settings"})
    return [
        Quantization(SYNONYMS.get(name, name), PREQUANTIZED, bits, group, said, source, models, recipe)
        for bits, group in shapes
    ]


def _type(table: Section, source: Source, recipe: str) -> tuple[str, float]:
    """Return what the table's `settings` will say of a GGUF file, maker and type first, and its bits."""
    if "group_size" in table:
        raise InputError(f"{table.where}: group_size: a GGUF file's type says it; leave it out")
    said = read_name(source.file or "")[1]
    if not read_name(recipe)[1].method:
        owner = f"{source.name.partition('/')[0]}/" if source.folder is None else ""
        recipe = ", ".join(filter(None, (owner + said.settings if said.settings else "", recipe)))
    bits = table.number("bits", default=read_name(recipe)[1].bits or 0.0)
    if not 1 <= bits <= METHODS[PREQUANTIZED].settings["bits"].most:
        raise table.wrong("bits", "the bits a weight of its matrices, or in settings the type of the file, like Q4_K_M")
    return recipe, float(bits)


def _file(table: Section) -> str:
    name = table.text("file")
    if not name.endswith(".gguf") or "/" in name or "\\" in name:
        raise table.wrong("file", 'the name of a GGUF file in it, like "model-Q4_K_M.gguf"')
    return name


def _shapes(table: Section, method: Method) -> list[tuple[int, int | None]]:
    return list(product(_widths(table, method), _group_sizes(table)))


def _widths(table: Section, method: Method) -> list[int]:
    bits = method.settings["bits"]
    values = table.many("bits", "a width in bits, or a list of them")
    return [_whole(table, "bits", value, int(bits.least), int(bits.most)) for value in values]


def _group_sizes(table: Section) -> list[int | None]:
    if "group_size" not in table:
        raise table.wrong("group_size", f'the number of weights that share a scale, or "{CHANNEL}"')
    values = table.many("group_size", f'a whole number, "{CHANNEL}", or a list of them')
    # GPTQ's own files say -1.
    return [None if value in (CHANNEL, -1) else _whole(table, "group_size", value) for value in values]


def _text_set(table: Section, folder: Path) -> TextSet:
    """Read a text set: one of the catalogue by its name, a data set of the hub, or local files."""
    name = _slug(table, "name")
    if "path" in table:
        made = TextSet(name, path=folder / table.text("path"), column=table.optional_text("column"))
    else:
        known = CATALOGUE.get(name)
        if known is None and "id" not in table:
            raise InputError(
                f"{table.where}: give {name!r} an id or a path, or name a known set; {accepted(name, CATALOGUE)}"
            )
        base = known or TextSet(name)
        made = TextSet(
            name,
            table.text("id", default=base.id),
            table.optional_text("config") or base.config,
            table.text("split", default=base.split),
            table.optional_text("column") or base.column,
            table.optional_text("revision"),
            joined=base.joined,
        )
    table.close()
    return made


def _evaluation(table: Section, folder: Path) -> Evaluation:
    seq_len = table.count("seq_len", minimum=8)
    made = Evaluation(
        tuple(_text_set(one, folder) for one in table.sections("datasets")),
        seq_len,
        table.count("tokens", minimum=2 * seq_len),  # a standard error needs two windows
        _tokenizer(table, "reference_tokenizer", folder),
        float(table.number("until")) if "until" in table else None,
    )
    if made.until is not None and not 0 < made.until < 1:
        raise table.wrong("until", "a share of QiD above 0 and below 1, like 0.02")
    table.close()
    return made


def _calibration(table: Section, folder: Path) -> Calibration:
    dataset = _text_set(table.section("dataset"), folder)
    made = Calibration(dataset, table.count("windows"), table.count("seq_len"), table.count("orders", default=1))
    if made.orders > _MOST_ORDERS or (made.orders > 1 and made.windows == 1):
        raise table.wrong("orders", f"1 to {_MOST_ORDERS}, and 1 where there is one window")
    table.close()
    return made


def _check_together(plan: Plan, where: str) -> None:
    """Refuse what only shows when tables are held against each other."""
    of_model = Counter(checkpoint.model for checkpoint in plan.checkpoints)
    quantized = sum(  # checkpoints, each as often as it is quantized
        many * sum(of_model[model] for model in of_model if models is None or model in models)
        for models, many in Counter(q.models for q in plan.quantizations).items()
    )
    cells = (len(plan.checkpoints) + quantized) * len(plan.evaluation.datasets)
    if cells > _MOST_CELLS:
        raise InputError(
            f"{where}: {len(plan.checkpoints):,} checkpoints, {len(plan.quantizations):,} quantizations and "
            f"{len(plan.evaluation.datasets):,} evaluation sets make {cells:,} cells; give at most {_MOST_CELLS:,}"
        )
    for kind, names in {
        "models and revisions": [str(c) for c in plan.checkpoints],
        "quantizations": [str(q) for q in plan.quantizations if q.models is None],
        "evaluation sets": [d.name for d in plan.evaluation.datasets],
    }.items():
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise InputError(f"{where}: two {kind} are {twice[0]}; keep one, or give one of them another name")
    need = dict.fromkeys(q.method for q in plan.quantizations if METHODS[q.method].calibrated)
    if plan.calibration is None and need:
        said = " and ".join(need)
        raise InputError(f"{where}: [calibration] is missing; give a dataset, windows and seq_len for {said}")
    for models, quantization in {q.models: q for q in plan.quantizations}.items():
        for model in sorted(models or ()):
            if model not in of_model:
                raise InputError(f"{where}: {quantization} is for the model {model!r}; {accepted(model, of_model)}")
