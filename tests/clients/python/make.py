"""Makes the parts of the fixture that libraries must write: tokenizers, and Parquet files. One of each is long enough to be
killed in the middle of."""

import os

import pyarrow
import pyarrow.parquet
from expect import FIXTURE
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, PreTrainedTokenizerFast

words = Tokenizer(models.WordLevel({"[UNK]": 0, "no": 1, "hub": 2}, unk_token="[UNK]"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(FIXTURE / "acme/words")
BertConfig(hidden_size=48, num_attention_heads=4, num_hidden_layers=2).save_pretrained(FIXTURE / "acme/words")
many = {os.urandom(30).hex(): n for n in range(300_000)}
words = Tokenizer(models.WordLevel({**many, "[UNK]": len(many)}, unk_token="[UNK]"))
PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(FIXTURE / "acme/vocabulary")
BertConfig(hidden_size=48, num_attention_heads=4, num_hidden_layers=2).save_pretrained(FIXTURE / "acme/vocabulary")


def write(repo, table, rows):
    data = FIXTURE / repo / "data"
    data.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(
        table, data / "train-00000-of-00001.parquet", row_group_size=rows, compression="none", use_dictionary=False
    )


rows = range(20_000)
table = pyarrow.table({"n": list(rows), "text": [f"row {n} " + "x" * 100 for n in rows]})
write("datasets/acme/columns", table, 2_000)
write("datasets/acme/long", pyarrow.table({"text": [os.urandom(512).hex() for _ in range(24_000)]}), 24_000)
