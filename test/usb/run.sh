#!/usr/bin/env bash
# Real USB on a machine that has none: boots Debian's kernel in QEMU on this machine's own root file system and runs the
# tests of this folder there. Needs Debian 12 on amd64, and the packages in debian-packages; installs what is missing only
# as root and with CI=true or PHOTON_FLEET_INSTALL=1. Arguments are Vitest's: a file, or -t NAME. Ends with one plain line,
# `N passed, N failed`.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
vm=$repo/.cache/vm
work=$repo/.cache/usb
guest_limit_s=1500
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

give_up() { # MESSAGE…: the machine is not fit for these tests, which is a failure and never a silent pass
  printf '%s\n' "$@" >&2
  echo '0 passed, 1 failed'
  exit 1
}

missing_packages() {
  local program package
  while read -r program package; do
    [[ $program == '#' || -z $program ]] && continue
    # The busybox of the package `busybox` needs libraries, which the initrd has not.
    if ! command -v "$program" >/dev/null || { [[ $program == busybox ]] && ldd "$(command -v busybox)" &>/dev/null; }; then
      echo "$package"
    fi
  done <"$here/debian-packages"
}

require_packages() {
  local missing line
  mapfile -t missing < <(missing_packages)
  ((${#missing[@]})) || return 0
  line="apt-get install -y --no-install-recommends ${missing[*]}"
  if ((EUID == 0)) && [[ ${CI:-} == true || ${PHOTON_FLEET_INSTALL:-} == 1 ]]; then
    echo "# $line"
    apt-get update -q && DEBIAN_FRONTEND=noninteractive $line || give_up "what is missing could not be installed"
  else
    give_up "these tests need packages of Debian that are not installed here; as root:" "    $line" \
      "or let this script do it: PHOTON_FLEET_INSTALL=1 npm run test:usb"
  fi
}

# A rack with its keys, made here at full speed: in the guest each of them would take a third of a second.
prepare_rack() {
  local state=$work/rack log=$work/rack.log pid
  rm -rf "$state" "$log"
  : >"$log"
  node "$repo/dist/cli.js" sim rack --count 18 --hubs 4 --state "$state" --listen 127.0.0.1:0 --json \
    --fault '#3:old-bootloader' --fault '#8:old-bootloader' --fault '#18:old-bootloader' </dev/null >"$log" 2>&1 &
  pid=$!
  for ((tries = 0; tries < 600; tries += 1)); do
    grep -q '"listening"' "$log" && break
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  if ! grep -q '"listening"' "$log"; then
    kill "$pid" 2>/dev/null || true
    give_up "the virtual rack could not be made:" "$(cat "$log")"
  fi
  kill -INT "$pid"
  wait "$pid" || give_up "the virtual rack did not end well:" "$(cat "$log")"
}

[[ $(dpkg --print-architecture 2>/dev/null) == amd64 ]] || give_up "these tests need Debian on amd64"
[[ -f $repo/dist/cli.js ]] || give_up "there is no dist/: npm run build"
require_packages
mkdir -p "$work/out"
rm -f "$work/out/"*
echo '# preparing the virtual machine and the rack'
"$here/prepare-vm.sh" "$vm" || give_up "the virtual machine could not be prepared"
prepare_rack

cat >"$work/out/job.sh" <<JOB
export PATH=$(printf %q "$PATH") PHOTON_FLEET_USB_RACK=$(printf %q "$work/rack") NO_COLOR=1
cd $(printf %q "$repo")
exec node node_modules/vitest/vitest.mjs run --config test/usb/vitest.config.ts ${*@Q}
JOB
echo '# booting'
status=0
"$here/boot-vm.sh" "$vm" "$work/out" job.sh "$guest_limit_s" | tee "$work/console.log" | sed -u '/^[0-9]* passed, [0-9]* failed/d' ||
  status=$?
closing=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$work/console.log" | tail -n 1 || true)
if [[ -n $closing ]]; then
  passed=${closing%% passed*}
  failed=${closing#*passed, }
  failed=${failed%% failed*}
else
  echo "not ok - the guest did not come to its end (status $status)"
  passed=$(grep -c '^ok - ' "$work/console.log" || true)
  failed=$(($(grep -c '^not ok - ' "$work/console.log" || true) + 1))
fi
((failed == 0 && status != 0)) && failed=1
echo "$passed passed, $failed failed"
((failed == 0))
