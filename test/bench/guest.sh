#!/usr/bin/env bash
# guest.sh ROUNDS PART…: the comparison with dfu-util below a real kernel, in the virtual machine of test/usb. Prints a line
# `BENCH {…}` for each figure. Needs what `npm run test:usb` needs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
work=$repo/.cache/bench-guest
vm=$repo/.cache/vm
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
count=60
hubs=8

rm -rf "$work"
mkdir -p "$work/out/profile" "$work/keys"
"$repo/test/usb/prepare-vm.sh" "$vm" >&2

# The rack and all keys are made here, at full speed.
coproc rack { exec node "$repo/dist/cli.js" sim rack --count $count --hubs $hubs --state "$work/rack" --listen 127.0.0.1:0 --json 2>&1; }
read -r line <&"${rack[0]}"
[[ $line == *'"listening"'* ]] || { echo "the virtual rack could not be made: $line" >&2; exit 1; }
pid=$rack_PID
kill -INT "$pid"
wait "$pid"
for ((n = 0; n < count; n += 1)); do
  openssl genrsa -traditional 1024 2>/dev/null | openssl rsa -traditional -outform DER -out "$work/keys/$n.der" 2>/dev/null
done
openssl genrsa 2048 2>/dev/null | openssl rsa -pubout -outform DER -out "$work/server.pub.der" 2>/dev/null
mkdir "$work/pool"
if node "$repo/dist/cli.js" keys --help | grep -q prepare; then
  node "$repo/dist/cli.js" keys prepare --count $count --db "$work/pool/fleet.db" >&2
fi

# As many racks as are worked on, and the cloud: outside of the guest, so that what a device does costs the station nothing.
children=()
trap '((${#children[@]})) && kill "${children[@]}" 2>/dev/null' EXIT
serve() { # LOG ARGUMENT…: starts a simulator, waits until it listens, and prints its port
  local log=$1
  shift
  node "$repo/dist/cli.js" sim "$@" --listen 127.0.0.1:0 --json </dev/null >"$log" 2>&1 &
  children+=($!)
  for ((tries = 0; tries < 300; tries += 1)); do
    port=$(sed -n 's/.*127\.0\.0\.1:\([0-9]*\)".*/\1/p' "$log" | head -n 1)
    [[ -n $port ]] && return
    sleep 0.1
  done
  echo "a simulator did not start: $(cat "$log")" >&2
  exit 1
}
serve "$work/cloud.log" cloud
echo "$port" >"$work/cloud"
for ((n = 0; n < 3 * $1; n += 1)); do
  cp -r "$work/rack" "$work/rack-$n"
  serve "$work/rack-$n.log" rack --count $count --hubs $hubs --write-ms 300 --state "$work/rack-$n"
  echo "$port" >>"$work/racks"
done

cat >"$work/out/job.sh" <<JOB
export PATH=$(printf %q "$PATH") NO_COLOR=1 ${BENCH_PROFILE:+BENCH_PROFILE=1} ${BENCH_STEPS:+BENCH_STEPS=1}
cd $(printf %q "$repo")
exec node .cache/bench/test/bench/guest.js ${work@Q} ${*@Q}
JOB
"$repo/test/usb/boot-vm.sh" "$vm" "$work/out" job.sh "${BENCH_GUEST_S:-3000}"
