/* A backend of type file over a folder of its own, made anew for each test, in which calls of the operating system can be replaced. */
#ifndef PRELUX_TESTS_FILE_WRITE_RIG_H
#define PRELUX_TESTS_FILE_WRITE_RIG_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/backend/backend.h"
#include "lib/base/os.h"
#include "lib/conf/conf.h"

#define BYTES 300000

static char top[1024], root[1040];
static struct prelux_backend *b;
static const struct prelux_backend_write *w;
static struct prelux_os real;
static int source; /* BYTES of 's' */

static inline const char *at(const char *name)
{
  static _Thread_local char paths[4][PATH_MAX];
  static _Thread_local int n;
  char *path = paths[n++ % 4];
  snprintf(path, PATH_MAX, "%s/%s", root, name);
  return path;
}

static inline void put_file(const char *path, const char *text)
{
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0640);
  assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
  close(fd);
}

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
  return remove(path);
}

static inline int set_up(void **state)
{
  static const struct prelux_conf_key key = {.name = "root"};
  struct prelux_conf_value value = {.key = &key, .text = root};
  struct prelux_conf_backend conf = {.name = (char *)"b", .type = (char *)"file", .values = &value, .n_values = 1};
  const char *tmp = getenv("TMPDIR");
  real = prelux_os;
  snprintf(top, sizeof(top), "%s/prelux-write-XXXXXX", tmp ? tmp : "/tmp");
  if (!mkdtemp(top))
    return -1;
  snprintf(root, sizeof(root), "%s/root", top);
  mkdir(root, 0755);
  char path[PATH_MAX];
  snprintf(path, sizeof(path), "%s/source", top);
  source = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
  char *bytes = malloc(BYTES);
  memset(bytes, 's', BYTES);
  ssize_t n = write(source, bytes, BYTES);
  free(bytes);
  int rc = prelux_backend_find("file")->create(&conf, NULL, &b, NULL);
  w = b->ops->write;
  return n == BYTES ? rc : -1;
}

static inline int tear_down(void **state)
{
  prelux_os = real;
  b->ops->free(b);
  close(source);
  return nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static struct prelux_object obj;
static const struct prelux_set set = {.which = PRELUX_SET_MODE | PRELUX_SET_MTIME, .mode = 0400, .mtime_ns = 1};
static const struct prelux_condition any;

/* The folder as the ops expect it. */
static inline void furnish(void)
{
  static int trees;
  char path[PATH_MAX];
  prelux_os = real;
  snprintf(path, sizeof(path), "%s/old%d", top, trees++);
  assert_int_equal(rename(root, path), 0);
  mkdir(root, 0755);
  mkdir(at("d"), 0755);
  mkdir(at("e"), 0755);
  put_file(at("e/.prelux~put-0123456789abcdef"), "left by the dead");
  put_file(at("f"), "fff");
  put_file(at("g"), "gggg");
  put_file(at("d/g"), "ggg");
}

#endif
