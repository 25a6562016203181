#!/usr/bin/env bash
# Simulate wafers, replay them through the distributed hgcal graph, tell where everything is.
# Usage: demo.sh FOLDER EVENTS RATE HOST:PORT; `make demo` calls it.
set -euo pipefail
folder=$1 events=$2 rate=$3 http=$4

# The port asked for, or any free one of that host.
free=$(python - "$http" <<'PYTHON'
import socket, sys

host, _, port = sys.argv[1].rpartition(":")
for number in (int(port), 0):
    try:
        with socket.create_server((host, number)) as server:
            sys.stdout.write("{}:{}".format(*server.getsockname()[:2]))
        break
    except OSError:
        continue
PYTHON
)
if [ "${free##*:}" != "${http##*:}" ] && [ "${http##*:}" != 0 ]; then
    echo "port ${http##*:} is taken, using ${free##*:} (choose one: make demo HTTP=127.0.0.1:9999)"
fi

mkdir -p "$folder"
rm -f "$folder/quarantine.arrows"
echo "simulating $events wafers …"
sluice simulate wafers --events "$events" --seed 1 --force --out "$folder/wafers.arrows"
echo "replaying them at $rate a second; http://$free/metrics and http://$free/status are live …"
sluice replay "$folder/wafers.arrows" --graph hgcal --rate "$rate" --http "$free" \
    --force --report "$folder/report.json" --out "$folder/accepted.arrows" \
    --quarantine "$folder/quarantine.arrows"
cat <<TEXT

report           $folder/report.json
accepted events  $folder/accepted.arrows   (sluice inspect $folder/accepted.arrows)
metrics page     http://$free/metrics   (while a run lasts; for a longer one: make demo RATE=2000)
command          $(command -v sluice)
TEXT
