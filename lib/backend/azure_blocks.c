/* Backend `azure`, writing: blocks, and uploads in parts made of them.
 *
 * Theory of operation. Azure has no uploads, only blocks that belong to a blob's name and are no part of it yet. All
 * uploads to one name share that space; whatever is committed to the name (Put Block List, Put Blob, a copy) drops all
 * the others' blocks; what nobody commits goes after a week. To tell uploads apart each block's id says whose it is:
 *
 *   begin      puts a block BEGUN, with the upload's number, its part size, and a digest of the version that the blob
 * had then part n     puts a block PART: number, n, MD5, instant. Other bytes have another id, so a part that is sent
 * again, and a first try that arrives late, never get in each other's way; the tag holds the id complete   lists
 * exactly the ids of the tags as Uncommitted: all of them are there and of this upload, or Azure refuses the list abort
 * puts a block ABORTED. The bytes stay, unseen, until the name is written or a week is over
 *
 * An upload is alive while its BEGUN is there and no ABORTED is. It ends (-ENXIO) when anybody writes the object: then
 * the condition of its complete would not have held either, unless it was to overwrite whatever is there. Never a
 * mixture, since no list ever names blocks of two uploads. The list of blocks of a large upload is long, so part() only
 * asks for it when the blob is not of the version any more that it had at the begin; what another node aborts
 * meanwhile, complete notices.
 *
 * All ids have one length, as Azure wants. Blocks of other clients have other lengths, or do not begin as ours do. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "lib/backend/azure_sign.h"
#include "lib/backend/azure_write.h"

#define MAGIC "PLX"
#define RAW 36 /* bytes of an id: a multiple of 3, so that base64 has no padding */
#define PART_MIN 1

static struct prelux_azure *self(struct prelux_backend *b)
{
  return (struct prelux_azure *)b;
}

/* Ids: magic, kind, upload (8), instant (5); PART: n (3), MD5 (16); BEGUN: part size (6), digest (8). */

static unsigned char *put_number(unsigned char *p, uint64_t n, int bytes)
{
  for (int i = bytes; i-- > 0; n >>= 8)
    p[i] = (unsigned char)n;
  return p + bytes;
}

static uint64_t take_number(const unsigned char **p, int bytes)
{
  uint64_t n = 0;
  for (int i = 0; i < bytes; i++)
    n = n << 8 | *(*p)++;
  return n;
}

void prelux_azure_id_text(const struct prelux_azure_id *id, char out[PRELUX_AZURE_ID + 1])
{
  unsigned char raw[RAW] = MAGIC, *p = raw + 3;
  p = put_number(p, (unsigned char)id->kind, 1);
  p = put_number(p, id->upload, 8);
  p = put_number(p, (uint64_t)id->time_s, 5);
  if (id->kind == PRELUX_AZURE_PART)
    memcpy(put_number(p, id->n, 3), id->md5, sizeof(id->md5));
  if (id->kind == PRELUX_AZURE_BEGUN)
    put_number(put_number(p, id->part_size, 6), id->was, 8);
  EVP_EncodeBlock((unsigned char *)out, raw, RAW);
}

bool prelux_azure_id_read(const char *text, struct prelux_azure_id *ret)
{
  unsigned char raw[RAW + 3];
  const unsigned char *p = raw + 4;
  if (strlen(text) != PRELUX_AZURE_ID || prelux_azure_base64(text, raw, sizeof(raw)) != RAW ||
      memcmp(raw, MAGIC, 3) != 0 || !raw[3] || !strchr("BPX", raw[3]))
    return false;
  *ret = (struct prelux_azure_id){.kind = raw[3]};
  ret->upload = take_number(&p, 8);
  ret->time_s = (int64_t)take_number(&p, 5);
  if (ret->kind == PRELUX_AZURE_PART)
  {
    ret->n = (unsigned)take_number(&p, 3);
    memcpy(ret->md5, p, sizeof(ret->md5));
  }
  if (ret->kind == PRELUX_AZURE_BEGUN)
  {
    ret->part_size = take_number(&p, 6);
    ret->was = take_number(&p, 8);
  }
  return true;
}

/* Tokens: "az1.UPLOAD.PARTSIZE.WAS.CHECK", numbers in hex; CHECK is a digest of it and of the object. */

static uint64_t digest(const char *version)
{
  return version[0] ? XXH3_64bits(version, strlen(version)) | 1 : 0;
}

void prelux_azure_token_text(const struct prelux_azure *z, const char *path, uint64_t upload, uint64_t part_size,
                             uint64_t was, char out[PRELUX_TOKEN_MAX])
{
  int n = snprintf(out, PRELUX_TOKEN_MAX, "az1.%016" PRIx64 ".%" PRIx64 ".%016" PRIx64, upload, part_size, was);
  uint64_t check = XXH3_64bits_withSeed(z->prefix, strlen(z->prefix), XXH3_64bits(path, strlen(path)));
  check = XXH3_64bits_withSeed(out, (size_t)n, check);
  snprintf(out + n, (size_t)(PRELUX_TOKEN_MAX - n), ".%016" PRIx64, check);
}

struct token
{
  uint64_t upload, part_size, was;
};

static int read_token(const struct prelux_azure *z, const char *path, const char *text, struct token *ret,
                      struct prelux_problem *why)
{
  char again[PRELUX_TOKEN_MAX] = "", *end = NULL;
  if (strncmp(text, "az1.", 4) == 0)
  {
    ret->upload = strtoull(text + 4, &end, 16);
    ret->part_size = *end == '.' ? strtoull(end + 1, &end, 16) : 0;
    ret->was = *end == '.' ? strtoull(end + 1, &end, 16) : 0;
    prelux_azure_token_text(z, path, ret->upload, ret->part_size, ret->was, again);
  }
  if (!text[0] || strcmp(text, again) != 0)
    return prelux_problem(why, ENXIO, "%.200s: no upload has this token", path);
  return 0;
}

static int no_upload(const char *path, struct prelux_problem *why)
{
  return prelux_problem(why, ENXIO,
                        "%.200s: no such upload: finished, aborted, expired, or somebody has written the object", path);
}

/* Requests. */

int prelux_azure_put_block(struct prelux_azure *z, const struct prelux_azure_block *b, struct prelux_problem *why)
{
  char *url = NULL, id[3 * PRELUX_AZURE_ID + 1];
  const char *headers[] = {b->md5->header, NULL};
  struct prelux_net_upload upload = {.fd = b->fd, .off = b->off, .len = b->len};
  if (b->watch)
  {
    upload.progress = prelux_azure_progress;
    upload.arg = (void *)b->watch;
  }
  if (prelux_url_encode(id, sizeof(id), b->id, strlen(b->id)) < 0 ||
      asprintf(&url, "%s?comp=block&blockid=%s", b->url, id) < 0)
    return prelux_problem(why, ENOMEM, "no memory for a URL");
  struct prelux_azure_change c = {
      .call = {.method = "PUT",
               .url = url,
               .headers = headers,
               .body = b->text,
               .body_len = b->text ? b->len : 0,
               .upload = b->text ? NULL : &upload},
      .expect = 201,
      .harmless = true,
      .watch = b->watch,
  };
  int rc = prelux_azure_change(z, &c, why);
  if (rc == -PRELUX_EUNKNOWN) /* whether it is there or not: nobody sees it */
  {
    rc = c.watch && c.watch->stopped ? c.watch->stopped : -EIO;
    if (why)
      why->err = -rc;
  }
  prelux_net_answer_free(&c.answer);
  free(url);
  return rc;
}

static char *list_of(const struct prelux_azure_commit *c, size_t *ret_len)
{
  char *text = NULL;
  FILE *out = open_memstream(&text, ret_len);
  if (!out)
    return NULL;
  fputs("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>", out);
  for (size_t i = 0; i < c->n; i++)
    fprintf(out, "<Uncommitted>%s</Uncommitted>", c->ids[i]);
  fputs("</BlockList>", out);
  if (fclose(out) == 0)
    return text;
  free(text);
  return NULL;
}

struct compare
{
  const struct prelux_azure_commit *c;
  size_t at;
  bool differs;
};

static int compare_block(void *arg, const char *id, uint64_t size)
{
  struct compare *x = arg;
  if (x->at >= x->c->n || strcmp(x->c->ids[x->at++], id) != 0)
    x->differs = true;
  return 0;
}

/* An answer was lost: no other blob than ours can be made of these blocks. */
static bool came_through(struct prelux_azure *z, const struct prelux_azure_commit *c,
                         const struct prelux_azure_md5 *md5, struct prelux_object *ret)
{
  struct prelux_net_answer a;
  struct compare x = {.c = c};
  int rc = prelux_azure_block_list(z, c->target->url, true, compare_block, &x, &a, NULL);
  bool ours = rc == 0 && c->n && !x.differs && x.at == c->n;
  if (ours)
    prelux_azure_made(c->target, &a, c->size, md5 ? md5->hex : NULL, ret);
  prelux_net_answer_free(&a);
  return ours;
}

static int make_head(const struct prelux_azure_commit *c, const struct prelux_azure_md5 *list,
                     struct prelux_azure_meta *head)
{
  char line[80];
  int rc = prelux_azure_meta_line(head, list->header);
  if (rc == 0)
    rc = prelux_azure_meta_line(head, "Content-Type: application/xml");
  if (rc == 0 && c->md5)
  {
    snprintf(line, sizeof(line), "x-ms-blob-%s", c->md5->header);
    rc = prelux_azure_meta_line(head, line);
  }
  return rc == 0 ? prelux_azure_meta_set(head, c->target->mode, c->target->has_mtime, c->target->mtime_ns) : rc;
}

int prelux_azure_commit(struct prelux_azure *z, const struct prelux_azure_commit *c, struct prelux_object *ret,
                        struct prelux_problem *why)
{
  struct prelux_azure_change change = {.call.method = "PUT", .expect = 201, .harmless = c->n > 0};
  struct prelux_azure_meta head = {0};
  struct prelux_azure_md5 md5;
  size_t len = 0;
  char *list = list_of(c, &len), *url = NULL;
  int rc = prelux_azure_guard(&change.call, c->cond, why);
  if (rc == 0 && (!list || asprintf(&url, "%s?comp=blocklist", c->target->url) < 0))
    rc = prelux_problem(why, ENOMEM, "no memory for a list of blocks");
  if (rc == 0)
    rc = prelux_azure_hash_text(list, len, &md5, why);
  if (rc == 0 && make_head(c, &md5, &head) < 0)
    rc = prelux_problem(why, ENOMEM, "no memory for a request");
  if (rc == 0)
  {
    change.call.url = url;
    change.call.headers = (const char *const *)head.lines;
    change.call.body = list;
    change.call.body_len = len;
    rc = prelux_azure_change(z, &change, why);
    if (rc == 0)
      prelux_azure_made(c->target, &change.answer, c->size, c->md5 ? c->md5->hex : NULL, ret);
    if (rc == -PRELUX_EUNKNOWN && came_through(z, c, c->md5, ret))
      rc = 0;
  }
  prelux_net_answer_free(&change.answer);
  prelux_azure_meta_free(&head);
  free(url);
  free(list);
  return rc;
}

/* Uploads. */

/* The server's clock. */
static int64_t time_of(const struct prelux_net_answer *a)
{
  return prelux_http_date(a->date) / 1000000000;
}

static int put_mark(struct prelux_azure *z, const char *url, const struct prelux_azure_id *id,
                    struct prelux_problem *why)
{
  struct prelux_azure_md5 md5;
  char text[PRELUX_AZURE_ID + 1];
  prelux_azure_id_text(id, text);
  int rc = prelux_azure_hash_text("-", 1, &md5, why);
  struct prelux_azure_block block = {.url = url, .id = text, .fd = -1, .text = "-", .len = 1, .md5 = &md5};
  return rc < 0 ? rc : prelux_azure_put_block(z, &block, why);
}

/* malloc'd */
static int url_of(struct prelux_azure *z, const char *path, char **ret, struct prelux_problem *why)
{
  *ret = malloc(PRELUX_URL_MAX);
  if (!*ret)
    return prelux_problem(why, ENOMEM, "no memory for a URL");
  return prelux_azure_blob_url(z, path, *ret, PRELUX_URL_MAX, why);
}

int prelux_azure_begin(struct prelux_backend *b, const char *path, uint64_t part_size, const struct prelux_set *set,
                       char token[PRELUX_TOKEN_MAX], struct prelux_problem *why)
{
  struct prelux_azure_seen seen = {0};
  struct prelux_azure_id id = {.kind = PRELUX_AZURE_BEGUN, .part_size = part_size};
  char *url = NULL;
  int rc = 0;
  if (!path[0])
    rc = prelux_problem(why, EISDIR, "the root is a folder");
  else if (part_size < PART_MIN || part_size > PRELUX_AZURE_BLOCK_MAX)
    rc = prelux_problem(why, EINVAL, "%.200s: parts of %" PRIu64 " bytes", path, part_size);
  else if (getrandom(&id.upload, sizeof(id.upload), 0) != sizeof(id.upload))
    rc = prelux_problem(why, EIO, "no random number");
  if (rc == 0)
    rc = prelux_azure_may_make(self(b), path, why);
  if (rc == 0)
    rc = url_of(self(b), path, &url, why);
  if (rc == 0)
    rc = prelux_azure_look(self(b), path, &seen, why);
  if (rc == 0 && seen.obj.type == PRELUX_DIR)
    rc = prelux_problem(why, EISDIR, "%.200s is a folder", path);
  if (rc == 0)
  {
    id.time_s = time_of(&seen.answer);
    id.was = digest(seen.version);
    rc = put_mark(self(b), url, &id, why);
  }
  if (rc == 0)
    prelux_azure_token_text(self(b), path, id.upload, part_size, id.was, token);
  prelux_azure_seen_free(&seen);
  free(url);
  return rc;
}

/* What an upload has. */
struct stock
{
  uint64_t upload;
  const struct prelux_part *parts; /* that are looked for */
  size_t n, found;
  bool begun, aborted;
};

static bool tag_read(const char *tag, char id_text[PRELUX_AZURE_ID + 1], struct prelux_azure_id *id, uint64_t *ret_len)
{
  char *end;
  if (strlen(tag) < PRELUX_AZURE_ID + 2 || tag[PRELUX_AZURE_ID] != '.')
    return false;
  memcpy(id_text, tag, PRELUX_AZURE_ID);
  id_text[PRELUX_AZURE_ID] = 0;
  *ret_len = strtoull(tag + PRELUX_AZURE_ID + 1, &end, 16);
  return !*end && *ret_len > 0 && prelux_azure_id_read(id_text, id) && id->kind == PRELUX_AZURE_PART;
}

static int take_stock(void *arg, const char *text, uint64_t size)
{
  struct stock *s = arg;
  struct prelux_azure_id id;
  char wanted[PRELUX_AZURE_ID + 1];
  uint64_t len;
  if (!prelux_azure_id_read(text, &id) || id.upload != s->upload)
    return 0;
  s->begun = s->begun || id.kind == PRELUX_AZURE_BEGUN;
  s->aborted = s->aborted || id.kind == PRELUX_AZURE_ABORTED;
  if (id.kind == PRELUX_AZURE_PART && id.n < s->n && tag_read(s->parts[id.n].tag, wanted, &id, &len) &&
      strcmp(wanted, text) == 0 && len == size)
    s->found++;
  return 0;
}

/* 0, or -ENXIO: it is not alive, or not all of these parts are there. */
static int check_stock(struct prelux_azure *z, const char *path, const char *url, const struct token *t,
                       const struct prelux_part *parts, size_t n, struct prelux_problem *why)
{
  struct stock s = {.upload = t->upload, .parts = parts, .n = n};
  int rc = prelux_azure_block_list(z, url, false, take_stock, &s, NULL, why);
  if (rc == 0 && (!s.begun || s.aborted || s.found < n))
    rc = no_upload(path, why);
  return rc;
}

/* Looks at the blob: is it still what it was at the begin? Tells the time. */
static int still_alive(struct prelux_azure *z, const char *path, const char *url, const struct token *t,
                       int64_t *ret_time_s, struct prelux_problem *why)
{
  struct prelux_net_answer a;
  struct prelux_azure_call call = {.method = "HEAD", .url = url};
  char version[PRELUX_VERSION_MAX] = "";
  int rc = prelux_azure_call(z, &call, &a, why);
  rc = rc < 0 ? prelux_azure_failed(rc) : a.status == 200 ? 0 : prelux_azure_refused(z, &a, "HEAD", url, why);
  if (rc == 0 && !prelux_azure_version(a.etag, version))
    rc = prelux_problem(why, EPROTO, "HEAD %.200s: an answer without an ETag", path);
  *ret_time_s = time_of(&a);
  if (rc == -ENOENT)
    rc = 0;
  prelux_net_answer_free(&a);
  return rc == 0 && digest(version) != t->was ? check_stock(z, path, url, t, NULL, 0, why) : rc;
}

int prelux_azure_part(struct prelux_backend *b, const char *path, const char *token, unsigned n, int fd, uint64_t off,
                      uint64_t len, char tag[PRELUX_TAG_MAX], struct prelux_problem *why)
{
  struct prelux_azure *z = self(b);
  struct prelux_azure_id id = {.kind = PRELUX_AZURE_PART, .n = n};
  struct prelux_azure_md5 md5;
  struct token t;
  char text[PRELUX_AZURE_ID + 1], *url = NULL;
  int rc = read_token(z, path, token, &t, why);
  if (rc == 0 && (len == 0 || len > t.part_size || n >= PRELUX_AZURE_BLOCKS_MAX))
    rc = prelux_problem(why, EINVAL, "%.200s: part %u of %" PRIu64 " bytes", path, n, len);
  if (rc == 0)
    rc = url_of(z, path, &url, why);
  if (rc == 0)
    rc = still_alive(z, path, url, &t, &id.time_s, why);
  if (rc == 0)
    rc = prelux_azure_hash(fd, off, len, NULL, &md5, why);
  if (rc == 0)
  {
    id.upload = t.upload;
    memcpy(id.md5, md5.bytes, sizeof(id.md5));
    prelux_azure_id_text(&id, text);
    struct prelux_azure_block block = {.url = url, .id = text, .fd = fd, .off = off, .len = len, .md5 = &md5};
    rc = prelux_azure_put_block(z, &block, why);
  }
  if (rc == 0)
    snprintf(tag, PRELUX_TAG_MAX, "%s.%" PRIx64, text, len);
  free(url);
  return rc;
}

/* The parts make `size` bytes, in order and without holes. */
static int check_parts(const char *path, const struct token *t, const struct prelux_part *parts, size_t n,
                       uint64_t size, char (*ids)[PRELUX_AZURE_ID + 1], struct prelux_problem *why)
{
  uint64_t sum = 0;
  for (size_t i = 0; i < n; i++)
  {
    struct prelux_azure_id id;
    uint64_t len;
    if (parts[i].n != i || !tag_read(parts[i].tag, ids[i], &id, &len) || id.upload != t->upload || id.n != i ||
        len > t->part_size || (i + 1 < n && len != t->part_size))
      return prelux_problem(why, EINVAL, "%.200s: part %zu does not belong there", path, i);
    sum += len;
  }
  if (n == 0 || n > PRELUX_AZURE_BLOCKS_MAX || sum != size)
    return prelux_problem(why, EINVAL, "%.200s: the parts are %" PRIu64 " bytes, not %" PRIu64, path, sum, size);
  return 0;
}

int prelux_azure_complete(struct prelux_backend *b, const char *path, const char *token,
                          const struct prelux_part *parts, size_t n, uint64_t size, const struct prelux_put *how,
                          struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_azure *z = self(b);
  struct prelux_azure_target target = {0};
  struct token t;
  struct prelux_azure_commit c = {.target = &target, .cond = &how->cond, .n = n, .size = size};
  int rc = read_token(z, path, token, &t, why);
  if (rc < 0)
    return rc;
  c.ids = calloc(n + 1, sizeof(*c.ids));
  rc = c.ids ? check_parts(path, &t, parts, n, size, c.ids, why)
             : prelux_problem(why, ENOMEM, "no memory for a list of blocks");
  char *url = NULL;
  if (rc == 0)
    rc = url_of(z, path, &url, why);
  if (rc == 0)
    rc = check_stock(z, path, url, &t, parts, n, why);
  if (rc == 0)
    rc = prelux_azure_target_open(z, path, how, &target, why);
  if (rc == 0)
    rc = prelux_azure_commit(z, &c, ret, why);
  prelux_azure_target_free(&target);
  free(url);
  free(c.ids);
  return rc;
}

int prelux_azure_abort(struct prelux_backend *b, const char *path, const char *token, struct prelux_problem *why)
{
  struct prelux_azure *z = self(b);
  struct prelux_azure_id id = {.kind = PRELUX_AZURE_ABORTED};
  struct token t;
  char *url = NULL;
  if (read_token(z, path, token, &t, why) < 0)
    return 0;
  int rc = url_of(z, path, &url, why);
  if (rc == 0)
    rc = check_stock(z, path, url, &t, NULL, 0, why);
  if (rc == 0)
  {
    id.upload = t.upload;
    rc = put_mark(z, url, &id, why);
  }
  free(url);
  return rc == -ENXIO ? 0 : rc;
}
