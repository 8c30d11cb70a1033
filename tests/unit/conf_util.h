/* What the tests of lib/conf share: a scratch folder, files in it, loads whose report is compared line by line. */
#ifndef PRELUX_TESTS_CONF_UTIL_H
#define PRELUX_TESTS_CONF_UTIL_H

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "include/prelux/table.h"
#include "lib/conf/conf.h"

static char scratch[PATH_MAX];  /* removed at the end */
static char conf_file[PATH_MAX + 16]; /* scratch/conf.yaml */

static inline int scratch_make(void **state)
{
  (void)state;
  strcpy(scratch, "/tmp/prelux-conf.XXXXXX");
  if (!mkdtemp(scratch))
    return -1;
  snprintf(conf_file, sizeof conf_file, "%s/conf.yaml", scratch);
  return 0;
}

static inline int scratch_remove(void **state)
{
  char command[PATH_MAX + 16];
  (void)state;
  snprintf(command, sizeof command, "rm -rf '%s'", scratch);
  return system(command);
}

/* scratch/name; folders of it are made. */
static inline void put_bytes(const char *name, const char *text, size_t len)
{
  char path[PATH_MAX * 2];
  snprintf(path, sizeof path, "%s/%s", scratch, name);
  for (char *p = path + strlen(scratch) + 1; (p = strchr(p, '/')); *p++ = '/')
  {
    *p = 0;
    mkdir(path, 0700);
  }
  FILE *f = fopen(path, "w");
  assert_non_null(f);
  assert_int_equal(fwrite(text, 1, len, f), len);
  assert_int_equal(fclose(f), 0);
}

static inline void put_file(const char *name, const char *text)
{
  put_bytes(name, text, strlen(text));
}

static char *no_env[] = {NULL};

/* Writes `text` to conf.yaml and loads it, cwd = scratch. */
static inline int load_text(const char *text, char *const *env, bool lenient, struct prelux_conf **ret, char **report)
{
  struct prelux_conf_error err = {NULL};
  put_file("conf.yaml", text);
  int status = prelux_conf_load(&(struct prelux_conf_input){.file = conf_file, .cwd = scratch, .env = env}, lenient, ret, &err);
  *report = err.text;
  return status;
}

/* A configuration that must be right. */
static inline struct prelux_conf *load_good(const char *text, char *const *env)
{
  struct prelux_conf *c = NULL;
  char *report = NULL;
  int status = load_text(text, env, false, &c, &report);
  if (status != 0)
    print_error("%s\nof:\n%s\n", report ? report : "(no report)", text);
  assert_int_equal(status, 0);
  assert_null(report);
  assert_non_null(c);
  return c;
}

/* Lines of `report` -> "LINE:COLUMN: message" with the file's name checked and cut off. */
static inline char *cut_name(const char *line, const char *file)
{
  size_t n = strlen(file);
  if (strncmp(line, file, n) != 0 || line[n] != ':')
    print_error("%s does not begin with %s\n", line, file);
  assert_true(strncmp(line, file, n) == 0 && line[n] == ':');
  return (char *)line + n + 1;
}

/* `text` must be wrong in just the ways of `want` ("1:2: some of the words\n..."; each line's words must occur). */
static inline void load_bad_env(const char *text, const char *want, char *const *env)
{
  struct prelux_conf *c = (void *)1;
  char *report = NULL, *want_copy = strdup(want), *save_want, *save_got;
  assert_int_equal(load_text(text, env, false, &c, &report), -EINVAL);
  assert_ptr_equal(c, (void *)1);
  assert_non_null(report);
  char *report_copy = strdup(report);
  char *w = strtok_r(want_copy, "\n", &save_want), *g = strtok_r(report_copy, "\n", &save_got);
  while (w && g)
  {
    char *got = cut_name(g, conf_file), *words = strchr(strchr(w, ':') + 1, ':') + 2;
    size_t at = (size_t)(words - w);
    if (strncmp(got, w, at) != 0 || !strstr(got, words))
      fail_msg("wanted %s\ngot %s\nin:\n%s\nof:\n%s", w, got, report, text);
    w = strtok_r(NULL, "\n", &save_want);
    g = strtok_r(NULL, "\n", &save_got);
  }
  if (w || g)
    fail_msg("%s %s\nreport:\n%s\nof:\n%s", w ? "missing" : "too much:", w ? w : g, report, text);
  free(report_copy);
  free(want_copy);
  free(report);
}

static inline void load_bad(const char *text, const char *want)
{
  load_bad_env(text, want, no_env);
}

#endif
