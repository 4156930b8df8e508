#!/usr/bin/env bash
# Makes .venv from requirements.lock: finds a Python >= 3.12, installs uv into the environment, then the lock.
set -euo pipefail
cd "$(dirname "$0")/.."

stamp=.venv/.swath-installed
wanted=$(cat requirements.lock pyproject.toml | cksum)
if [ -x .venv/bin/python ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
  exit 0
fi

# An interpreter counts only if it runs: version-manager shims exist without one behind them.
usable() {
  "$1" -c 'import sys, venv, ensurepip; raise SystemExit(not (3, 12) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.12 python3.13 python3 \
    "$HOME"/.pyenv/versions/3.12*/bin/python "$HOME"/.pyenv/versions/3.13*/bin/python; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 && usable "$candidate"; then
      command -v "$candidate"
      return 0
    fi
  done
  return 1
}

if python=$(find_python); then
  echo "setup: $("$python" --version) at $python" >&2
  [ -x .venv/bin/python ] && usable .venv/bin/python || { rm -rf .venv; "$python" -m venv .venv; }
  .venv/bin/python -m pip install --quiet --disable-pip-version-check uv
elif command -v uv >/dev/null 2>&1 && uv python install 3.12 >&2; then
  uv venv --seed --python 3.12 .venv >&2
  .venv/bin/python -m pip install --quiet --disable-pip-version-check uv
else
  echo "setup: no Python 3.12 or 3.13 with venv was found." >&2
  echo "setup: install one (for example the packages python3.12 and python3.12-venv), or name it: make setup PYTHON=/path/to/python3.12" >&2
  exit 1
fi

echo "setup: installing $(grep -c '==' requirements.lock) locked packages (about 7 GB with the GPU libraries of torch)" >&2
.venv/bin/uv pip install --quiet --python .venv/bin/python --compile-bytecode --requirement requirements.lock
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --editable .
echo "$wanted" > "$stamp"
echo "setup: done" >&2
