# Files with curl, the odd names too; HEAD tells what GET gives.
. "$(dirname "$0")/lib.sh"
curl -qfsSL "$HF_ENDPOINT/acme/tiny/resolve/main/model.safetensors" | cmp - "$TINY/model.safetensors"
curl -qfsSL "$HF_ENDPOINT/acme/tiny/resolve/main/onnx/sub%20dir/a%2Cb%2Bc.txt" | cmp - "$TINY/onnx/sub dir/a,b+c.txt"
curl -qfsSL "$HF_ENDPOINT/acme/tiny/resolve/main/100%.txt" | cmp - "$TINY/100%.txt"
curl -qfsSL "$HF_ENDPOINT/acme/tiny/resolve/main/empty" | cmp - "$TINY/empty"
curl -qfsSI "$HF_ENDPOINT/acme/tiny/resolve/main/model.safetensors" >head
sha="$(sha256sum <"$TINY/model.safetensors" | cut -d' ' -f1)"
[ "$(header head etag)" = "\"$sha\"" ] || fail "etag $(header head etag)"
[ "$(header head content-length)" = "$(stat -c %s "$TINY/model.safetensors")" ] || fail "length"
[ "$(header head accept-ranges)" = bytes ] || fail "no ranges"
curl -qfsS "$HF_ENDPOINT/acme/tiny/raw/main/config.json" | cmp - "$TINY/config.json"
curl -qfsS "$HF_ENDPOINT/datasets/acme/rows/resolve/main/lines/train.jsonl" | cmp - "$FIXTURE/datasets/acme/rows/lines/train.jsonl"
echo ok
