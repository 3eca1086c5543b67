"""Fetches files one by one, odd names and an empty one among them."""

import hashlib

from expect import TINY, done, files
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

for path, data in files(TINY).items():
    local = hf_hub_download(TINY, path)
    assert open(local, "rb").read() == data, path
meta = get_hf_file_metadata(hf_hub_url(TINY, "model.safetensors"))
weights = files(TINY)["model.safetensors"]
assert meta.size == len(weights) and meta.etag == hashlib.sha256(weights).hexdigest(), meta
again = hf_hub_download(TINY, "config.json", revision=meta.commit_hash)
assert meta.commit_hash in again, again
assert open(hf_hub_download("acme/rows", "lines/train.jsonl", repo_type="dataset"), "rb").read()
assert open(hf_hub_download("acme/app", "app.py", repo_type="space"), "rb").read()
done()
