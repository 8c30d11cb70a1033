/* Lexical paths. Pure; no allocation; used by library, daemon and CLI. */
#ifndef PRELUX_BASE_PATH_H
#define PRELUX_BASE_PATH_H

#include <stdbool.h>
#include <stddef.h>

/* Joins `base` (absolute, may be NULL when `path` is absolute) and `path`, folds "//", "." and ".."
 * lexically, drops a trailing slash. "/" stays "/". Result length, or -ENAMETOOLONG / -EINVAL (no
 * base for a relative path). `out` may not overlap the inputs. */
long prelux_path_join(char *out, size_t cap, const char *base, const char *path);

/* `path` is `prefix` or lies below it (whole components); *rel (may be NULL) gets the rest without a leading slash. */
bool prelux_path_below(const char *path, const char *prefix, const char **rel);

/* "~" or "~/x" -> home; anything else is copied. Length, or -ENAMETOOLONG / -ENOENT (no home). */
long prelux_path_expand(char *out, size_t cap, const char *home, const char *path);

/* Decimal digits and a NUL; the end. */
char *prelux_path_number(char *out, unsigned n);

#endif
