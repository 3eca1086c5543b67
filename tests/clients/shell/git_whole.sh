# git clones with git-lfs: large files whole, the history one commit deep.
. "$(dirname "$0")/lib.sh"
export GIT_TERMINAL_PROMPT=0 HOME="$PWD" GIT_CONFIG_NOSYSTEM=1
git lfs install --skip-repo >/dev/null
git clone -q --depth=1 "$HF_ENDPOINT/acme/tiny" clone
diff -r --exclude=.git clone "$TINY"
git clone -q --depth=1 "$HF_ENDPOINT/datasets/acme/rows.git" rows
diff -r --exclude=.git rows "$FIXTURE/datasets/acme/rows"
echo ok
