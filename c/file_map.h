/* SPDX-License-Identifier: MIT */
/*
 * A file on tmpfs, mapped: its data is in memory anyway, and copying it from
 * there costs a fraction of a system call. Only pages known to be there are
 * touched, since touching a hole would fill it. Where the map does not help, its
 * functions say so and the caller goes by system calls, which are always right.
 */
#ifndef VHC_FILE_MAP_H
#define VHC_FILE_MAP_H

#include "io.h"

struct file_map;

/*
 * Maps size bytes of fd, which must outlive the map. Returns NULL if that
 * cannot be, and all other functions take NULL for a map that never helps.
 */
struct file_map *file_map_create(int fd, uint64_t size, bool writable);
void file_map_release(struct file_map *map);

/* Reads or writes the data of io. False: it is not done, or not to be relied on. */
bool file_map_copy(struct file_map *map, const struct io *io);

/* Brings the start of what io will read nearer. */
void file_map_prefetch(const struct file_map *map, const struct io *io);

/* The file has pages there now, by a write; or will have them no longer, for all we know. */
void file_map_filled(struct file_map *map, uint64_t offset, uint64_t len);
void file_map_emptied(struct file_map *map, uint64_t offset, uint64_t len);

/* Sets the file's time of modification, which writing to a map of tmpfs does not. */
void file_map_touch(struct file_map *map);

#endif
