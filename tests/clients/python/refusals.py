"""What is not there is refused by name, so that programs can tell which part of an address is wrong."""

from expect import TINY, done
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

for expected, args, more in [
    (RepositoryNotFoundError, ("acme/absent", "config.json"), {}),
    (RevisionNotFoundError, (TINY, "config.json"), {"revision": "absent"}),
    (EntryNotFoundError, (TINY, "absent.json"), {}),
    (EntryNotFoundError, (TINY, "onnx"), {}),
]:
    try:
        hf_hub_download(*args, **more)
    except expected:
        continue
    raise AssertionError((expected, args))
for call in (HfApi().model_info, HfApi().dataset_info):
    try:
        call("acme/absent")
    except RepositoryNotFoundError:
        continue
    raise AssertionError(call)
done()
