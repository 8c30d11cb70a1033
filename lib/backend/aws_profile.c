/* The files are INI files with a twist: lines that begin with a blank belong to the setting above (nested settings such
 * as `s3 =`), of which none concerns us. '#' and ';' begin a comment at the start of a line or after a blank. */
#include "lib/backend/aws_profile.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (1u << 20)

static int read_all(int fd, size_t max, char **ret, size_t *ret_len)
{
  char *text = malloc(max + 2);
  size_t len = 0;
  if (!text)
    return -ENOMEM;
  for (;;)
  {
    ssize_t n = read(fd, text + len, max + 1 - len);
    if (n < 0 && errno == EINTR)
      continue;
    int err = n < 0 ? errno : 0;
    len += n > 0 ? (size_t)n : 0;
    if (!err && len > max)
      err = EFBIG;
    if (!err && n == 0 && memchr(text, 0, len))
      err = EINVAL;
    if (err)
    {
      explicit_bzero(text, len);
      free(text);
      return -err;
    }
    if (n == 0)
      break;
  }
  text[len] = 0;
  *ret = text;
  *ret_len = len;
  return 0;
}

int prelux_aws_read_file(const char *path, size_t max, char **ret, size_t *ret_len)
{
  struct stat st;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0)
    return -errno;
  int rc = fstat(fd, &st) < 0 ? -errno : !S_ISREG(st.st_mode) ? -EINVAL : read_all(fd, max, ret, ret_len);
  close(fd);
  return rc;
}

const char *prelux_aws_profile_get(const struct prelux_aws_profile *p, const char *name)
{
  for (size_t i = 0; i < p->n; i++)
    if (strcmp(p->settings[i].name, name) == 0)
      return p->settings[i].value[0] ? p->settings[i].value : NULL;
  return NULL;
}

void prelux_aws_profile_release(struct prelux_aws_profile *p)
{
  for (size_t i = 0; i < p->n; i++)
  {
    explicit_bzero(p->settings[i].value, strlen(p->settings[i].value));
    free(p->settings[i].name);
    free(p->settings[i].value);
  }
  *p = (struct prelux_aws_profile){.n = 0};
}

/* Cuts blanks at both ends, in place. */
static char *trimmed(char *s)
{
  while (isspace((unsigned char)*s))
    s++;
  size_t n = strlen(s);
  while (n && isspace((unsigned char)s[n - 1]))
    s[--n] = 0;
  return s;
}

static void cut_comment(char *line)
{
  for (char *p = line; *p; p++)
    if ((*p == '#' || *p == ';') && (p == line || isspace((unsigned char)p[-1])))
    {
      *p = 0;
      return;
    }
}

/* "[profile x]" in a config file, "[x]" in a credentials file; "[default]" in both. */
static bool is_section(char *line, const char *name, bool config)
{
  char *end = strchr(line, ']');
  if (!end)
    return false;
  *end = 0;
  char *s = trimmed(line + 1);
  if (config && strncmp(s, "profile", 7) == 0 && isspace((unsigned char)s[7]))
    s = trimmed(s + 7);
  else if (config && strcmp(s, "default") != 0)
    return false;
  size_t n = strlen(s);
  if (n >= 2 && (*s == '"' || *s == '\'') && s[n - 1] == *s)
  {
    s[n - 1] = 0;
    s++;
  }
  return strcmp(s, name) == 0;
}

static int add_setting(struct prelux_aws_profile *p, char *line)
{
  char *equal = strchr(line, '=');
  if (!equal)
    return 0;
  *equal = 0;
  char *name = trimmed(line), *value = trimmed(equal + 1);
  for (char *c = name; *c; c++)
    *c = (char)tolower((unsigned char)*c);
  if (!*name || p->n == PRELUX_AWS_SETTINGS || prelux_aws_profile_get(p, name))
    return 0;
  char *own_name = strdup(name), *own_value = strdup(value);
  if (!own_name || !own_value)
  {
    free(own_name);
    free(own_value);
    return -ENOMEM;
  }
  p->settings[p->n].name = own_name;
  p->settings[p->n++].value = own_value;
  return 0;
}

static int take(struct prelux_aws_profile *p, char *text, const char *name, bool config)
{
  char *rest, *line = strtok_r(text, "\r\n", &rest);
  bool inside = false;
  int rc = 0;
  for (; line && rc == 0; line = strtok_r(NULL, "\r\n", &rest))
  {
    if (isspace((unsigned char)line[0]))
      continue;
    cut_comment(line);
    if (line[0] == '[')
    {
      inside = is_section(line, name, config);
      p->found = p->found || inside;
    }
    else if (inside)
    {
      rc = add_setting(p, line);
    }
  }
  return rc;
}

int prelux_aws_profile_add(struct prelux_aws_profile *p, const char *path, const char *name, bool config,
                           struct prelux_problem *why)
{
  char *text;
  size_t len;
  int rc = prelux_aws_read_file(path, FILE_MAX, &text, &len);
  if (rc == -ENOENT || rc == -ENOTDIR)
    return 0;
  if (rc < 0)
    return prelux_problem(why, -rc, "%s: %s", path, strerror(-rc));
  rc = take(p, text, name, config);
  explicit_bzero(text, len);
  free(text);
  return rc < 0 ? prelux_problem(why, -rc, "%s: no memory", path) : 0;
}
