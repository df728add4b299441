#!/bin/sh
# Installs the Debian packages that the tests start (tests/apt-packages.txt), where that is possible.
set -eu
list=$(sed 's/#.*//' "$(dirname "$0")/apt-packages.txt")
missing=""
for package in $list; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
exim() {
    [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || sh "$(dirname "$0")/install-exim.sh" >/dev/null
}
[ -n "$missing" ] || { exim; exit; }
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "not installed, so their tests are skipped:$missing"
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# Packages that start a daemon of their own must not do so here: the tests start what they need.
policy=/usr/sbin/policy-rc.d
[ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; made=1; }
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >/dev/null || failed=1
[ -z "${made:-}" ] || rm -f "$policy"
exim || failed=1
exit "${failed:-0}"
