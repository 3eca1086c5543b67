# git lists the refs, and clones without blobs, fetching the one that is looked at.
. "$(dirname "$0")/lib.sh"
export GIT_TERMINAL_PROMPT=0 HOME="$PWD" GIT_CONFIG_NOSYSTEM=1 GIT_LFS_SKIP_SMUDGE=1
git ls-remote "$HF_ENDPOINT/acme/tiny" | grep -q refs/heads/main || fail "no main"
git clone -q --depth=1 --filter=blob:none --no-checkout "$HF_ENDPOINT/acme/tiny" bare
[ "$(git -C bare ls-tree -r --name-only HEAD | grep -c .)" -ge 8 ] || fail "files are missing"
git -C bare show HEAD:config.json | cmp - "$TINY/config.json"
echo ok
