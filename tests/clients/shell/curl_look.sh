# The API as shell scripts read it: compact JSON, no parser.
. "$(dirname "$0")/lib.sh"
info="$(curl -qfsS "$HF_ENDPOINT/api/models/acme/tiny")"
grep -q '"rfilename":"model.safetensors"' <<<"$info" || fail "$info"
grep -q '"gated":false' <<<"$info" || fail "$info"
commit="$(grep -o '"sha":"[0-9a-f]*"' <<<"$info" | head -1 | cut -d'"' -f4)"
curl -qfsS "$HF_ENDPOINT/api/models/acme/tiny/tree/$commit/onnx" | grep -q '"path":"onnx/model.onnx"' || fail "tree"
curl -qfsS "$HF_ENDPOINT/api/models/acme/tiny/refs" | grep -q "\"targetCommit\":\"$commit\"" || fail "refs"
curl -qfsS "$HF_ENDPOINT/api/models?search=tin" | grep -q '"id":"acme/tiny"' || fail "search"
echo ok
