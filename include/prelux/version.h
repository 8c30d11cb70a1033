/* Version of prelux and of the formats its parts share. */
#ifndef PRELUX_VERSION_H
#define PRELUX_VERSION_H

#define PRELUX_VERSION "0.1.0"

/* Majors: a reader refuses a table it does not know, treats an index it does
 * not know as empty ("ask the daemon"), and the daemon serves every message
 * major since 1. */
#define PRELUX_TABLE_MAJOR 4u
#define PRELUX_INDEX_MAJOR 3u
#define PRELUX_LISTING_MAJOR 1u
#define PRELUX_MSG_MAJOR 1u

#endif
