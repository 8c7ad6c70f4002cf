# SPDX-License-Identifier: MIT
# Functions for the scripts that tests run in a guest. Sizes and offsets are in bytes,
# multiples of 4096; disks are names in /dev.

# busybox has one of its own, which cannot write zeroes.
blkdiscard() {
	/sbin/blkdiscard "$@"
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
	head -c "$3" /dev/urandom >random
	dd if=random of="/dev/$1" bs=65536 seek=$(($2 / 65536)) oflag=direct 2>/dev/null || return
	md5sum <random | cut -d' ' -f1
	rm random
}

# wait_size DISK BYTES: returns when the kernel has taken note of that size.
wait_size() {
	until [ "$(cat "/sys/block/$1/size")" -eq $(($2 / 512)) ]; do usleep 20000; done
}

# filesystem DISK: makes one, fills it, takes it down and looks whether all is there.
filesystem() {
	mkfs.ext4 -q -F "/dev/$1" || return
	mount -t ext4 "/dev/$1" mnt || return
	for i in $(seq 40); do
		mkdir -p "mnt/$((i % 7))"
		head -c $((i * 3001)) /dev/urandom >"mnt/$((i % 7))/$i"
	done
	find mnt -type f -exec md5sum {} + >sums
	umount mnt && drop_caches && fsck.ext4 -fn "/dev/$1" || return
	mount -t ext4 -o ro "/dev/$1" mnt || return
	md5sum -c sums
	sums=$?
	umount mnt && [ "$sums" -eq 0 ] && [ "$(wc -l <sums)" -eq 40 ]
}

# verify DISK DEPTH BYTES: random writes, read again and compared by fio; prints its JSON.
verify() {
	fio --name=verify --filename="/dev/$1" --ioengine=libaio --allow_file_create=0 --direct=1 --iodepth="$2" \
		--rw=randwrite --bs=4k --size="$3" --verify=crc32c --verify_fatal=1 \
		--output-format=json
}

# load DISK SECONDS: random reads and writes, for as long or until they fail.
load() {
	fio --name=load --filename="/dev/$1" --ioengine=libaio --allow_file_create=0 --direct=1 --iodepth=8 \
		--rw=randrw --bs=4k --time_based --runtime="$2" --output-format=json
}

# virtio_device DISK: the virtio device that the disk belongs to.
virtio_device() {
	basename "$(readlink -f "/sys/block/$1/device")"
}

# unbind DISK: takes the device from its driver and prints its name.
unbind() {
	device=$(virtio_device "$1")
	echo "$device" >/sys/bus/virtio/drivers/virtio_blk/unbind || return
	[ ! -e "/sys/block/$1" ] && echo "$device"
}

# bind DEVICE: gives it back. The disk has its former name unless somebody has that open.
bind() {
	echo "$1" >/sys/bus/virtio/drivers/virtio_blk/bind
}
