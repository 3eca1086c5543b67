"""Streaming, and a Parquet predicate: only the row groups that can match are read."""

from datasets import load_dataset
from expect import done
import pyarrow.parquet as parquet
from huggingface_hub import HfFileSystem

first = next(iter(load_dataset("acme/rows", data_files="lines/*.jsonl", split="train", streaming=True)))
assert first["n"] == 0, first
found = load_dataset("acme/columns", split="train", streaming=True, filters=[("n", ">=", 19_990)])
assert [row["n"] for row in found] == list(range(19_990, 20_000))
with HfFileSystem().open("datasets/acme/columns/data/train-00000-of-00001.parquet") as remote:
    table = parquet.read_table(remote, columns=["n"], filters=[("n", "<", 10)])
assert table.column("n").to_pylist() == list(range(10))
done()
