/* A whole file, .prelux/fill/<name>, goes where it belongs: row "filling" with the inode -> rename -> row "clean"; where nothing lies row "clean" ->
 * rename. By who leads the object's fill flight. */
#ifndef PRELUX_STORE_INSTALL_H
#define PRELUX_STORE_INSTALL_H

#include "lib/store/private.h"

/* Gives it its name in the tree. */
int prelux_install(const struct prelux_view *v, const char *object, const char *name, struct prelux_row *row, struct prelux_problem *why);
/* A file nobody shall find by name: it lies in held/ until its readers have gone. k is known to memory. */
int prelux_install_nameless(const struct prelux_view *v, const char *object, const char *name, struct prelux_known *k,
                            struct prelux_problem *why);

#endif
