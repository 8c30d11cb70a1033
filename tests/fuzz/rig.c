#include "tests/fuzz/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <unistd.h>

#include "lib/base/log.h"

_Noreturn void fuzz_wrong(const char *file, int line, const char *what, const char *text)
{
  fprintf(stderr, "%s:%d: %s does not hold%s%s\n", file, line, what, text ? ": " : "", text ? text : "");
  abort();
}

char *fuzz_piece(const uint8_t **data, size_t *size, const char *sign, size_t *ret_len)
{
  const uint8_t *end = *size ? memmem(*data, *size, sign, strlen(sign)) : NULL;
  size_t len = end ? (size_t)(end - *data) : *size, used = end ? len + strlen(sign) : len;
  char *piece = malloc(len + 1);
  if (!piece)
    abort();
  if (len)
    memcpy(piece, *data, len);
  piece[len] = 0;
  *data += used;
  *size -= used;
  *ret_len = len;
  return piece;
}

static char folder[64];
static pid_t owner;

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *at)
{
  return remove(path);
}

static void remove_folder(void)
{
  if (owner == getpid())
    nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *fuzz_folder(void)
{
  if (owner != getpid())
  {
    snprintf(folder, sizeof folder, "%s/plx-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(folder))
      abort();
    owner = getpid();
    atexit(remove_folder);
  }
  return folder;
}

void fuzz_file(const char *name, const void *data, size_t len, int mode)
{
  char path[256];
  snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
  unlink(path);
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (fd < 0 || write(fd, data, len) != (ssize_t)len)
    abort();
  close(fd);
}

static int log_fd = -1;

void fuzz_log(void)
{
  char path[100];
  if (log_fd >= 0)
    return;
  snprintf(path, sizeof path, "%s/log", fuzz_folder());
  if (prelux_log_open(path, PRELUX_LOG_DEBUG, 0) < 0 || (log_fd = open(path, O_RDWR | O_CLOEXEC)) < 0)
    abort();
}

void fuzz_log_check(void)
{
  static char text[1 << 20];
  ssize_t n = pread(log_fd, text, sizeof text - 1, 0);
  text[n > 0 ? n : 0] = 0;
  for (ssize_t i = 0; i < n; i++)
    if (!text[i])
      text[i] = ' ';
  FUZZ_CHECK_TEXT(!fuzz_tells(text), text);
  if (ftruncate(log_fd, 0) < 0)
    abort();
}

static int give_text(void *arg, const char *path, bool secret, char **ret, size_t *ret_len)
{
  *ret = strdup(arg);
  *ret_len = strlen(arg);
  return *ret ? 0 : -ENOMEM;
}

const struct prelux_conf_backend *fuzz_backend(const char *yaml, const char *name)
{
  static char *env[] = {"HOME=/nowhere", NULL};
  const struct prelux_conf_input in = {.file = "/fuzz.yaml", .cwd = "/", .env = env, .read_file = give_text, .read_arg = (void *)yaml};
  struct prelux_conf *conf = NULL;
  struct prelux_conf_error err = {NULL};
  if (prelux_conf_load(&in, false, &conf, &err) < 0)
    fuzz_wrong(__FILE__, __LINE__, "the fuzzer's own configuration is right", err.text);
  return prelux_conf_backend(conf, name); /* lives as long as the process */
}
