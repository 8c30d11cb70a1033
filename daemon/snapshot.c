#include "daemon/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/files.h"
#include "lib/base/os.h"

#define HEAD "prelux-snapshot 1\n"
#define SNAPSHOT_MAX (32u << 20)

void prelux_snapshot_release(struct prelux_snapshot *s)
{
  for (size_t i = 0; i < s->n_files; i++)
  {
    free(s->files[i].path);
    free(s->files[i].text);
  }
  for (size_t i = 0; i < s->n_env; i++)
    free(s->env[i]);
  free(s->files);
  free(s->env);
  free(s->source);
  free(s->cwd);
  free(s->home);
  *s = (struct prelux_snapshot){0};
}

int prelux_snapshot_add_file(struct prelux_snapshot *s, char *path, char *text, size_t len, int err,
                             const struct stat *st)
{
  struct prelux_source_file *more = realloc(s->files, (s->n_files + 1) * sizeof *more);
  if (more)
    s->files = more;
  if (!more || !path)
  {
    free(path);
    free(text);
    return -ENOMEM;
  }
  struct prelux_source_file *f = &s->files[s->n_files++];
  *f = (struct prelux_source_file){.path = path, .text = text, .len = len, .err = err};
  if (st)
    f->st = *st;
  return 0;
}

int prelux_snapshot_add_env(struct prelux_snapshot *s, const char *name)
{
  size_t at = 0;
  while (at < s->n_env && strcmp(s->env[at], name) < 0)
    at++;
  if (at < s->n_env && strcmp(s->env[at], name) == 0)
    return 0;
  char *copy = strdup(name), **more = realloc(s->env, (s->n_env + 1) * sizeof *more);
  if (more)
    s->env = more;
  if (!more || !copy)
  {
    free(copy);
    return -ENOMEM;
  }
  memmove(more + at + 1, more + at, (s->n_env - at) * sizeof *more);
  more[at] = copy;
  s->n_env++;
  return 0;
}

const struct prelux_source_file *prelux_snapshot_file(const struct prelux_snapshot *s, const char *path)
{
  for (size_t i = 0; i < s->n_files; i++)
    if (strcmp(s->files[i].path, path) == 0)
      return &s->files[i];
  return NULL;
}

static bool same(const struct stat *a, const struct stat *b)
{
  return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
         a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
         a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

bool prelux_snapshot_current(const struct prelux_snapshot *s)
{
  for (size_t i = 0; i < s->n_files; i++)
  {
    struct stat st;
    int err = prelux_os.stat(s->files[i].path, &st) < 0 ? -errno : 0;
    if (err != s->files[i].err || (err == 0 && !same(&st, &s->files[i].st)))
      return false;
  }
  return true;
}

static void put(FILE *f, const char *key, const char *value, size_t len)
{
  fprintf(f, "%s %zu\n", key, len);
  fwrite(value, 1, len, f);
  fputc('\n', f);
}

int prelux_snapshot_write(const struct prelux_snapshot *s, const char *dir, const char *name)
{
  char *bytes = NULL;
  size_t len = 0;
  FILE *f = open_memstream(&bytes, &len);
  if (!f)
    return -ENOMEM;
  fputs(HEAD, f);
  put(f, "source", s->source, strlen(s->source));
  put(f, "cwd", s->cwd, strlen(s->cwd));
  put(f, "home", s->home, strlen(s->home));
  put(f, "bare", s->bare ? "1" : "0", 1);
  for (size_t i = 0; i < s->n_env; i++)
    put(f, "env", s->env[i], strlen(s->env[i]));
  for (size_t i = 0; i < s->n_files; i++)
    if (s->files[i].text)
    {
      put(f, "file", s->files[i].path, strlen(s->files[i].path));
      put(f, "text", s->files[i].text, s->files[i].len);
    }
  bool failed = ferror(f);
  int ret = fclose(f) != 0 || failed ? -ENOMEM : prelux_files_write(dir, name, bytes, len);
  free(bytes);
  return ret;
}

/* One record at *at. 1, 0 at the end, or -EBADMSG. *value is malloc'd, with a NUL behind it. */
static int next_record(const char *bytes, size_t len, size_t *at, char key[16], char **value, size_t *value_len)
{
  unsigned long n = 0;
  size_t i = *at, k = 0;
  if (i == len)
    return 0;
  for (; i < len && bytes[i] >= 'a' && bytes[i] <= 'z' && k < 15; i++)
    key[k++] = bytes[i];
  key[k] = 0;
  if (i >= len || bytes[i++] != ' ')
    return -EBADMSG;
  for (; i < len && bytes[i] >= '0' && bytes[i] <= '9' && n <= SNAPSHOT_MAX; i++)
    n = n * 10 + (unsigned long)(bytes[i] - '0');
  if (i >= len || bytes[i++] != '\n' || n >= len - i || bytes[i + n] != '\n')
    return -EBADMSG;
  *value = malloc(n + 1);
  if (!*value)
    return -ENOMEM;
  memcpy(*value, bytes + i, n);
  (*value)[n] = 0;
  *value_len = n;
  *at = i + n + 1;
  return 1;
}

static void set(char **field, char *value)
{
  free(*field);
  *field = value;
}

static int apply(struct prelux_snapshot *s, const char *key, char *value, size_t len)
{
  int ret = 0;
  if (strcmp(key, "source") == 0)
    set(&s->source, value);
  else if (strcmp(key, "cwd") == 0)
    set(&s->cwd, value);
  else if (strcmp(key, "home") == 0)
    set(&s->home, value);
  else if (strcmp(key, "file") == 0)
    return prelux_snapshot_add_file(s, value, NULL, 0, 0, NULL);
  else if (strcmp(key, "text") == 0 && s->n_files && !s->files[s->n_files - 1].text)
  {
    s->files[s->n_files - 1].text = value;
    s->files[s->n_files - 1].len = len;
  }
  else
  {
    if (strcmp(key, "bare") == 0)
      s->bare = value[0] == '1';
    else if (strcmp(key, "env") == 0)
      ret = prelux_snapshot_add_env(s, value);
    else
      ret = -EBADMSG;
    free(value);
  }
  return ret;
}

int prelux_snapshot_read(const char *path, struct prelux_snapshot *ret)
{
  struct prelux_snapshot s = {0};
  char *bytes, *value, key[16];
  size_t len, at = sizeof HEAD - 1, n;
  int err = prelux_file_read(path, SNAPSHOT_MAX, &bytes, &len, NULL);
  if (err < 0)
    return err;
  if (len < at || memcmp(bytes, HEAD, at) != 0)
    err = -EBADMSG;
  else
    while ((err = next_record(bytes, len, &at, key, &value, &n)) > 0)
      if ((err = apply(&s, key, value, n)) < 0)
        break;
  free(bytes);
  if (err == 0 && (!s.source || !s.cwd || !s.home))
    err = -EBADMSG;
  if (err < 0)
    prelux_snapshot_release(&s);
  else
    *ret = s;
  return err;
}
