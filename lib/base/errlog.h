/* The record of every errno that prelux itself makes: RUNTIME/errors, one JSON object a line,
 * written with a single O_APPEND write by library and daemon alike (so it works without a daemon
 * and in any process state: raw system calls, no allocation). `prelux errors` reads it. */
#ifndef PRELUX_BASE_ERRLOG_H
#define PRELUX_BASE_ERRLOG_H

#include <stddef.h>

struct prelux_error_record {
  int err;             /* positive errno that the program gets */
  const char *call;    /* "open", "stat", ... or the daemon's step: "fill", "list" */
  const char *path;    /* logical path where known, else the object's */
  const char *cause;   /* what happened, one sentence */
  const char *backend; /* name of the backend, or NULL */
  const char *advice;  /* what to do, or NULL */
};

/* Appends one record to RUNTIME/errors. The same (err, path, cause) from one process is written
 * once in 10 s. Nothing is written once the file is above 8 MiB (the daemon rotates it at 4 MiB).
 * Failure to write is silent: there is nowhere to say it. Async-signal-safe; errno untouched. */
void prelux_error_record(const char *runtime, const struct prelux_error_record *rec);

/* Formats `rec` as one line of JSON with a final '\n' into buf; bytes written, always < cap.
 * Too long strings are cut; every byte that is not printable ASCII becomes \u00XX. */
size_t prelux_error_format(char *buf, size_t cap, const struct prelux_error_record *rec, long long unix_ms, int pid);

/* "ENOENT" for 2 and so on; "E?" when unknown. */
const char *prelux_errno_name(int err);

#endif
