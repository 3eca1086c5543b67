"""`load_dataset` of JSON lines and of Parquet."""

from datasets import load_dataset
from expect import done

lines = load_dataset("acme/rows", data_files="lines/*.jsonl", split="train")
assert len(lines) == 500 and lines[7] == {"n": 7, "text": "row 7"}, lines
columns = load_dataset("acme/columns", split="train")
assert len(columns) == 20_000 and columns[19_999]["n"] == 19_999, columns
done()
