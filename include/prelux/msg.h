/* Messages between library or CLI and daemon, over a SOCK_SEQPACKET unix socket RUNTIME/sock.
 * One connection per request: connect, send one message, receive PROGRESS frames (one a second
 * while the daemon works) and one REPLY, close. A message is this header and TLV fields, each
 * padded to 8 bytes; unknown fields are skipped. Native endian: the socket never leaves the node. */
#ifndef PRELUX_MSG_H
#define PRELUX_MSG_H

#include <stdint.h>

#define PRELUX_MSG_MAGIC 0x584cu
#define PRELUX_MSG_MAX 65536u /* bytes of one message; more travels in a passed memfd */

enum prelux_op {
  PRELUX_OP_REPLY = 1,
  PRELUX_OP_PROGRESS = 2,
  /* Compile a configuration, or make a known table usable again (TABLE given, nothing else needed but ENV).
   * in: CONFIG?, CWD, HOME?, ENV*, TABLE?, BARE?
   * out: STATUS, TABLE?, TEXT, TEXT?. The first TEXT is always the path of a table file, "" when there is none; the
   * second, when there, is for people: the error lines "file:line:col: message", '\n' between them.
   *   0        table and path. With a second TEXT: the file was edited and is broken now, this is the last good table.
   *   -EINVAL  broken: table and path of a table with PRELUX_TABLE_BROKEN (below its prefixes all is EIO), second TEXT why.
   *   -ENOENT  no configuration anywhere, or (with TABLE) no snapshot of that table: second TEXT says so, no table.
   *   -EACCES  (with TABLE) ENV differs from what the table was bound to.
   *   -EAGAIN  NEED* names all variables that the configuration depends on, because ENV did not mention some: send
   *            again with them; an ENV value without '=' says "not set". (Twice when a value brings in more of them.)
   *   else     could not be compiled now (full disk, ...): second TEXT why, no table. */
  PRELUX_OP_REGISTER = 3,
  /* in: TABLE, MAPPING, PATH, FLAGS                  out: ATTR. All three: on an error TEXT says why. */
  PRELUX_OP_STAT = 4,
  /* As STAT, and the file lies whole in the cache when the reply comes; with PRELUX_F_WANT_FD the
   * reply carries an O_RDONLY fd of it. Folders: the cache folder exists; fd is an O_DIRECTORY one.
   * With PRELUX_F_STREAM the answer may be: ATTR (`cached` 0), STREAM, VERSION, and as fd one on which every call of the kernel fails
   * that reads (O_PATH, on the inode of a socket). Else, with that flag, ATTR and VERSION. RANGE: he reads on from the beginning of such a file. */
  PRELUX_OP_OPEN = 5,
  /* in: TABLE, MAPPING, PATH, FLAGS                  out: ATTR of the folder, fd of a listing; its cache folder exists */
  PRELUX_OP_LIST = 6,
  /* `prelux run` keeps this connection open while its program runs.   in: TABLE   out: STATUS, at once */
  PRELUX_OP_SESSION = 7,
  /* A command of the CLI (include/prelux/ctl.h). in: VERB, TABLE?, ARG*   out: fd of a memfd with JSON, or TEXT why not. Its PROGRESS may have TEXT:
   * JSON, how far it is */
  PRELUX_OP_CTL = 8,
  /* A file for writing. in: TABLE, MAPPING, PATH, FLAGS (open(2)'s), MODE (of a new file, the umask taken off), ONCE (with O_EXCL: asked again, as
   * when the daemon died in the middle, it is not in its own way)
   * out: ATTR, fd with that access mode and those status flags; on an error TEXT says why. */
  PRELUX_OP_WRITE = 9,
  /* A writable descriptor of a file that WRITE gave was closed. in: TABLE, MAPPING, INO of it (fstat's, of the descriptor)
   * out: STATUS, at once or when the remote has it: 0; -EAGAIN: somebody else can still write to it; else what close() is to
   * give, and TEXT. */
  PRELUX_OP_CLOSED = 10,
  /* A name is made, changed or removed. in: TABLE, MAPPING, PATH, VERB32, and by VERB32 (enum prelux_name_verb):
   *   UNLINK, RMDIR   nothing more
   *   MKDIR           MODE (the umask taken off)
   *   RENAME          TO_MAPPING, TO, FLAGS (renameat2's)
   *   LINK            INO of a staging file without a name (O_TMPFILE), which gets the name PATH
   *   SYMLINK         TEXT: the target, as given
   * out: STATUS: 0 when it is done, on the remote too (or, asynchronously, in the journal); else as the system call, and TEXT. */
  PRELUX_OP_NAME = 11,
  /* Attributes. in: TABLE, MAPPING, PATH or INO (of a staging file, also one without a name), SET; out: STATUS, ATTR as they are now, TEXT */
  PRELUX_OP_SETATTR = 12,
  /* in: TABLE, MAPPING, PATH                        out: STATUS, TEXT: the target of the link. -EINVAL: it is none */
  PRELUX_OP_READLINK = 13,
  /* What is known of a staging file. in: TABLE, MAPPING (any of its store), INO.   out: STATUS (-ENOENT: none), ATTR, and, where it
   * has a name, MAPPING and PATH: those of the request's mapping when it holds the name, else of another one of TABLE. */
  PRELUX_OP_WHOSE = 14,
  /* fsync of a staging file, which the asker has called already. in: TABLE, MAPPING, INO (without: of the folder PATH), FLAGS (PRELUX_SYNC_*)
   * out: STATUS, when what this node keeps of it survives a power cut, and with `fsync: remote` or PRELUX_SYNC_REMOTE the remote has it; else what
   * fsync() is to give, and TEXT. */
  PRELUX_OP_SYNC = 15,
  /* More files for a lease that WRITE's answer has granted. in: TABLE, MAPPING, LEASE; out: STATUS (-ESTALE: it has ended), LEASE, LEASE_FILES */
  PRELUX_OP_LEASE = 16,
  /* Parts of a file that OPEN has given as a STREAM. in: TABLE, MAPPING, PATH, VERSION, RANGE
   * out: STATUS: 0, they are in the file; -EAGAIN: that stream is over, OPEN it again; -ESTALE: the remote has another version; else what read() is to
   * give, and TEXT. */
  PRELUX_OP_PARTS = 17,
  /* What a program says of its use of a file or folder, which nobody waits for. in: TABLE, MAPPING, PATH, FLAGS (posix_fadvise's advice): POSIX_FADV_WILLNEED
   * the file, or the files directly in the folder, are fetched; POSIX_FADV_DONTNEED: the file leaves the cache when nobody has it open (any more, within
   * half a second; else it goes first when room is needed), unless it is pinned. out: STATUS, at once */
  PRELUX_OP_ADVISE = 18,
};

#define PRELUX_SYNC_REMOTE 1u

enum prelux_field {
  PRELUX_FIELD_STATUS = 1,  /* i32: 0 or a negative errno */
  PRELUX_FIELD_TABLE = 2,   /* 16 bytes: table hash */
  PRELUX_FIELD_MAPPING = 3, /* u32: index of the mapping in the table */
  PRELUX_FIELD_PATH = 4,    /* path below the mapping root, no slash at either end, "" for the root */
  PRELUX_FIELD_FLAGS = 5,   /* u32: PRELUX_F_* */
  PRELUX_FIELD_ATTR = 6,    /* struct prelux_attr */
  PRELUX_FIELD_TEXT = 7,
  PRELUX_FIELD_CONFIG = 8,
  PRELUX_FIELD_CWD = 9,
  PRELUX_FIELD_ENV = 10,    /* NAME=value, or NAME: known not to be set; repeated */
  PRELUX_FIELD_NEED = 11,   /* NAME, repeated */
  PRELUX_FIELD_VERB = 12,
  PRELUX_FIELD_ARG = 13,    /* repeated */
  PRELUX_FIELD_HOME = 14,
  PRELUX_FIELD_BARE = 15,   /* u32 1: a bare LD_PRELOAD asks (azfuse's USE_FUSE defaults to off) */
  PRELUX_FIELD_MODE = 16,   /* u32 */
  PRELUX_FIELD_INO = 17,    /* u64 */
  PRELUX_FIELD_VERB32 = 18, /* u32: enum prelux_name_verb */
  PRELUX_FIELD_TO_MAPPING = 19, /* u32 */
  PRELUX_FIELD_TO = 20,     /* as PATH, of TO_MAPPING */
  PRELUX_FIELD_SET = 21,    /* struct prelux_setattr */
  PRELUX_FIELD_ONCE = 22,   /* u64: a random number of this request, not 0 */
  PRELUX_FIELD_STREAM = 24, /* absolute path of the file that is coming in (stream.h) */
  PRELUX_FIELD_VERSION = 25, /* u64: as prelux_stream.version */
  PRELUX_FIELD_LEASE = 26,   /* i64: number of a lease on the folder of PATH, in WRITE's answer: see below */
  PRELUX_FIELD_LEASE_FILES = 27, /* u64s: numbers of staging files that are the asker's to use, each once */
  PRELUX_FIELD_RANGE = 28,   /* two u64: the first byte that is needed, and the one behind the last */
  PRELUX_FIELD_ASKER = 23,  /* u32: who asks, as the daemon sees it; in the answer to WRITE, where its close may leave a mark */
};

enum prelux_name_verb {
  PRELUX_NAME_UNLINK = 1, /* a file or link: -EISDIR */
  PRELUX_NAME_RMDIR,
  PRELUX_NAME_MKDIR,
  PRELUX_NAME_RENAME,
  PRELUX_NAME_LINK,
  PRELUX_NAME_SYMLINK,
};

enum prelux_setattr_bits {
  PRELUX_SETATTR_MODE = 0x1,
  PRELUX_SETATTR_MTIME = 0x2,
  PRELUX_SETATTR_UID = 0x4,
  PRELUX_SETATTR_GID = 0x8,
  PRELUX_SETATTR_LINK = 0x10, /* of a link itself, not of what it leads to */
  PRELUX_SETATTR_NOW = 0x20,  /* with MTIME: what the kernel would stamp a file with that is changed now; mtime_ns is for daemons that do not know this */
};
struct prelux_setattr {
  uint32_t which; /* enum prelux_setattr_bits */
  uint32_t mode;  /* 07777 */
  uint32_t uid, gid;
  int64_t mtime_ns;
};

/* A lease: the asker may make files in that folder by himself, opened as the one that WRITE has made: with the same mode, O_TRUNC or O_EXCL, and none of
 * the flags by which an open promises more. He opens STAGING/INO for one of LEASE_FILES, and gives it the name by link(2) to STAGING/../lease/LEASE/NAME.
 * When that fails he has made nothing, and asks. When it has succeeded, and the index has a slot of the object, he asks for its attributes
 * before he goes on: then that slot is right. NAME: letters, digits, ".", "-" and "_", at most PRELUX_LEASE_NAME_MAX of them, with no dot at the ends. Not
 * longer than PRELUX_LEASE_MS after the answer came, only in the process that got it, and as long as TABLE is in use. */
#define PRELUX_LEASE_NAME_MAX 200u
#define PRELUX_LEASE_MS 1000u
#define PRELUX_LEASE_FILES_MAX 64u

#define PRELUX_F_WANT_FD 0x1u  /* pass the fd: the cache path is of no use to the asker */
#define PRELUX_F_STREAM 0x4u   /* OPEN: a file larger than the mapping's stream_above may be handed out while it comes in */
#define PRELUX_F_RECHECK 0x2u  /* the index or cache path disagreed: do not answer from memory */

/* Status of a reply to a table that the daemon does not have: REGISTER with TABLE, then ask again. */
#define PRELUX_STATUS_NO_TABLE (-1001)

struct prelux_msg_header {
  uint16_t magic;
  uint16_t major;
  uint16_t op;
  uint16_t reserved;
  uint32_t bytes; /* of the whole message */
  uint32_t serial;
};

struct prelux_msg_field {
  uint16_t id;
  uint16_t reserved;
  uint32_t bytes; /* of the value, without padding */
};

#endif
