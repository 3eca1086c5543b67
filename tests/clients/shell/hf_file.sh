# `hf download` of one file.
. "$(dirname "$0")/lib.sh"
hf download acme/tiny onnx/model.onnx --local-dir folder >/dev/null
cmp folder/onnx/model.onnx "$TINY/onnx/model.onnx"
echo ok
