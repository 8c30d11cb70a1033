/* SharedKey signatures of Azure Storage (2015-02-21 and later, so also 2021-12-02). Pure. */
#ifndef PRELUX_BACKEND_AZURE_SIGN_H
#define PRELUX_BACKEND_AZURE_SIGN_H

#include <stddef.h>

/* The text that is signed, malloc'd (NULL: no memory). `url` is what is asked for, percent-encoded, with its query; headers are
 * "Name: value", NULL-terminated. A request with a body would need Content-Length among them. */
char *prelux_azure_string_to_sign(const char *method, const char *url, const char *const *headers, const char *account);

/* base64 of HMAC-SHA256(key, text); out of at least 45 bytes. 0 or -EIO. */
int prelux_azure_signature(const unsigned char *key, size_t key_len, const char *text, char out[45]);

/* Bytes of a base64 text (blanks around it are ignored), or -EINVAL. out needs 3 bytes for each 4. */
long prelux_azure_base64(const char *text, unsigned char *out, size_t cap);

/* Content-MD5 (base64 of 16 bytes) as lower-case hex; "" when it is none. */
void prelux_azure_md5(const char *text, char out[33]);

#endif
