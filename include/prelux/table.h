/* Table: one configuration, compiled. An immutable file RUNTIME/tables/HASH that every process
 * under that configuration maps read-only; written once by the daemon, never changed, named by
 * the hash of its content, so that requests can name it and many can be in use at once.
 * It holds no secret. All offsets count from the start of the file; strings are NUL-terminated
 * and their length is given without the NUL. Native endian: a table never leaves its node. */
#ifndef PRELUX_TABLE_H
#define PRELUX_TABLE_H

#include <stdint.h>

#define PRELUX_TABLE_MAGIC 0x4c42544c55585250ull

enum prelux_freshness {
  PRELUX_FRESH_MAX_AGE = 0,
  PRELUX_FRESH_IMMUTABLE = 1,
  PRELUX_FRESH_ALWAYS = 2, /* close-to-open: each open, stat and listing asks */
  PRELUX_FRESH_SKIP = 3,   /* not kept: every open fetches */
};

/* Table flags. */
#define PRELUX_TABLE_FIRST_MATCH 0x1u /* azfuse list: the first entry in file order wins, not the longest */
#define PRELUX_TABLE_BROKEN 0x2u      /* the configuration did not compile: every mapped path is EIO */
#define PRELUX_TABLE_LINKS_OFF 0x4u   /* outside_links: off */
#define PRELUX_TABLE_HAS_URI 0x8u     /* some prefix is a URI */
#define PRELUX_TABLE_COVERED 0x10u    /* a real, non-empty folder or file stands at some mapping root: links from
                                       * outside must be looked for even when the plain call succeeds (I12) */
#define PRELUX_TABLE_NODE 0x20u       /* its daemon serves several users: files are shown as the asker's own */

/* Mapping flags. */
#define PRELUX_MAPPING_EXEC 0x1u    /* exec: auto */
#define PRELUX_MAPPING_BROKEN 0x2u  /* its backend or cache folder could not be set up: EIO */
#define PRELUX_MAPPING_WRITE 0x4u   /* it can be written to; without it what changes anything is EROFS */
#define PRELUX_MAPPING_HELD_WAIT 0x8u /* a close waits for the file's other writers */
/* A close need not wait for the daemon: what it promises was done when the file was opened. It leaves a mark: ../left/INO.PID beside `staging`,
 * a name more of ../left/0, for the staging file INO and the process that PRELUX_FIELD_ASKER said. Where that cannot be made it is told (PRELUX_OP_CLOSED). */
#define PRELUX_MAPPING_LEAVES 0x10u

struct prelux_str {
  uint32_t off;
  uint32_t len;
};

struct prelux_table_mapping {
  struct prelux_str local;  /* absolute, normalised, no trailing slash; "/" is ""; or a URI "s3:/bucket/x" (slashes folded) */
  struct prelux_str tree;   /* real absolute path of the cache folder that mirrors `local` */
  struct prelux_str object; /* object path of the mapping root in its tree: "" or "a/b", no slash at either end */
  struct prelux_str remote; /* as configured, for messages */
  struct prelux_str staging; /* real absolute path of the folder of files that are being written or wait to be sent, each named by
                              * its inode number; "" when the mapping cannot be written to */
  struct prelux_str scratch;    /* the folder of those whose number has PRELUX_INO_SCRATCH, named without that; "": there is none */
  uint64_t tree_id;         /* names the tree in index keys and requests */
  uint64_t dev;             /* st_dev that programs see */
  uint64_t scratch_dev;        /* real st_dev of `scratch` */
  uint64_t max_age_ns;
  uint64_t negative_age_ns;
  uint64_t stream_above;    /* files larger than this may be handed out while they come in (stream.h); 0: none */
  uint32_t freshness;       /* enum prelux_freshness */
  uint32_t flags;           /* PRELUX_MAPPING_* */
  uint32_t file_mode;       /* for objects whose remote has no mode */
  uint32_t dir_mode;
};

/* A node of the prefix trie. Slot i of the node hash holds the child reached from `parent` by one
 * path component; open addressing, linear probing, `mask`+1 slots, empty when `node` is 0.
 * Node 0 is "/", node 1 the root of URI prefixes. */
struct prelux_table_node {
  uint32_t parent;
  uint32_t node;      /* this node's number, from 2 */
  uint32_t hash;      /* prelux_component_hash() of the component */
  int32_t mapping;    /* mapping that ends here, or -1 */
  uint32_t children;  /* how many slots have this node as parent */
  uint32_t pad;
  struct prelux_str name;
};

/* A real folder that stands where a mapping root is. */
struct prelux_table_root {
  uint64_t dev;
  uint64_t ino;
  uint32_t mapping;
  uint32_t pad;
};

struct prelux_table {
  uint64_t magic;
  uint32_t major;
  uint32_t flags;
  uint64_t bytes;          /* of the whole file */
  uint8_t hash[16];        /* of everything behind this field; also, in hex, the file's name */
  uint8_t credentials[16]; /* keyed digest of the bound environment variables; zero: none */
  uint32_t n_mappings, mappings_off;
  uint32_t nodes_mask, nodes_off;
  uint32_t n_roots, roots_off;
  uint32_t root_children, uri_children; /* children of nodes 0 and 1 */
  int32_t root_mapping;    /* mapping whose local is "/", or -1; in an azfuse list it matches "/" alone */
  uint32_t uid;            /* owner of what programs see */
  uint32_t gid;
  uint32_t daemon_timeout_ms;
  uint64_t first;          /* bit (hash & 63) is set for the first component of each prefix */
  struct prelux_str source;  /* absolute path of the configuration file */
  struct prelux_str cwd;     /* folder against which relative `local:` were resolved */
  struct prelux_str daemon;  /* path of the preluxd that wrote it */
  struct prelux_str runtime; /* runtime folder */
  struct prelux_str error;   /* why it is broken, or "" */
};

#endif
