/* How another process ended, of which we are not the parent. */
#ifndef PRELUX_BASE_PROCESS_H
#define PRELUX_BASE_PROCESS_H

#include <stdbool.h>

/* A descriptor (pidfd, CLOEXEC) of the process that connected to us over the unix socket, and its number. -errno: none can be had; -ESRCH: it is gone;
 * -EREMOTE: it is none of ours to see (another PID namespace), its number is 0. */
int prelux_process_peer(int sock, int *ret_pid);
/* A descriptor of the process that has this number now, or -errno. */
int prelux_process_open(int pid);

bool prelux_process_dead(int pidfd); /* all its threads are gone; never waits */

enum prelux_end {
  PRELUX_END_NONE,   /* it lives */
  PRELUX_END_DYING,  /* it is about to be gone: nobody knows yet, prelux_process_wait() */
  PRELUX_END_KNOWN,  /* *ret_status: as wait() gives it */
  PRELUX_END_UNKNOWN /* it is gone, and this kernel does not tell any more */
};
/* The kernel tells until the parent has asked; those from Linux 6.15 on afterwards, too, by the pidfd. */
enum prelux_end prelux_process_end(int pidfd, int pid, int *ret_status);
void prelux_process_wait(int pidfd, int ms); /* until it is dead, so long at most */

/* A process that ends so has not meant to: its files may be halves. Else it was asked to end, or ended by itself. */
bool prelux_process_crashed(int status);
/* "SIGKILL" of a status of which that is true. */
const char *prelux_process_signal(int status);

#endif
