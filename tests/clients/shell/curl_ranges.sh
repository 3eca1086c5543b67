# Ranges: a first part, one in the middle, the end, past the end.
. "$(dirname "$0")/lib.sh"
url="$HF_ENDPOINT/acme/tiny/resolve/main/model.safetensors"
size="$(stat -c %s "$TINY/model.safetensors")"
part() { tail -c +"$(($1 + 1))" "$TINY/model.safetensors" | head -c "$(($2 - $1 + 1))" || true; }
curl -qfsSL -r 0-0 "$url" | cmp - <(part 0 0)
curl -qfsSL -r 1000000-1000122 "$url" | cmp - <(part 1000000 1000122)
curl -qfsSL -r "$((size - 7))-" "$url" | cmp - <(part $((size - 7)) $((size - 1)))
curl -qfsSL -r "$((size - 7))-$((size + 99))" "$url" | cmp - <(part $((size - 7)) $((size - 1)))
[ "$(curl -qsSL -o /dev/null -w '%{http_code}' -r "$size-" "$url")" = 416 ] || fail "past the end"
echo ok
