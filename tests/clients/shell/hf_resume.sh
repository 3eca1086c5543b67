# `hf download`, killed half way and started again.
. "$(dirname "$0")/lib.sh"
hf download acme/big --local-dir folder >/dev/null
diff -r --exclude=.cache folder "$FIXTURE/acme/big"
hf cache verify acme/big --local-dir folder >said 2>&1 || fail "$(cat said)"
echo ok
