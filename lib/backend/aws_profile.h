/* One profile of AWS's two files: ~/.aws/credentials ([name]) and ~/.aws/config ([profile name], [default]). */
#ifndef PRELUX_BACKEND_AWS_PROFILE_H
#define PRELUX_BACKEND_AWS_PROFILE_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/problem.h"

#define PRELUX_AWS_SETTINGS 48

struct prelux_aws_profile
{
  struct
  {
    char *name, *value; /* lower-case name */
  } settings[PRELUX_AWS_SETTINGS];
  size_t n;
  bool found; /* a section of this name was there */
};

/* Adds what section `name` of the file says and what was not said by a file before. config: it is a config file.
 * 0, also when there is no such file or section; -EACCES or another -errno: it is there and cannot be read. */
int prelux_aws_profile_add(struct prelux_aws_profile *p, const char *path, const char *name, bool config,
                           struct prelux_problem *why);
/* NULL: not said, or empty. */
const char *prelux_aws_profile_get(const struct prelux_aws_profile *p, const char *name);
void prelux_aws_profile_release(struct prelux_aws_profile *p); /* wipes */

/* A small file as a string; wipe it. -EFBIG above `max`, -EINVAL: it holds a NUL. */
int prelux_aws_read_file(const char *path, size_t max, char **ret, size_t *ret_len);

#endif
