"""`load_dataset` of a large file; killed half way and started again, it ends with the right rows."""

import pyarrow.parquet as parquet
from datasets import load_dataset
from expect import FIXTURE, done

expected = parquet.read_table(FIXTURE / "datasets/acme/long/data/train-00000-of-00001.parquet")
rows = load_dataset("acme/long", split="train")
assert rows.data.table.select(["text"]).equals(expected.select(["text"])), rows
done()
