# `hf models ls`, `hf models info`, `hf datasets ls`.
. "$(dirname "$0")/lib.sh"
hf models ls --search tin >said 2>&1 || fail "$(cat said)"
grep -q acme/tiny said || fail "$(cat said)"
hf models info acme/tiny >said 2>&1 || fail "$(cat said)"
grep -q acme/tiny said || fail "$(cat said)"
hf datasets ls --search rows >said 2>&1 || fail "$(cat said)"
grep -q acme/rows said || fail "$(cat said)"
echo ok
