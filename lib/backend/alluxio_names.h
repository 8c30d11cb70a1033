/* Names on an Alluxio 3.x worker: what its two ports can carry and how (PROTOCOLS 0.1, 0.2, 2A.2, 2A.5, 2B). Pure. */
#ifndef PRELUX_BACKEND_ALLUXIO_NAMES_H
#define PRELUX_BACKEND_ALLUXIO_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PRELUX_ALLUXIO_HTTP_PATH_MAX 3500 /* a request line of 4096 bytes at most */
#define PRELUX_ALLUXIO_ID_SIZE 65

enum prelux_alluxio_way {
  PRELUX_ALLUXIO_NAME_BOTH, /* HTTP port and S3 port */
  PRELUX_ALLUXIO_NAME_S3,   /* the HTTP port would cut or change it, or close */
  PRELUX_ALLUXIO_NAME_NONE  /* no port carries it: '?' (cut), '\' (becomes '/'), "//" (becomes "/"), not UTF-8 */
};
/* Of an object path. The UFS path it is sent in has ordinary characters besides. */
enum prelux_alluxio_way prelux_alluxio_name_way(const char *path);

/* "/BUCKET/KEY" for the S3 port, which decodes twice: '%' as %2525, '+' as %252B, all others once. Length or -ENAMETOOLONG. */
long prelux_alluxio_s3_path(const char *path, bool slash, char *out, size_t cap);

/* The id of a file's pages: hex SHA-256 of its full UFS path. 0 or -EIO. */
int prelux_alluxio_file_id(const char *ufs_path, char out[PRELUX_ALLUXIO_ID_SIZE]);

/* Object stores tell times in whole seconds when asked for one object and may tell milliseconds in a listing. */
bool prelux_alluxio_whole_seconds(const char *ufs_root);

/* What tells two versions of a file apart: "LENGTH-MILLISECONDS". */
void prelux_alluxio_version(uint64_t size, int64_t mtime_ms, char *out, size_t cap);
/* Of the ETag "(len:5, modtime:1795258142460)"; false: it is of another form. */
bool prelux_alluxio_etag(const char *etag, uint64_t *ret_size, int64_t *ret_mtime_ms);

/* Is a file's mtime the time of its last change of any sort, by the version that backend `file` gives it, which ends in ctime? What was renamed
 * or given a time long after it was written may have the length and time of another file that was at its path before. */
bool prelux_alluxio_settled(const char *version, int64_t mtime_ns);

#endif
