/* Log of daemon and lib (never of the library inside programs): text or JSON lines to stderr or a
 * file; level and file may change while running. Thread-safe. */
#ifndef PRELUX_BASE_LOG_H
#define PRELUX_BASE_LOG_H

enum prelux_log_level { PRELUX_LOG_ERROR, PRELUX_LOG_WARN, PRELUX_LOG_INFO, PRELUX_LOG_DEBUG };

/* file NULL or "": stderr. 0 or -errno. */
int prelux_log_open(const char *file, enum prelux_log_level level, int json);
void prelux_log_set_level(enum prelux_log_level level);
/* "error", "warn", "info", "debug" -> level, or -EINVAL. */
int prelux_log_parse_level(const char *text);

void prelux_log(enum prelux_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define prelux_error(...) prelux_log(PRELUX_LOG_ERROR, __VA_ARGS__)
#define prelux_warn(...) prelux_log(PRELUX_LOG_WARN, __VA_ARGS__)
#define prelux_info(...) prelux_log(PRELUX_LOG_INFO, __VA_ARGS__)
#define prelux_debug(...) prelux_log(PRELUX_LOG_DEBUG, __VA_ARGS__)

#endif
