"""A name that is not there is an OSError that says so, not a connection error."""

from expect import done
from transformers import AutoConfig, AutoTokenizer

for load, name in [(AutoConfig, "acme/absent"), (AutoTokenizer, "acme/absent")]:
    try:
        load.from_pretrained(name)
    except OSError as error:
        assert "connect" not in str(error).lower().split("if this is")[0], error
        continue
    raise AssertionError(name)
done()
