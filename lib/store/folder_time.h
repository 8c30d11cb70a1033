/* st_mtime of folders in which names were changed here (folder_time.c says how). */
#ifndef PRELUX_STORE_FOLDER_TIME_H
#define PRELUX_STORE_FOLDER_TIME_H

#include "lib/store/private.h"

/* The name was made, renamed or removed here, which can be seen, and nobody has been told yet: its folder has changed just now. Without
 * store.lock. */
void prelux_folder_moved(struct prelux_tree *t, const char *object);
/* The same of a name that was made at that time (CLOCK_REALTIME, 0: now), should the folder not have changed since. */
void prelux_folder_moved_at(struct prelux_tree *t, const char *object, int64_t at_ns);
/* Lays it over what the remote says of the folder. Whoever puts it into the index holds store.lock from here until he has. */
void prelux_folder_time_show(struct prelux_tree *t, const char *object, size_t len, struct prelux_object *folder);
/* The folder went, or its time was set: what was noted does not count. */
void prelux_folder_time_drop(struct prelux_tree *t, const char *object);
/* The folder has another name; folders below it have the remote's times again. */
void prelux_folder_time_move(struct prelux_tree *t, const char *from, const char *to);

int prelux_folder_times_load(struct prelux_tree *t);
void prelux_folder_times_release(struct prelux_tree *t);
/* Into the catalogue, of all trees. Without store.lock. */
void prelux_folder_times_save(struct prelux_store *s);

#endif
