/* libcrypto has no memory when it is set up, which it does once: a daemon that starts all the same crashed at its first digest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "lib/net/net.h"

enum
{
  REFUSES, /* to start */
  WORKS,
  WRONG, /* starts, and has no digests */
  NOT_REACHED,
};

static long countdown; /* allocations until one fails */

static void *take(void *p, size_t n)
{
  return --countdown == 0 ? NULL : realloc(p, n);
}

static void *first(size_t n, const char *file, int line)
{
  return take(NULL, n);
}

static void *again(void *p, size_t n, const char *file, int line)
{
  return take(p, n);
}

static void last(void *p, const char *file, int line)
{
  free(p);
}

/* In a process of its own. */
static int one(long at)
{
  struct prelux_net *net = NULL;
  unsigned char digest[EVP_MAX_MD_SIZE];
  countdown = at;
  if (CRYPTO_set_mem_functions(first, again, last) != 1)
    return WRONG;
  if (prelux_net_create(&net) < 0)
    return REFUSES;
  int said = countdown > 0 ? NOT_REACHED : WORKS;
  countdown = 0;
  return EVP_Digest("", 0, digest, NULL, EVP_sha256(), NULL) == 1 && EVP_Digest("", 0, digest, NULL, EVP_md5(), NULL) == 1 ? said : WRONG;
}

static void every_allocation(void **state)
{
  int seen[4] = {0};
  for (long at = 1; !seen[NOT_REACHED]; at += at < 200 ? 1 : 97)
  {
    pid_t child = fork();
    if (child == 0)
      _exit(one(at));
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) == WRONG)
      fail_msg("allocation %ld: status %x", at, (unsigned)status);
    seen[WEXITSTATUS(status)]++;
  }
  assert_true(seen[REFUSES] > 0);
  print_message("refuses %d, works %d\n", seen[REFUSES], seen[WORKS]);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
