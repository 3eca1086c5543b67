"""Reads parts of a file through the file system interface."""

from expect import TINY, done, files
from huggingface_hub import HfFileSystem

fs = HfFileSystem()
weights = files(TINY)["model.safetensors"]
with fs.open(f"{TINY}/model.safetensors", block_size=64 * 1024) as remote:
    for start, end in [(0, 10), (1_000_000, 1_000_123), (len(weights) - 7, len(weights))]:
        remote.seek(start)
        assert remote.read(end - start) == weights[start:end], (start, end)
assert fs.cat_file(f"{TINY}/model.safetensors", start=5, end=4096) == weights[5:4096]
assert fs.read_text(f"{TINY}/onnx/sub dir/a,b+c.txt") == files(TINY)["onnx/sub dir/a,b+c.txt"].decode()
assert sorted(p.rsplit("/", 1)[1] for p in fs.ls(f"{TINY}/onnx", detail=False)) == ["model.onnx", "sub dir"]
assert fs.glob("datasets/acme/rows/**/*.jsonl")
done()
