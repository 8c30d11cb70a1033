/* What the files of backend `azure` that write share. Private to them. */
#ifndef PRELUX_BACKEND_AZURE_WRITE_H
#define PRELUX_BACKEND_AZURE_WRITE_H

#include <openssl/evp.h>

#include "lib/backend/azure.h"

/* ---- azure_change.c: one request that changes something ---- */

/* Passes `progress` of a put on. */
struct prelux_azure_watch
{
  const struct prelux_put *how;
  uint64_t base, size; /* bytes sent before this request, and of all */
  int stopped;         /* what progress said to stop it: not all was sent then */
};
int prelux_azure_progress(void *watch, uint64_t done); /* for struct prelux_net_upload */

struct prelux_azure_change
{
  struct prelux_azure_call call;
  int expect;                             /* the status that says it is done */
  bool harmless;                          /* when done twice: sent again when an answer is lost */
  const struct prelux_azure_watch *watch; /* NULL: none */
  /* out */
  bool lost;   /* the answer to some try was lost: it may have been done */
  int refused; /* what the last answer said, where it was no success */
  struct prelux_net_answer answer;
};
/* 0: done, answered by `expect`. -PRELUX_EUNKNOWN: lost, or refused after an answer was lost. Else nothing has changed.
 * Free c->answer in any case. */
int prelux_azure_change(struct prelux_azure *z, struct prelux_azure_change *c, struct prelux_problem *why);

/* Sets If-Match or If-None-Match; what it points to is borrowed from *cond. -EINVAL: no version; -ESTALE: none of ours.
 */
int prelux_azure_guard(struct prelux_azure_call *call, const struct prelux_condition *cond, struct prelux_problem *why);

struct prelux_azure_md5
{
  unsigned char bytes[16];
  char hex[33];
  char header[48]; /* "Content-MD5: ..." */
};
/* Of [off, off+len) of fd; also added to `whole`, if set. -EINVAL: it ends earlier. */
int prelux_azure_hash(int fd, uint64_t off, uint64_t len, EVP_MD_CTX *whole, struct prelux_azure_md5 *ret,
                      struct prelux_problem *why);
int prelux_azure_hash_text(const void *text, size_t len, struct prelux_azure_md5 *ret, struct prelux_problem *why);
void prelux_azure_hash_end(EVP_MD_CTX *whole, struct prelux_azure_md5 *ret);

/* ---- azure_write.c: where a put goes ---- */

struct prelux_azure_target
{
  char *url;
  struct prelux_object old; /* what it replaces, as far as it was looked at; type NONE: nothing */
  uint32_t mode;            /* that it is to have; 0: none */
  bool has_mtime;
  int64_t mtime_ns;
};
/* Whether a file may be put there, as far as can be known before. -EISDIR, -EEXIST, -ESTALE, -EINVAL, names; `now`:
 * how->cond has to hold now. Free it in any case. */
int prelux_azure_target_open(struct prelux_azure *z, const char *path, const struct prelux_put *how,
                             struct prelux_azure_target *ret, struct prelux_problem *why);
void prelux_azure_target_free(struct prelux_azure_target *t);
/* The object that an answer says it has made; md5 NULL: not known. */
void prelux_azure_made(const struct prelux_azure_target *t, const struct prelux_net_answer *a, uint64_t size,
                       const char *md5, struct prelux_object *ret);

/* ---- azure_blocks.c: blocks of a blob ---- */

enum
{
  PRELUX_AZURE_ID = 48, /* length of a block's id, in base64 */
  PRELUX_AZURE_BLOCKS_MAX = 50000
};
#define PRELUX_AZURE_BLOCK_MAX (UINT64_C(4000) << 20)

enum prelux_azure_id_kind
{
  PRELUX_AZURE_BEGUN = 'B',
  PRELUX_AZURE_PART = 'P',
  PRELUX_AZURE_ABORTED = 'X'
};

struct prelux_azure_id
{
  enum prelux_azure_id_kind kind;
  uint64_t upload;         /* random: tells uploads to one blob apart */
  int64_t time_s;          /* when it was sent, by the server's clock */
  unsigned n;              /* of PART */
  unsigned char md5[16];   /* of PART */
  uint64_t part_size, was; /* of BEGUN */
};
void prelux_azure_id_text(const struct prelux_azure_id *id, char out[PRELUX_AZURE_ID + 1]);
bool prelux_azure_id_read(const char *text, struct prelux_azure_id *ret); /* false: a block of somebody else's */

/* The token of an upload; `was` is a digest of the version that the blob had at its begin, 0: there was none. */
void prelux_azure_token_text(const struct prelux_azure *z, const char *path, uint64_t upload, uint64_t part_size,
                             uint64_t was, char out[PRELUX_TOKEN_MAX]);

/* fd < 0: `text` is the block. */
struct prelux_azure_block
{
  const char *url; /* of the blob */
  const char *id;
  int fd;
  uint64_t off, len;
  const char *text;
  const struct prelux_azure_md5 *md5;
  const struct prelux_azure_watch *watch;
};
int prelux_azure_put_block(struct prelux_azure *z, const struct prelux_azure_block *b, struct prelux_problem *why);

/* Makes the blob of these blocks, in one step. -ENXIO: they are not all there. */
struct prelux_azure_commit
{
  const struct prelux_azure_target *target;
  const struct prelux_condition *cond;
  char (*ids)[PRELUX_AZURE_ID + 1];
  size_t n;
  uint64_t size;
  const struct prelux_azure_md5 *md5; /* of all, NULL: not known */
};
int prelux_azure_commit(struct prelux_azure *z, const struct prelux_azure_commit *c, struct prelux_object *ret,
                        struct prelux_problem *why);

int prelux_azure_begin(struct prelux_backend *b, const char *path, uint64_t part_size, const struct prelux_set *set,
                       char token[PRELUX_TOKEN_MAX], struct prelux_problem *why);
int prelux_azure_part(struct prelux_backend *b, const char *path, const char *token, unsigned n, int fd, uint64_t off,
                      uint64_t len, char tag[PRELUX_TAG_MAX], struct prelux_problem *why);
int prelux_azure_complete(struct prelux_backend *b, const char *path, const char *token,
                          const struct prelux_part *parts, size_t n, uint64_t size, const struct prelux_put *how,
                          struct prelux_object *ret, struct prelux_problem *why);
int prelux_azure_abort(struct prelux_backend *b, const char *path, const char *token, struct prelux_problem *why);

/* ---- azure_uploads.c: what lies there uncommitted ---- */

/* Each block of the blob, in order; 0 to go on. */
typedef int (*prelux_azure_block_fn)(void *arg, const char *id, uint64_t size);
/* `answer` may be NULL; else free it. 0 also when there is no such blob: no blocks then. */
int prelux_azure_block_list(struct prelux_azure *z, const char *url, bool committed, prelux_azure_block_fn add,
                            void *arg, struct prelux_net_answer *answer, struct prelux_problem *why);
int prelux_azure_uploads(struct prelux_backend *b, const char *path, prelux_upload_fn add, void *arg,
                         struct prelux_problem *why);
int prelux_azure_clean(struct prelux_backend *b, const char *path, uint64_t idle_s, struct prelux_problem *why);

/* ---- azure_names.c, azure_copy.c ---- */

/* Removes the blob of that version; -ESTALE: it is of another, -ENOENT: gone, -PRELUX_EUNKNOWN. */
int prelux_azure_remove_version(struct prelux_azure *z, const char *path, const char *version,
                                struct prelux_problem *why);
int prelux_azure_remove(struct prelux_backend *b, const char *path, const struct prelux_condition *cond,
                        struct prelux_problem *why);
int prelux_azure_mkdir(struct prelux_backend *b, const char *path, uint32_t mode, struct prelux_problem *why);
int prelux_azure_rmdir(struct prelux_backend *b, const char *path, struct prelux_problem *why);
int prelux_azure_set_attr(struct prelux_backend *b, const char *path, const struct prelux_condition *cond,
                          const struct prelux_set *set, struct prelux_object *ret, struct prelux_problem *why);
int prelux_azure_copy(struct prelux_backend *b, const char *from, const char *source_version, const char *to,
                      const struct prelux_put *how, struct prelux_object *ret, struct prelux_problem *why);
int prelux_azure_rename(struct prelux_backend *b, const char *from, const char *to, unsigned flags,
                        struct prelux_object *ret, struct prelux_problem *why);

#endif
