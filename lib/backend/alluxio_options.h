/* What the configuration says of an Alluxio 3.x cluster, in the form the code wants. Alluxio's own property names (`options`) are
 * already folded into the native keys by lib/conf. */
#ifndef PRELUX_BACKEND_ALLUXIO_OPTIONS_H
#define PRELUX_BACKEND_ALLUXIO_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/problem.h"
#include "lib/net/net.h"

struct prelux_conf_backend; /* lib/conf/conf.h */

enum prelux_alluxio_membership { PRELUX_ALLUXIO_ETCD, PRELUX_ALLUXIO_LIST, PRELUX_ALLUXIO_DNS };

struct prelux_alluxio_options {
  char *name;                   /* of the backend, for texts */
  char *root;                   /* UFS root without its last slash: "s3://data/x", "s3://data", "file:///data", "file://", "/data", "" */
  enum prelux_alluxio_membership membership;
  char **places;                /* ETCD: URLs without slash at the end; LIST: "host" or "host:port", IPv6 in brackets; DNS: the one name */
  size_t n_places;
  char *cluster;
  char *etcd_user, *etcd_password; /* both or none (NULL) */
  unsigned http_port, s3_port;  /* of workers that do not say their own */
  uint64_t page_size;
  unsigned virtual_nodes;       /* of each worker */
  int64_t refresh_ms;           /* membership is asked for again after this */
  struct prelux_net_tls etcd_tls;
  char *ca_file, *cert_file, *key_file; /* back etcd_tls */
};

/* 0; -EINVAL with why; -ENOMEM. *o is to be released in any case. conf is borrowed for the call. */
int prelux_alluxio_options_init(struct prelux_alluxio_options *o, const struct prelux_conf_backend *conf, struct prelux_problem *why);
void prelux_alluxio_options_release(struct prelux_alluxio_options *o);

/* The full UFS path of an object path below the root, as AlluxioURI.toString() gives it: what the ring hashes, what file ids are made
 * of, what /v1 wants. "scheme://..." (no object path has two slashes) is a full path already: it is taken when it lies at or below
 * the root. Length; -ENAMETOOLONG; -EINVAL: not below the root. */
long prelux_alluxio_ufs_path(const struct prelux_alluxio_options *o, const char *path, char *out, size_t cap);
/* The reverse of a "scheme://..." at or below the root. 0; -ENAMETOOLONG; -EOPNOTSUPP: not below it. */
int prelux_alluxio_options_object(const struct prelux_alluxio_options *o, const char *uri, char *out, size_t cap);

#endif
