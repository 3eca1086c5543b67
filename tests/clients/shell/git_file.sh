# A sparse clone takes one folder; git-lfs takes one file.
. "$(dirname "$0")/lib.sh"
export GIT_TERMINAL_PROMPT=0 HOME="$PWD" GIT_CONFIG_NOSYSTEM=1 GIT_LFS_SKIP_SMUDGE=1
git clone -q --depth=1 --filter=blob:none --sparse "$HF_ENDPOINT/acme/tiny" clone
git -C clone sparse-checkout set onnx
cmp "clone/onnx/sub dir/a,b+c.txt" "$TINY/onnx/sub dir/a,b+c.txt"
git -C clone lfs install --local >/dev/null
GIT_LFS_SKIP_SMUDGE=0 git -C clone lfs pull --include model.safetensors
cmp clone/model.safetensors "$TINY/model.safetensors"
echo ok
