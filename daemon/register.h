/* REGISTER: include/prelux/msg.h says what goes in and comes out. */
#ifndef PRELUX_DAEMON_REGISTER_H
#define PRELUX_DAEMON_REGISTER_H

#include "daemon/answer.h"
#include "daemon/daemon.h"

/* On a pool thread. msg: a checked REGISTER message. */
void prelux_register(struct prelux_daemon *d, const void *msg, struct prelux_answer *a);
/* The configuration of a daemon of a node, before anybody asks (node.h). On a thread that may wait. */
void prelux_register_node(struct prelux_daemon *d, struct prelux_answer *a);

#endif
