"""A tokenizer with a large vocabulary; killed half way and started again, it knows every word."""

import json

from expect import FIXTURE, done
from transformers import AutoTokenizer

vocabulary = json.loads((FIXTURE / "acme/vocabulary/tokenizer.json").read_text())["model"]["vocab"]
assert AutoTokenizer.from_pretrained("acme/vocabulary").get_vocab() == vocabulary
done()
