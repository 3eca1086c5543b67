"""A config and a tokenizer, by their classes."""

from expect import done
from transformers import AutoConfig, AutoTokenizer

assert AutoConfig.from_pretrained("acme/words").hidden_size == 48
assert AutoTokenizer.from_pretrained("acme/words")("no hub at")["input_ids"] == [1, 2, 0]
done()
