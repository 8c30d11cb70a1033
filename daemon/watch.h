/* Closes that nobody tells: of programs without the library, of those that were killed. The kernel does (inotify on the staging folders), and
 * the file is settled as if its writer had told. What is missed (an overflow, a start) the slow poll of the stores finds. */
#ifndef PRELUX_DAEMON_WATCH_H
#define PRELUX_DAEMON_WATCH_H

#include "lib/store/store.h"

struct prelux_server;
struct prelux_watch;

/* NULL in *ret without inotify: the poll alone has to do. */
int prelux_watch_create(struct prelux_server *s, struct prelux_watch **ret);
void prelux_watch_free(struct prelux_watch *w); /* NULL is allowed; after the pool */
/* The store's staging folder is watched from now on; again is nothing. Any thread. */
void prelux_watch_store(struct prelux_watch *w, struct prelux_store *store);

#endif
