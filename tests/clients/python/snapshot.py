"""Fetches whole repositories, into the cache and into a folder, and again: the second time nothing moves."""

import pathlib
import tempfile

from expect import TINY, done, same
from huggingface_hub import snapshot_download

cached = snapshot_download(TINY)
same(TINY, cached)
assert snapshot_download(TINY) == cached
with tempfile.TemporaryDirectory() as folder:
    snapshot_download(TINY, local_dir=folder)
    same(TINY, folder)
with tempfile.TemporaryDirectory() as folder:
    snapshot_download(TINY, local_dir=folder, allow_patterns=["*.json", "onnx/*"], ignore_patterns="tokenizer*")
    names = {p.name for p in pathlib.Path(folder).rglob("*") if p.is_file() and ".cache" not in p.parts}
    assert names == {"config.json", "model.onnx", "a,b+c.txt"}, names
same("datasets/acme/rows", snapshot_download("acme/rows", repo_type="dataset"))
same("spaces/acme/app", snapshot_download("acme/app", repo_type="space"))
done()
