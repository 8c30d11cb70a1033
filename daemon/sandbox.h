/* What the daemon gives up for good before it serves anybody: it reads answers of servers that it does not trust. */
#ifndef PRELUX_DAEMON_SANDBOX_H
#define PRELUX_DAEMON_SANDBOX_H

/* Before the first thread is made. No new privileges, no memory in core files, and a system call filter (seccomp): no program can be executed, nobody traced,
 * no namespace, mount, user or capability changed, no other kernel machinery begun that the daemon does not use. Each that cannot be had is said in the log. */
void prelux_sandbox(void);

#endif
