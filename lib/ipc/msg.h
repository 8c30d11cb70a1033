/* Building and reading messages in a caller's buffer (include/prelux/msg.h). Pure, shim-safe. */
#ifndef PRELUX_IPC_MSG_H
#define PRELUX_IPC_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/prelux/attr.h"
#include "include/prelux/msg.h"
#include "include/prelux/version.h"

struct prelux_msg {
  unsigned char *buf; /* borrowed; 8-byte aligned */
  size_t cap;
  size_t len;
  bool overflow; /* a field did not fit: the message must not be sent */
};

void prelux_msg_begin(struct prelux_msg *m, void *buf, size_t cap, enum prelux_op op);
void prelux_msg_put(struct prelux_msg *m, enum prelux_field id, const void *value, size_t len);
void prelux_msg_put_str(struct prelux_msg *m, enum prelux_field id, const char *s);
void prelux_msg_put_u32(struct prelux_msg *m, enum prelux_field id, uint32_t v);

/* 0 when buf[0..len) is a whole, well-formed message of a major we serve; else -EBADMSG or -EPROTONOSUPPORT.
 * Every string value is checked to hold no NUL but the one that the reader adds: values are NUL-padded. */
int prelux_msg_check(const void *buf, size_t len);
enum prelux_op prelux_msg_op(const void *buf);

/* Next field with `id` after *pos (start with 0); value (borrowed) or NULL. String values are followed by a NUL
 * in the buffer (prelux_msg_put_str stores it and does not count it in *len). */
const void *prelux_msg_next(const void *buf, enum prelux_field id, size_t *pos, size_t *len);
const char *prelux_msg_str(const void *buf, enum prelux_field id);
/* The value, or `missing`. */
uint32_t prelux_msg_u32(const void *buf, enum prelux_field id, uint32_t missing);
/* 0, or -ENOENT */
int prelux_msg_attr(const void *buf, struct prelux_attr *ret);

#endif
