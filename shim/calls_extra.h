/* Part of calls.h (included by it, with the same CALL): rows of names.c, exec.c, spawn.c, dl.c, walk*.c, temp.c, sys.c,
 * fsinfo.c and misc.c. */
