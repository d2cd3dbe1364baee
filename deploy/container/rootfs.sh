#!/bin/sh
# usage: rootfs.sh CULVERT DIR CAPABILITIES
# Lays out the file system of an image: the program with the capabilities of its
# file ("" for none), users by name, and folders for its user alone.
set -eu
mkdir -p "$2/etc/culvert" "$2/run/culvert" "$2/var/lib/culvert"
install -m 755 "$1" "$2/culvert"
echo 'culvert:x:65532:65532:culvert:/var/lib/culvert:/sbin/nologin' >"$2/etc/passwd"
echo 'culvert:x:65532:' >"$2/etc/group"
chmod 700 "$2/run/culvert" "$2/var/lib/culvert"
chown 65532:65532 "$2/run/culvert" "$2/var/lib/culvert"
if [ -n "$3" ]; then setcap "$3" "$2/culvert"; fi
