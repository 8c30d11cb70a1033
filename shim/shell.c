/* system and popen start a shell inside libc with libc's own `environ`. When the program has dropped LD_PRELOAD from it,
 * the command is wrapped so that a first shell puts it back and becomes (exec) the one that runs the command:
 *
 *   export LD_PRELOAD='...' PRELUX_CONFIG='...'; exec /bin/sh -c 'COMMAND'
 *
 * libc's handling of signals, cancellation and pclose stays as it is, and `environ` is not touched. */
#include "shim/exec.h"
#include "shim/pending.h"

static size_t quoted_size(const char *text)
{
  size_t n = 0;

  for (; *text; text++) n += *text == '\'' ? 4 : 1;
  return n;
}

static char *put_quoted(char *out, const char *text)
{
  for (; *text; text++) {
    if (*text == '\'') {
      memcpy(out, "'\\''", 4);
      out += 4;
    } else {
      *out++ = *text;
    }
  }
  return out;
}

/* The wrapped command, to be freed; NULL: nothing is missing (or no memory is left). */
static char *wrap(const char *command)
{
  static const char head[] = "export ", middle[] = "; exec /bin/sh -c '";
  char exports[3 * PATH_MAX];

  if (prelux_pending_any()) prelux_pending_settle_all(true);
  long n = prelux_exec_exports(environ, exports, sizeof(exports));

  if (n <= 0) return NULL;
  char *text = malloc(sizeof(head) + (size_t)n + sizeof(middle) + quoted_size(command) + 2), *p = text;
  if (!text) return NULL;
  p = (char *)memcpy(p, head, sizeof(head) - 1) + sizeof(head) - 1;
  p = (char *)memcpy(p, exports, (size_t)n) + n;
  p = (char *)memcpy(p, middle, sizeof(middle) - 1) + sizeof(middle) - 1;
  p = put_quoted(p, command);
  memcpy(p, "'", 2);
  return text;
}

static void release(char *text)
{
  int saved = errno;

  free(text);
  errno = saved;
}

PRELUX_EXPORT int system(const char *command)
{
  char *text = prelux_idle() || !command ? NULL : wrap(command);
  int rc = prelux_real.system(text ? text : command);

  release(text);
  return rc;
}

PRELUX_EXPORT FILE *popen(const char *command, const char *mode)
{
  char *text = prelux_idle() || !command ? NULL : wrap(command);
  FILE *f = prelux_real.popen(text ? text : command, mode);

  release(text);
  return f;
}

PRELUX_EXPORT FILE *_IO_popen(const char *command, const char *mode)
{
  return popen(command, mode);
}
