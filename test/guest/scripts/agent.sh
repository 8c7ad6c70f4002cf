#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# Runs what the host sends down the line, descriptor 3. A request is "ID SCRIPT", the script
# in base64; the answer is "ID STATUS OUTPUT". Requests run beside each other.

answer() {
	. "$VHC_SCRIPTS/lib.sh"
	(. "./$1.sh") >"$1.out" 2>&1 </dev/null
	status=$?
	{
		flock 9
		echo "$1 $status $(base64 "$1.out" | tr -d '\n')" >&3
	} 9>lock
	rm -f "$1.sh" "$1.out"
}

echo "ready" >&3
while read -r id script <&3; do
	echo "$script" | base64 -d >"$id.sh"
	# A child that ended during a read would lose what has been read of a line, so these are
	# left to the first process.
	(answer "$id" &)
done
