# Refusals name what is wrong in a header and in JSON.
. "$(dirname "$0")/lib.sh"
refused() {
  local status
  status="$(curl -qsS -D head -o body -w '%{http_code}' "$HF_ENDPOINT/$3")"
  [ "$status" = "$1" ] && [ "$(header head x-error-code)" = "$2" ] || fail "$3: $status $(header head x-error-code)"
  grep -q '"error":' body || fail "$3: $(cat body)"
}
refused 404 EntryNotFound acme/tiny/resolve/main/absent.json
[ -n "$(header head x-repo-commit)" ] || fail "no commit"
refused 404 RevisionNotFound acme/tiny/resolve/absent/config.json
refused 401 RepoNotFound acme/absent/resolve/main/config.json
refused 401 RepoNotFound api/models/acme/absent
echo ok
