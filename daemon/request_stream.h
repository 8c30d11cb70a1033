/* OPEN with PRELUX_F_STREAM: a large file is handed out while it comes in. */
#ifndef PRELUX_DAEMON_REQUEST_STREAM_H
#define PRELUX_DAEMON_REQUEST_STREAM_H

#include "daemon/request.h"

/* Answers c, at once or when a pool thread knows. Takes what t holds. Loop thread. */
void prelux_request_stream(struct prelux_conn *c, struct prelux_target *t);

#endif
