#!/bin/sh
# Unpacks Debian's Exim into a directory of its own and prints the path of its program. Its packages conflict with
# those of Postfix, so apt cannot install both; nothing of the system changes but for the user that Exim is built for.
set -eu
umask 022
cache=${EKIDEN_EXIM_CACHE:-/var/cache/ekiden-tests/exim}
program=$cache/root/usr/sbin/exim4
getent passwd Debian-exim >/dev/null ||
    useradd --system --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin Debian-exim
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ ! -e "$cache/complete" ]; then
    rm -rf "$cache/new" "$cache/root"
    mkdir -p "$cache/new/packages" "$cache/new/root"
    cd "$cache/new/packages"
    apt-cache show exim4-daemon-heavy >/dev/null 2>&1 || apt-get update -qq >&2
    # What apt would install: Exim, and the libraries of it that are not here yet.
    packages=$(apt-get -s install --no-install-recommends exim4-daemon-heavy | sed -n 's/^Inst \([^ ]*\).*/\1/p')
    # shellcheck disable=SC2086
    apt-get -qq -o APT::Sandbox::User=root download exim4-base exim4-config exim4-daemon-heavy $packages >&2
    for package in *.deb; do
        dpkg-deb -x "$package" "$cache/new/root"
    done
    mv "$cache/new/root" "$cache/root"
    rm -rf "$cache/new"
    touch "$cache/complete"
fi
echo "$program"
