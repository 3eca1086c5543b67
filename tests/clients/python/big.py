"""Fetches the large file; killed half way and started again, it ends with the right bytes."""

from expect import done, same
from huggingface_hub import snapshot_download

same("acme/big", snapshot_download("acme/big"))
done()
