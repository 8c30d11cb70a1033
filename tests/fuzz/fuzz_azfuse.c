/* azfuse's mapping list with its account files and its environment: the list, then "NAME=value" lines, then the account file that every name leads to. */
#include <errno.h>

#include "lib/conf/show.h"
#include "tests/fuzz/rig.h"

struct files {
  char *list, *account;
  size_t list_len, account_len;
};

static int give(void *arg, const char *path, bool secret, char **ret, size_t *ret_len)
{
  struct files *f = arg;
  const char *from = secret ? f->account : f->list;
  size_t len = secret ? f->account_len : f->list_len;
  *ret = malloc(len + 1);
  if (!*ret)
    return -ENOMEM;
  memcpy(*ret, from, len);
  (*ret)[len] = 0;
  *ret_len = len;
  return 0;
}

static void look(struct prelux_conf *c)
{
  char *text = NULL;
  size_t len = 0;
  FILE *f = open_memstream(&text, &len);
  if (!f)
    abort();
  prelux_conf_show(c, f);
  fclose(f);
  for (size_t i = 0; i < c->n_backends; i++)
  {
    const char *key = prelux_conf_str(&c->backends[i], "account_key");
    FUZZ_CHECK(!key || strlen(key) < 8 || !strstr(text, key));
  }
  for (size_t i = 0; i < c->n_mappings; i++)
  {
    FUZZ_CHECK(c->mappings[i].local && c->mappings[i].local[0] == '/' && c->mappings[i].path && c->mappings[i].cache);
    FUZZ_CHECK(!c->mappings[i].backend || prelux_conf_backend(c, c->mappings[i].backend));
  }
  free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  struct files f;
  char *env[6] = {"HOME=/home/u", "AZFUSE_STORAGE_ACCOUNT_CONFIG_FOLDER=/acc"}, *save = NULL;
  size_t n = 2, env_len;
  f.list = fuzz_piece(&data, &size, FUZZ_NEXT, &f.list_len);
  char *words = fuzz_piece(&data, &size, FUZZ_NEXT, &env_len);
  f.account = fuzz_piece(&data, &size, FUZZ_NEXT, &f.account_len);
  for (char *line = strtok_r(words, "\n", &save); line && n < 5; line = strtok_r(NULL, "\n", &save))
    env[n++] = line;
  for (int lenient = 0; lenient < 2; lenient++)
  {
    const struct prelux_conf_input in = {.file = "/w/fuzz.yaml", .cwd = "/w", .env = env, .read_file = give, .read_arg = &f, .bare = env_len & 1};
    struct prelux_conf_error err = {NULL};
    struct prelux_conf *c = NULL;
    int rc = prelux_conf_load(&in, lenient, &c, &err);
    FUZZ_CHECK(rc == 0 || rc == -EINVAL);
    FUZZ_CHECK((rc == 0) == (err.text == NULL));
    FUZZ_CHECK(c || (rc < 0 && !lenient));
    if (rc == 0 && c->azfuse)
      look(c);
    free(err.text);
    prelux_conf_free(c);
  }
  free(f.list);
  free(words);
  free(f.account);
  return 0;
}
