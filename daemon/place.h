/* Where the daemon lives: runtime folder, lock, socket, pid file. */
#ifndef PRELUX_DAEMON_PLACE_H
#define PRELUX_DAEMON_PLACE_H

#include <stdbool.h>
#include <sys/types.h>

/* The one daemon of a runtime folder holds RUNTIME/daemon.lock for life. fd (kept open), -EBUSY: another one serves, or
 * -errno. One that is on its way out is waited for: it does not listen any more, which cannot be seen where the socket is somebody else's
 * (activated), so that is waited for in any case. */
int prelux_place_lock(int runtime_fd, bool activated);
/* Listening SEQPACKET socket under RUNTIME/sock; never there before it listens. fd or -errno. */
int prelux_place_listen(int runtime_fd, bool everybody);
/* The same of a service manager's making (LISTEN_PID, LISTEN_FDS of the environment: sd_listen_fds(3)), which must be RUNTIME/sock: fd,
 * -ENOENT: there is none, or -errno. */
int prelux_place_inherit(int runtime_fd, const char *listen_pid, const char *listen_fds);
/* The socket still has its name, and no other has: who looks for us finds us. */
bool prelux_place_seen(int runtime_fd);
int prelux_place_write_pid(const char *runtime);

/* RUNTIME/lock, where starters meet: fd, or -EAGAIN when somebody else has it. */
int prelux_place_meet(int runtime_fd);
/* Takes the name of our socket away (daemon.lock is ours, so it is), puts it back, removes it for good. 0 or -errno. */
int prelux_place_hide(int runtime_fd);
int prelux_place_show(int runtime_fd);
void prelux_place_remove(int runtime_fd);

#endif
