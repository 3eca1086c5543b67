# A repository that is not there, and a push, are refused with words.
. "$(dirname "$0")/lib.sh"
export GIT_TERMINAL_PROMPT=0 HOME="$PWD" GIT_CONFIG_NOSYSTEM=1 GIT_LFS_SKIP_SMUDGE=1
if git clone -q "$HF_ENDPOINT/acme/absent" absent 2>said; then fail "an absent repository was cloned"; fi
git clone -q --depth=1 "$HF_ENDPOINT/acme/words" clone
git -C clone -c user.name=a -c user.email=a@b commit -q --allow-empty -m more
if timeout 20 git -C clone push -q origin HEAD:main 2>said; then fail "a push was taken"; fi
[ -s said ] || fail "a push was refused without a word"
echo ok
