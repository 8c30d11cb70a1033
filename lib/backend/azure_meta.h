/* What blobs keep of a file's attributes: metadata of the names and forms that AzCopy gives them
 * (--preserve-posix-properties): `modtime`, nanoseconds since the epoch, and `permissions`, st_mode, both decimal.
 * AzCopy's other style for `permissions` (octal with a leading 0) is read, too. Folders are marked as Hadoop, ABFS,
 * blobfuse and AzCopy do. Pure. */
#ifndef PRELUX_BACKEND_AZURE_META_H
#define PRELUX_BACKEND_AZURE_META_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PRELUX_AZURE_META_FOLDER "hdi_isfolder"
#define PRELUX_AZURE_META_MODE "permissions"
#define PRELUX_AZURE_META_MTIME "modtime"

struct prelux_net_answer;
struct prelux_object;

/* Permission bits of `permissions`; 0: it says nothing that can be understood. */
uint32_t prelux_azure_meta_mode(const char *text);
/* False: `modtime` is not of that form. */
bool prelux_azure_meta_mtime(const char *text, int64_t *ret_ns);

/* Mode and time of an answer to HEAD, where its metadata have them, into *obj. */
void prelux_azure_meta_read(const struct prelux_net_answer *a, struct prelux_object *obj);

/* Header lines of a request, "x-ms-meta-NAME: value", and others that go with them. */
struct prelux_azure_meta
{
  char **lines; /* NULL-terminated; NULL: none */
  size_t n;
};
/* Those of an answer to HEAD but mode and time. 0, -ENOMEM; -E2BIG more than a blob may have. free it in any case. */
int prelux_azure_meta_copy(struct prelux_azure_meta *m, const struct prelux_net_answer *a);
int prelux_azure_meta_line(struct prelux_azure_meta *m, const char *line);
int prelux_azure_meta_add(struct prelux_azure_meta *m, const char *name, const char *value);
/* mode 0: none; has_mtime false: none. */
int prelux_azure_meta_set(struct prelux_azure_meta *m, uint32_t mode, bool has_mtime, int64_t mtime_ns);
void prelux_azure_meta_free(struct prelux_azure_meta *m);

#endif
