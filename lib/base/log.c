#include "lib/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/os.h"

#define LINE_MAX_BYTES 4096

static const char *const level_names[] = {"error", "warn", "info", "debug"};

/* The log of this process: one file, one level. */
static struct
{
  pthread_mutex_t lock; /* guards fd and owned while they are exchanged */
  int fd;
  bool owned;
  atomic_int level;
  atomic_int json;
} out = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = 2, .level = PRELUX_LOG_INFO};

int prelux_log_open(const char *file, enum prelux_log_level level, int json)
{
  int fd = 2;
  if (file && file[0])
  {
    fd = prelux_os.open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
      return -errno;
  }
  pthread_mutex_lock(&out.lock);
  if (out.owned)
    prelux_os.close(out.fd);
  out.fd = fd;
  out.owned = fd != 2;
  pthread_mutex_unlock(&out.lock);
  atomic_store(&out.level, (int)level);
  atomic_store(&out.json, json);
  return 0;
}

void prelux_log_set_level(enum prelux_log_level level)
{
  atomic_store(&out.level, (int)level);
}

int prelux_log_parse_level(const char *text)
{
  for (size_t i = 0; text && i < sizeof level_names / sizeof *level_names; i++)
    if (strcmp(text, level_names[i]) == 0)
      return (int)i;
  return -EINVAL;
}

/* Copies `in` so that a line stays one line; as JSON string content when json. */
static size_t clean(char *buf, size_t cap, const char *in, int json)
{
  size_t n = 0;
  for (; *in && n + 8 < cap; in++)
  {
    unsigned char c = (unsigned char)*in;
    if (json && (c == '"' || c == '\\'))
    {
      buf[n++] = '\\';
      buf[n++] = (char)c;
    }
    else if (c < 0x20 || c == 0x7f)
      n += (size_t)snprintf(buf + n, cap - n, json ? "\\u%04x" : "\\x%02x", c);
    else
      buf[n++] = (char)c;
  }
  buf[n] = 0;
  return n;
}

void prelux_log(enum prelux_log_level level, const char *fmt, ...)
{
  if ((int)level > atomic_load(&out.level))
    return;
  int saved = errno;
  char text[LINE_MAX_BYTES - 512], cleaned[LINE_MAX_BYTES - 256], line[LINE_MAX_BYTES], when[40];
  struct timespec now;
  struct tm tm;
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  int json = atomic_load(&out.json);
  clean(cleaned, sizeof cleaned, text, json);
  clock_gettime(CLOCK_REALTIME, &now);
  gmtime_r(&now.tv_sec, &tm);
  strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
  int n = snprintf(line, sizeof line, json ? "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"text\":\"%s\"}\n" : "%s.%03ldZ %s %s\n", when,
                   now.tv_nsec / 1000000, level_names[level], cleaned);
  pthread_mutex_lock(&out.lock);
  ssize_t done = prelux_os.write(out.fd, line, (size_t)n);
  (void)done; /* a log that cannot be written has nobody to tell */
  pthread_mutex_unlock(&out.lock);
  errno = saved;
}
