# curl goes on where it was.
. "$(dirname "$0")/lib.sh"
curl -qfsSL -C - -o big "$HF_ENDPOINT/acme/big/resolve/main/model.safetensors"
cmp big "$BIG"
echo ok
