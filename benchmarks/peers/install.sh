#!/usr/bin/env bash
# Make an environment for each peer, its versions pinned: install.sh FOLDER [PEER...]
set -euo pipefail
here=$(dirname "$(realpath "$0")")
folder=$1
shift
peers=("$@")
[ ${#peers[@]} -gt 0 ] || peers=(mosec litserve pvapy triton)

# Triton's Python backend holds an interpreter of its own, older than the newest 3.11: it needs the
# standard library of an early one, such as Debian's, or of 3.10.
triton_python() {
    local python
    for python in "${TRITON_PYTHON:-}" /usr/bin/python3.11 python3.10 python3.11; do
        if [ -n "$python" ] && "$python" -c '' 2> /dev/null; then
            echo "$python"
            return
        fi
    done
}

for peer in "${peers[@]}"; do
    wanted=$here/requirements/$peer.txt
    cmp -s "$wanted" "$folder/$peer/requirements.txt" && continue
    echo "installing $peer …"
    python=python3.11
    [ "$peer" = triton ] && python=$(triton_python)
    rm -rf "${folder:?}/$peer"
    "$python" -m venv --without-pip "$folder/$peer"
    "${PIP_PYTHON:-python3.11}" -m pip --python "$folder/$peer/bin/python" install -qq \
        --disable-pip-version-check -r "$wanted"
    cp "$wanted" "$folder/$peer/requirements.txt"
done
