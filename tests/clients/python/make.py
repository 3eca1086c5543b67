"""Makes the parts of the fixture that libraries must write: a tokenizer, and a Parquet file of ten row groups."""

import pathlib

import pyarrow
import pyarrow.parquet
from expect import FIXTURE
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, PreTrainedTokenizerFast

words = Tokenizer(models.WordLevel({"[UNK]": 0, "no": 1, "hub": 2}, unk_token="[UNK]"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(FIXTURE / "acme/words")
BertConfig(hidden_size=48, num_attention_heads=4, num_hidden_layers=2).save_pretrained(FIXTURE / "acme/words")
data = pathlib.Path(FIXTURE / "datasets/acme/columns/data")
data.mkdir(parents=True, exist_ok=True)
rows = range(20_000)
table = pyarrow.table({"n": list(rows), "text": [f"row {n} " + "x" * 100 for n in rows]})
pyarrow.parquet.write_table(
    table, data / "train-00000-of-00001.parquet", row_group_size=2_000, compression="none", use_dictionary=False
)
