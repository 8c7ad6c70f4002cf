# SPDX-License-Identifier: MIT
# Functions for the scripts that tests run in a guest. Sizes and offsets are in bytes,
# multiples of 4096; disks are names in /dev.

# busybox has tools of these names, which can do less.
blkdiscard() {
	/sbin/blkdiscard "$@"
}
lsscsi() {
	/usr/bin/lsscsi "$@"
}
# In user-mode-linux with libraries of its own: it starts in a third of the time.
fio() {
	LD_LIBRARY_PATH=${VHC_FIO-} /usr/bin/fio "$@"
}

drop_caches() {
	sync
	echo 3 >/proc/sys/vm/drop_caches
}

# disk_sum DISK OFFSET LENGTH: checksum of what the disk, not the cache, holds there.
disk_sum() {
	dd if="/dev/$1" bs=4096 skip=$(($2 / 4096)) count=$(($3 / 4096)) iflag=direct 2>/dev/null |
		md5sum | cut -d' ' -f1
}

# write_random DISK OFFSET LENGTH: writes random data there and prints its checksum.
write_random() {
	dd if=/dev/urandom of="random.$1" bs="$3" count=1 2>/dev/null
	dd if="random.$1" of="/dev/$1" bs=4096 seek=$(($2 / 4096)) oflag=direct 2>/dev/null || return
	md5sum <"random.$1" | cut -d' ' -f1
	rm "random.$1"
}

# keeps DISK OFFSET LENGTH: whether random data that is written there is read again.
keeps() {
	written=$(write_random "$@") && [ "$(disk_sum "$@")" = "$written" ]
}

# wait_size DISK BYTES: returns when the kernel has taken note of that size.
wait_size() {
	until [ "$(cat "/sys/block/$1/size")" -eq $(($2 / 512)) ]; do usleep 20000; done
}

# filesystem DISK: makes one, fills it, takes it down and looks whether all is there.
filesystem() {
	mkfs.ext4 -q -F "/dev/$1" || return
	mkdir -p "mnt.$1"
	mount -t ext4 "/dev/$1" "mnt.$1" || return
	for i in $(seq 30); do
		mkdir -p "mnt.$1/$((i % 7))"
		dd if=/dev/urandom of="mnt.$1/$((i % 7))/$i" bs=$((i * 3001)) count=1 2>/dev/null
	done
	find "mnt.$1" -type f -exec md5sum {} + >"sums.$1"
	umount "mnt.$1" && drop_caches && fsck.ext4 -fn "/dev/$1" || return
	mount -t ext4 -o ro "/dev/$1" "mnt.$1" || return
	md5sum -c "sums.$1"
	sums=$?
	umount "mnt.$1" && [ "$sums" -eq 0 ] && [ "$(wc -l <"sums.$1")" -eq 30 ]
}

# fio_jobs OPTIONS DISK...: one job for each disk, at the same time; prints fio's JSON.
fio_jobs() {
	options=$1
	shift
	jobs=
	for disk; do jobs="$jobs --name=$disk --filename=/dev/$disk"; done
	# shellcheck disable=SC2086 # lists of words
	fio --name=global --ioengine=libaio --direct=1 --bs=4k --allow_file_create=0 \
		--output-format=json $options $jobs
}

# verify DEPTH BYTES DISK...: random writes, read again and compared.
verify() {
	depth=$1 size=$2
	shift 2
	fio_jobs "--rw=randwrite --iodepth=$depth --size=$size --verify=crc32c --verify_fatal=1" "$@"
}

# load SECONDS DISK...: random reads and writes, for as long or until they fail.
load() {
	seconds=$1
	shift
	fio_jobs "--rw=randrw --iodepth=8 --time_based --runtime=$seconds" "$@"
}

# verify_on NAME DISK OPTIONS: fio in the background, which writes blocks at random, verifies them
# again and again, and ends at a word from verify_end.
verify_on() {
	# shellcheck disable=SC2086 # a list of words
	LD_LIBRARY_PATH=${VHC_FIO-} setsid fio --name="$1" --filename="/dev/$2" --ioengine=libaio --direct=1 --bs=4k \
		--rw=randwrite --iodepth=32 --verify=crc32c --verify_fatal=1 --verify_backlog=64 \
		--verify_async=1 --time_based --runtime=100000 --allow_file_create=0 --output-format=json $3 \
		>"$1.json" 2>"$1.err" </dev/null &
	echo $! >"$1.pid"
}

# verify_end NAME: ends it; prints fio's JSON. Fails if it had ended before.
verify_end() {
	kill -INT "$(cat "$1.pid")" || { cat "$1.err"; return 1; }
	while kill -0 "$(cat "$1.pid")" 2>/dev/null; do usleep 50000; done
	cat "$1.err" >&2
	cat "$1.json"
}

# attempts COUNT read|write|flush|unmap DISK: so many requests, each for 4 KiB; prints for each
# "good" or the error.
attempts() {
	for _ in $(seq "$1"); do
		case $2 in
		read) dd if="/dev/$3" of=/dev/null bs=4096 count=1 iflag=direct ;;
		write) dd if=/dev/zero of="/dev/$3" bs=4096 count=1 oflag=direct ;;
		flush) dd if=/dev/zero of="/dev/$3" bs=4096 count=1 oflag=direct conv=fsync ;;
		unmap) blkdiscard -l 4096 "/dev/$3" ;;
		esac 2>attempt && echo good || sed -n '1s/.*: //p' attempt
	done
}

# read_on DISK: a read of 4 KiB in the background, into DISK.data.
read_on() {
	rm -f "$1.end"
	# shellcheck disable=SC2016 # words of the other shell
	setsid sh -c 'dd if="/dev/$0" of="$0.data" bs=4096 count=1 iflag=direct 2>"$0.err"
		echo $? >"$0.end"' "$1" >/dev/null 2>&1 </dev/null &
}

# read_end DISK: waits for its end; prints "good" or the error.
read_end() {
	until [ -s "$1.end" ]; do usleep 20000; done
	[ "$(cat "$1.end")" -eq 0 ] && echo good || sed -n '1s/.*: //p' "$1.err"
}

# differences DISK: writes a random block and reads it twice; prints for each byte that differs
# which read it was, the position, from 1, and what was written and read, in octal.
differences() {
	dd if=/dev/urandom of=was bs=4096 count=1 2>/dev/null
	dd if=was of="/dev/$1" bs=4096 oflag=direct 2>/dev/null || return
	for read in first second; do
		dd if="/dev/$1" of=now bs=4096 count=1 iflag=direct 2>/dev/null || return
		cmp -l was now | sed "s/^ */$read /"
	done
}

# dma_check_on DISK BLOCKS SLOTS: dma_check in the background, once it has begun to read.
dma_check_on() {
	rm -f dma_in dma_out
	mkfifo dma_in dma_out
	# Each end is kept open by the program itself.
	setsid dma_check "/dev/$1" "$2" "$3" <>dma_in >dma_out 2>dma_err &
	echo $! >dma_pid
	setsid sleep 1000000 <>dma_out >/dev/null 2>&1 &
	echo $! >dma_keeper
	dma_checked
}

# dma_checked: what it found since the last time.
dma_checked() {
	echo >dma_in
	head -n 1 <dma_out
}

# dma_check_end: what it found; then it ends.
dma_check_end() {
	dma_checked
	kill "$(cat dma_pid)" "$(cat dma_keeper)"
}

# memory_online BYTES: waits for memory that was plugged, so much of it, and takes it into use.
memory_online() {
	left=$1
	block=$((0x$(cat /sys/devices/system/memory/block_size_bytes)))
	while [ "$left" -gt 0 ]; do
		for state in $(grep -l offline /sys/devices/system/memory/memory*/state); do
			echo online_movable >"$state" && left=$((left - block))
		done
		usleep 50000
	done
}

# virtio_device DISK: the virtio device that the disk belongs to.
virtio_device() {
	readlink -f "/sys/block/$1/device" | grep -oE 'virtio[0-9]+' | tail -n 1
}

# virtio_disks: for each virtio device with a disk, in their order: the disk and the features.
virtio_disks() {
	for device in $(cd /sys/bus/virtio/devices && ls -d virtio* | sort -V); do
		disk=$(find "/sys/bus/virtio/devices/$device/" -path '*/block/*' -maxdepth 6 \
			\( -name 'vd*' -o -name 'sd*' \) | head -n 1)
		[ -z "$disk" ] || echo "${disk##*/} $(cat "/sys/bus/virtio/devices/$device/features")"
	done
}

# unbind DISK: takes the device from its driver; prints the driver and the device.
unbind() {
	device=$(virtio_device "$1")
	driver=$(readlink -f "/sys/bus/virtio/devices/$device/driver")
	echo "$device" >"$driver/unbind" || return
	[ ! -e "/sys/block/$1" ] && echo "$driver $device"
}

# bind DRIVER DEVICE: gives it back. A disk has its former name unless somebody has that open.
bind() {
	echo "$2" >"$1/bind"
}

# scsi_disk TARGET LUN: name of the disk there on the only SCSI host, once it is there.
scsi_disk() {
	until set -- "$1" "$2" /sys/bus/scsi/devices/*:0:"$1:$2"/block/* && [ -e "$3" ]; do
		usleep 50000
	done
	echo "${3##*/}"
}

# sg_node DISK: its SCSI generic device.
sg_node() {
	echo /dev/"$(ls "/sys/block/$1/device/scsi_generic")"
}

# wait_gone DISK: returns when the kernel has no such disk any more.
wait_gone() {
	while [ -e "/sys/block/$1" ]; do usleep 20000; done
}
