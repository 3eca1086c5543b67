# What the shell programs of the client matrix share: $1 is the folder that the repositories were made of.
set -euo pipefail
FIXTURE="$1"
TINY="$FIXTURE/acme/tiny"
BIG="$FIXTURE/acme/big/model.safetensors"
fail() { echo "$*" >&2; exit 1; }
header() { tr -d '\r' <"$1" | grep -i "^$2:" | tail -1 | sed 's/^[^:]*: *//'; }
