/* What curl and libcrypto need once in a process. */
#include <errno.h>
#include <malloc.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "lib/net/engine.h"

/* curl takes 256 KiB for each transfer, and glibc would fetch them from the kernel and give them back each time: 64 page faults, which
 * cost more than moving the bytes. For the whole process, the daemon. */
static void keep_memory(void)
{
  mallopt(M_MMAP_THRESHOLD, 2 << 20);
  mallopt(M_TRIM_THRESHOLD, 16 << 20);
}

/* libcrypto sets itself up once. What it has no memory for then it never has: its calls fail from then on, or crash, as there is no context and
 * nobody looks (curl, which would be the first one to call it, does not). */
static bool crypto_works(void)
{
  unsigned char digest[EVP_MAX_MD_SIZE];
  if (OPENSSL_init_crypto(0, NULL) != 1)
    return false;
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
  if (!OSSL_LIB_CTX_get0_global_default() ||
      (!EVP_default_properties_is_fips_enabled(NULL) && EVP_Digest("", 0, digest, NULL, EVP_md5(), NULL) != 1))
    return false;
#endif
  return EVP_Digest("", 0, digest, NULL, EVP_sha256(), NULL) == 1;
}

int prelux_net_create(struct prelux_net **ret)
{
  keep_memory();
  return crypto_works() && curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? prelux_net_engine_new(ret) : -ENOMEM;
}
