# `hf models ls` (`-q`: ids alone, which no narrow terminal cuts), `hf models info`, `hf datasets ls`.
. "$(dirname "$0")/lib.sh"
asked() { hf "$@" >said 2>&1 || fail "$*: $(cat said)"; }
asked models ls -q --search tin
grep -qx acme/tiny said || fail "$(cat said)"
asked models ls acme/tiny
grep -q model.safetensors said || fail "$(cat said)"
asked models info acme/tiny
grep -q acme/tiny said || fail "$(cat said)"
asked datasets ls -q --search rows
grep -qx acme/rows said || fail "$(cat said)"
echo ok
