# `hf download`, into a folder and into the cache, and `hf cache verify` of what arrived.
. "$(dirname "$0")/lib.sh"
hf download acme/tiny --local-dir folder >/dev/null
diff -r --exclude=.cache folder "$TINY"
hf download acme/tiny >/dev/null
hf cache verify acme/tiny >said 2>&1 || fail "$(cat said)"
if grep -qi mismatch said; then fail "$(cat said)"; fi
hf download acme/rows --repo-type dataset --local-dir rows >/dev/null
diff -r --exclude=.cache rows "$FIXTURE/datasets/acme/rows"
echo ok
