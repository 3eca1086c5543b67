# What is not there is said, and the exit code tells.
. "$(dirname "$0")/lib.sh"
if hf download acme/absent --local-dir folder >said 2>&1; then fail "an absent repository was fetched"; fi
grep -qi "not found" said || fail "$(cat said)"
if hf download acme/tiny absent.json --local-dir folder >said 2>&1; then fail "an absent file was fetched"; fi
grep -qi "not found" said || fail "$(cat said)"
echo ok
