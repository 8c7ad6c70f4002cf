#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# First process of a guest under test: mounts, loads the drivers and answers the host.
# From the kernel's command line: VHC_MODULES (patterns, with commas), VHC_SCRIPTS (a folder), VHC_TTY.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/dev/work

# busybox starts its own tools through /proc/self/exe, so /proc comes first and by path.
/bin/busybox mount -t proc proc /proc
mount -t sysfs sysfs /sys
grep -q '^devtmpfs /dev ' /proc/mounts || mount -t devtmpfs devtmpfs /dev
# Under user-mode-linux the root is the host's own, read-only. What is written goes to a
# folder that hides nothing of it.
mkdir /dev/work
mount -t tmpfs tmpfs /dev/work
cd /dev/work || exit 1

# Opened before there are drivers: user-mode-linux mixes up its interrupts when one fails.
exec 3<>"/dev/$VHC_TTY"
stty raw -echo <&3
for module in $(echo "$VHC_MODULES" | tr , " "); do
	insmod "$module" || echo "insmod $module failed"
done
sh "$VHC_SCRIPTS/agent.sh"
poweroff -f
