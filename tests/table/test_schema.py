"""What a measurement table accepts, what it fills in, and how it refuses the rest."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from qidbayes.errors import InputError, TableWarning
from qidbayes.model_names import read_name
from qidbayes.table import join_tables, read_table, table_hash
from qidbayes.table.columns import COLUMNS, NAMES
from qidbayes.table.question import as_in_tables
from qidbayes.table.schema import validate

CsvFile = Callable[..., Path]

HEADER = "model,n_params,tokens,method,bits,qid"
ROW = "m,1e9,2e11,gptq,4,0.1"

DESIGN = (
    "suite model revision n_params n_params_active tokens learning_rate method bits bits_per_weight group_size "
    "settings bits_activation expert_tokens experts_undersampled dataset n_eval_tokens seq_len loss_16bit loss qid "
    "qid_se qid_se_quantizer kld kld_se kld_se_quantizer top_agreement top_agreement_se nats_per_byte_16bit "
    "nats_per_byte source status error seconds_quantize seconds_evaluate peak_memory_gib device"
)


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as refused:
        read_table(path)
    message = str(refused.value)
    assert all(line.startswith(str(path)) for line in message.splitlines()), "every line names the file"
    return message


def test_the_schema_is_the_design_s() -> None:
    assert tuple(DESIGN.split()) == NAMES


def test_every_column_comes_typed_and_in_order(csv_file: CsvFile) -> None:
    table = read_table(csv_file(HEADER, ROW))
    assert table.schema == {column.name: column.dtype() for column in COLUMNS}


def test_defaults(csv_file: CsvFile) -> None:
    row = read_table(csv_file(HEADER, ROW)).row(0, named=True)
    assert (row["suite"], row["revision"], row["dataset"], row["status"]) == ("mine", "", "unspecified", "ok")
    given = {*HEADER.split(","), "suite", "revision", "settings", "dataset", "status"}
    assert {name for name, value in row.items() if value is not None} == given


def test_an_empty_cell_gets_the_default_too(csv_file: CsvFile) -> None:
    table = read_table(csv_file(HEADER + ",suite,dataset", ROW + ",,c4", ROW + ",other, "))
    assert table.select("suite", "dataset").rows() == [("mine", "c4"), ("other", "unspecified")]


def test_validating_twice_changes_nothing(point: pl.DataFrame) -> None:
    once = validate(point, "t")
    assert validate(once, "t").equals(once)


@pytest.mark.parametrize("written", ["7000000000", "7e9", "7000000000.0", " 7E+09 "])
def test_counts_as_people_write_them(csv_file: CsvFile, written: str) -> None:
    assert read_table(csv_file(HEADER, f"m,{written},2e11,gptq,4,0.1"))["n_params"].item() == 7_000_000_000


def test_counts_keep_every_digit(csv_file: CsvFile) -> None:
    assert read_table(csv_file(HEADER, f"m,1e9,{2**62 + 1},gptq,4,0.1"))["tokens"].item() == 2**62 + 1


@pytest.mark.parametrize("qid", [0.0, -0.25])
def test_qid_at_or_below_zero_is_legal(csv_file: CsvFile, qid: float) -> None:
    assert read_table(csv_file(HEADER, f"m,1e9,2e11,gptq,4,{qid}"))["qid"].item() == qid


@pytest.mark.parametrize(
    ("names", "values", "expected"),
    [
        ("loss_16bit,loss", "2.5,3", (2.5, 3.0, 0.5)),
        ("loss_16bit,qid", "2.5,0.5", (2.5, 3.0, 0.5)),
        ("loss,qid", "3,0.5", (2.5, 3.0, 0.5)),
        ("loss_16bit,loss,qid", "2.5,3,0.50009", (2.5, 3.0, 0.50009)),
        ("qid", "0.5", (None, None, 0.5)),
    ],
)
def test_two_of_the_losses_give_the_third(
    csv_file: CsvFile, names: str, values: str, expected: tuple[float | None, ...]
) -> None:
    table = read_table(csv_file(f"model,n_params,tokens,method,bits,{names}", f"m,1e9,2e11,gptq,4,{values}"))
    assert table.select("loss_16bit", "loss", "qid").row(0) == expected


def test_method_none_holds_the_16bit_loss_alone(csv_file: CsvFile) -> None:
    header = "model,n_params,tokens,method,bits,loss_16bit,loss"
    assert read_table(csv_file(header, "m,1e9,2e11,none,16,2.5,"))["qid"].item() is None
    assert "row 2, column 'loss_16bit': empty" in refusal(csv_file(header, "m,1e9,2e11,none,16,,"))
    assert "row 2, column 'loss': not empty" in refusal(csv_file(header, "m,1e9,2e11,none,16,2.5,2.6"))


def test_a_failed_cell_stays_and_says_why(csv_file: CsvFile) -> None:
    header = "model,n_params,tokens,method,bits,qid,status,error"
    table = read_table(csv_file(header, "m,1e9,2e11,gptq,4,,failed,out of memory"))
    assert table.select("qid", "status", "error").row(0) == (None, "failed", "out of memory")
    assert "row 2, column 'error': empty" in refusal(csv_file(header, "m,1e9,2e11,gptq,4,,failed,"))


@pytest.mark.parametrize(
    ("column", "value", "accepts"),
    [
        ("model", "", "the model's name"),
        ("n_params", "", "like 7e9, or 7B"),
        ("n_params", "6.9", "plain count"),
        ("n_params", "7", "plain count"),
        ("n_params", "-7e9", "plain count"),
        ("n_params", "7X", "plain count"),
        ("n_params", "7,000B", "plain count"),
        ("n_params", "-7B", "plain count"),
        ("n_params", "1.5e3M", "plain count"),
        ("seq_len", "2k", "1 or above"),
        ("group_size", "1k", "1 or above"),
        ("tokens", "300", "like 3e11, or 300B"),
        ("tokens", "99999", "at least 1e5"),
        ("tokens", "1e400", "plain count"),
        ("tokens", "9" * 30, "plain count"),
        ("tokens", "nan", "plain count"),
        ("method", "GPTQ 4", "a name like gptq"),
        ("method", "-x", "a name like gptq"),
        ("method", "gptq\u0301", "a name like gptq"),
        ("bits", "0", "at most 32"),
        ("bits", "33", "at most 32"),
        ("bits", "four", "at most 32"),
        ("qid", "nan", "a finite number"),
        ("qid", "inf", "a finite number"),
        ("qid", "0,1", "a finite number"),
        ("qid", "__import__('os')", "a finite number"),
        ("qid_se", "-0.1", "0 or above"),
        ("bits_activation", "0", "the width of the inputs"),
        ("n_params_active", "1.3", "of those that one token uses"),
        ("expert_tokens", "-1", "0 or above"),
        ("experts_undersampled", "0.5", "0 or above"),
        ("qid_se_quantizer", "-1", "0 or above"),
        ("kld_se_quantizer", "nan", "0 or above"),
        ("kld", "-1e-9", "0 or above"),
        ("kld_se", "inf", "0 or above"),
        ("top_agreement", "98", "a share of tokens from 0 to 1"),
        ("top_agreement_se", "nan", "0 or above"),
        ("nats_per_byte", "0", "nats per byte of text"),
        ("group_size", "0", "1 or above"),
        ("group_size", "12.5", "1 or above"),
        ("group_size", "-2", "per channel"),
        ("ppl", "1", "perplexity of tokens"),
        ("ppl_16bit", "inf", "perplexity of tokens"),
        ("bits_per_byte", "0", "bits per byte, above 0"),
        ("n_eval_bytes", "1.5", "bytes of evaluation text"),
        ("n_params", "1,000,000", "without separators of thousands"),
        ("tokens", "2.000.000,5", "without separators of thousands"),
        ("qid", "0,052", "with a decimal point"),
        ("loss_16bit", "0", "above 0"),
        ("loss", "-2", "above 0"),
        ("learning_rate", "-1", "0 or above"),
        ("bits_per_weight", "0", "above 0"),
        ("seq_len", "1.5", "1 or above"),
        ("n_eval_tokens", "0", "1 or above"),
        ("status", "Out Of Memory", "ok, or a lower-case word"),
        ("seconds_quantize", "inf", "0 or above"),
        ("seconds_evaluate", "-1", "0 or above"),
        ("peak_memory_gib", "much", "GiB, 0 or above"),
        ("source", "a\0b", "as text"),
    ],
)
def test_a_bad_value_is_refused_by_row_column_and_what_would_do(
    csv_file: CsvFile, column: str, value: str, accepts: str
) -> None:
    good = dict(zip(HEADER.split(","), ROW.split(","), strict=True))
    cells = good | {column: f'"{value}"'}
    names = ",".join(cells)
    columns_left = ",".join(good.get(name, "") for name in cells)
    message = refusal(csv_file(names, columns_left, ",".join(cells.values())))
    assert f"row 3, column {column!r}: " in message
    assert (repr(value) if value else "empty") in message
    assert accepts in message


@pytest.mark.parametrize("missing", ["model", "n_params", "tokens", "method", "bits"])
def test_a_missing_column_is_named(point: pl.DataFrame, missing: str) -> None:
    with pytest.raises(InputError, match=f"t.csv: column '{missing}' is missing; give "):
        validate(point.drop(missing), "t.csv")


def test_without_qid_and_losses_each_row_says_so(point: pl.DataFrame) -> None:
    with pytest.raises(InputError, match="row 1, column 'qid': empty; give qid, or loss and loss_16bit"):
        validate(point.drop("qid"), "t.csv")


@pytest.mark.parametrize(
    ("misspelt", "hint"),
    [
        ("loss16bit", "did you mean 'loss_16bit'?"),
        ("Group_Size", "did you mean 'group_size'?"),
        ("family", "a family of models is a 'suite'"),
        ("N", "non-embedding parameters go into 'n_params'"),
        ("D", "training tokens go into 'tokens'"),
        ("step", "a checkpoint is named in 'revision'"),
        ("bpw", "go into 'bits_per_weight'"),
    ],
)
def test_a_column_under_another_name_is_refused(csv_file: CsvFile, misspelt: str, hint: str) -> None:
    message = refusal(csv_file(f"{HEADER},{misspelt}", ROW + ",1"))
    assert f"column {misspelt!r} is unknown; " in message
    assert hint in message


def test_where_a_column_is_missing_the_unknown_ones_are_named(csv_file: CsvFile) -> None:
    message = refusal(csv_file("name,n_params,tokens,method,bits,qid", ROW))
    assert "column 'name' is unknown; the columns are suite, model, " in message
    assert "column 'model' is missing; give the model's name, as text" in message


@pytest.mark.parametrize(
    ("written", "count"), [("7B", 7_000_000_000), ("1.1b", 1_100_000_000), ("360 M", 360_000_000), ("2.5k", 2_500)]
)
def test_counts_as_people_say_them(csv_file: CsvFile, written: str, count: int) -> None:
    assert read_table(csv_file(HEADER, f"m,{written},2e11,gptq,4,0.1"))["n_params"].item() == count


def test_tokens_that_nobody_tells_are_null(csv_file: CsvFile) -> None:
    table = read_table(csv_file(HEADER, "m,1e9,,gptq,4,0.1", "m,1e9,2T,gptq,4,0.1"))
    assert table["tokens"].to_list() == [None, 2 * 10**12]
    assert "rows 2 and 3, column 'revision'" not in str(table)
    assert "row 3, column 'revision': the same cell as row 2" in refusal(csv_file(HEADER, *["m,1e9,,gptq,4,0.1"] * 2))


def test_two_quantizations_that_differ_in_settings_are_two_cells(csv_file: CsvFile) -> None:
    rows = ["m,1e9,2e11,gguf,4.8,0.1,imatrix wiki", "m,1e9,2e11,gguf,4.8,0.2,"]
    table = read_table(csv_file(f"{HEADER},settings", *rows))
    assert table["settings"].to_list() == ["imatrix wiki", ""]
    assert "the same cell as row 2" in refusal(csv_file(f"{HEADER},settings", rows[1], rows[1]))


def test_gguf_files_by_their_old_names_are_read_as_imports_name_them(csv_file: CsvFile) -> None:
    """Older plans of `measure` named the type in the method, with the width of most weights' codes."""
    old = [
        "m,1e9,2e11,gguf-q4-k-m,4,32,0.1,",
        "m,1e9,2e11,GGUF-Q4-K-M,4,32,0.1,imatrix",
        "m,1e9,2e11,gguf-mine,4,32,0.1,",
    ]
    with pytest.warns(TableWarning, match="'gguf-q4-k-m' is read as 'gguf' with settings 'Q4_K_M' and its 4.8 bits"):
        table = read_table(csv_file("model,n_params,tokens,method,bits,group_size,qid,settings", *old))
    name = read_name("m.Q4_K_M.gguf")[1]
    imported = (name.method, name.bits, name.group_size, name.settings)
    cells = table.select("method", "bits", "group_size", "settings").rows()
    assert cells == [imported, (*imported[:3], "Q4_K_M, imatrix"), ("gguf-mine", 4.0, 32, "")]
    assert validate(table, "t").equals(table)


@pytest.mark.parametrize(("said", "name"), [("nf4", "bnb-nf4"), ("Auto-Round", "autoround"), ("AutoGPTQ", "gptq")])
def test_a_method_has_one_name(csv_file: CsvFile, said: str, name: str) -> None:
    assert read_table(csv_file(HEADER, f"m,1e9,2e11,{said},4,0.1"))["method"].item() == name
    assert as_in_tables(pl.DataFrame({"method": [said]}))["method"].item() == name


def test_further_numbers_stay_and_the_rest_is_named_once(csv_file: CsvFile) -> None:
    path = csv_file(f"{HEADER},calibration_tokens,note,mean_kld", f"{ROW},1e6,mine,0.01", "m,1e9,2e11,gptq,3,0.2,,,nan")
    with pytest.warns(TableWarning, match="kept aside: 'note', which holds no numbers") as told:
        table = read_table(path)
    assert len(told) == 1
    assert table.columns == [*NAMES, "calibration_tokens", "mean_kld"]
    assert table.select("calibration_tokens", "mean_kld").rows() == [(1e6, 0.01), (None, None)]
    assert validate(table, "t").equals(table)
    message = refusal(csv_file(f"{HEADER},mean_kld", ROW + ",inf"))
    assert "row 2, column 'mean_kld': an infinite number is not accepted" in message


def test_one_line_says_what_is_wrong_with_many_rows(csv_file: CsvFile) -> None:
    message = refusal(csv_file(HEADER, *[f"m,1e9,2e11,GPTQ v{1 + i % 2},{1 + i},0.1" for i in range(30)]))
    lines = [line.partition(": ")[2] for line in message.splitlines()]
    assert lines[0].startswith("rows 2, 4, 6 and 12 more, column 'method': 'GPTQ v1' is not accepted; give a name")
    assert lines[1].startswith("rows 3, 5, 7 and 12 more, column 'method': 'GPTQ v2' is not accepted")
    assert len(lines) == 2


def test_further_numbers_tell_cells_apart(csv_file: CsvFile) -> None:
    path = csv_file(f"{HEADER},qat_tokens, decayed", ROW + ",1e9, 0.5", ROW + ",2e9,")
    table = read_table(path)
    assert table.columns[-2:] == ["qat_tokens", "decayed"]
    assert table.select("qat_tokens", "decayed").rows() == [(1e9, 0.5), (2e9, None)]  # two cells
    assert validate(table, "again").equals(table)
    assert table_hash(table) != table_hash(table.with_columns(decayed=pl.lit(0.25)))
    assert table_hash(table.drop("qat_tokens").head(1)) == table_hash(table.drop("qat_tokens").head(1).reverse())
    other = table.drop("decayed").with_columns(suite=pl.lit("x"))
    assert join_tables(table, other)["decayed"].to_list() == [0.5, None, None, None]
    with pytest.raises(InputError, match="table 1 and table 2 both hold"):
        join_tables(table, table)


def test_losses_that_disagree_are_refused(csv_file: CsvFile) -> None:
    header = "model,n_params,tokens,method,bits,loss_16bit,loss,qid"
    message = refusal(csv_file(header, "m,1e9,2e11,gptq,4,2.5,3,0.5", "m,1e9,2e11,gptq,3,2.5,3,0.5002"))
    assert "row 3, column 'qid': 0.5002 is not accepted; give loss - loss_16bit = 0.5, to within 0.0001" in message


def test_a_qid_that_leaves_no_loss_is_refused(csv_file: CsvFile) -> None:
    header = "model,n_params,tokens,method,bits,loss,qid"
    message = refusal(csv_file(header, "m,1e9,2e11,gptq,4,2,3"))
    assert "row 2, column 'qid': 3.0 is not accepted; with loss_16bit -1 and loss 2" in message


def test_duplicate_cells_name_both_rows(csv_file: CsvFile) -> None:
    message = refusal(csv_file(HEADER, ROW, "m,1e9,2e11,gptq,3,0.2", "m,1e9,200000000000,gptq,4.0,0.3"))
    assert "row 4, column 'revision': the same cell as row 2 (suite 'mine', model 'm'" in message


@pytest.mark.parametrize(
    "told_apart", ["suite", "model", "revision", "tokens", "method", "bits", "group_size", "settings", "dataset"]
)
def test_rows_apart_in_any_part_of_the_key_are_two_cells(point: pl.DataFrame, told_apart: str) -> None:
    other = (
        pl.lit("x") if told_apart in ("suite", "model", "revision", "method", "settings", "dataset") else pl.lit(3e5)
    )
    if told_apart == "bits":
        other = pl.lit(3.0)
    pair = pl.concat([point, point.with_columns(other.alias(told_apart))], how="diagonal_relaxed")
    assert validate(pair, "t").height == 2


def test_a_group_size_that_cannot_be_read_is_no_duplicate_of_an_empty_one(csv_file: CsvFile) -> None:
    message = refusal(csv_file(HEADER + ",group_size", ROW + ",", ROW + ",big"))
    assert "row 3, column 'group_size': 'big'" in message
    assert "same cell" not in message


def test_all_problems_come_in_one_message_in_the_order_of_rows(csv_file: CsvFile) -> None:
    message = refusal(csv_file(HEADER, "m,7,2e11,gptq,99,0.1", ROW, "m,1e9,2,g tq,4,nan"))
    places = [line.split(": ")[1] for line in message.splitlines()]
    assert places == [
        "row 2, column 'n_params'",
        "row 2, column 'bits'",
        "row 4, column 'tokens'",
        "row 4, column 'method'",
        "row 4, column 'qid'",
    ]


def test_at_most_ten_problems_and_the_number_of_the_rest(csv_file: CsvFile) -> None:
    lines = refusal(csv_file(HEADER, *[f"m,1e9,2e11,gptq,{99 + i},0.1" for i in range(25)])).splitlines()
    assert len(lines) == 11
    assert lines[-1].endswith("mine.csv: and 15 more")


def test_no_rows(csv_file: CsvFile) -> None:
    assert "no rows; give at least one measurement" in refusal(csv_file(HEADER))


@pytest.mark.parametrize(
    ("column", "value"),
    [("qid", True), ("tokens", date(2024, 1, 1)), ("n_params", [1]), ("model", 7.5), ("bits", {"a": 1})],
)
def test_a_column_of_the_wrong_type_is_refused(point: pl.DataFrame, column: str, value: object) -> None:
    frame = point.drop(column).with_columns(pl.Series(column, [value]))
    with pytest.raises(InputError, match=f"t: column '{column}' holds .*; give "):
        validate(frame, "t")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2.5])
def test_numbers_in_a_frame_are_held_to_the_same_rules(point: pl.DataFrame, value: float) -> None:
    with pytest.raises(InputError, match=r"row 1, column 'tokens': .* is not accepted; give training tokens"):
        validate(point.with_columns(pl.lit(value).alias("tokens")), "t")


def test_categories_and_small_integers_are_read(point: pl.DataFrame) -> None:
    frame = point.with_columns(pl.col("method").cast(pl.Categorical), pl.lit(4, dtype=pl.UInt8).alias("bits"))
    assert validate(frame, "t").select("method", "bits").row(0) == ("gptq", 4.0)
