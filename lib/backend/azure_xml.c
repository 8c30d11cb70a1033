/* Only the elements of the table below count, each at its place; everything else is passed over. Text is kept up to TEXT_MAX
 * bytes and an element more deeply nested than DEPTH_MAX, a document type, or another root ends it: a page of a listing has
 * no need of them, and entities are what XML bombs are made of. Names that XML cannot carry come percent-encoded with
 * Encoded="true". */
#include "lib/backend/azure_xml.h"

#include <errno.h>
#include <expat.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/azure_meta.h"
#include "lib/backend/azure_sign.h"
#include "lib/net/net.h"

#define DEPTH_MAX 16
#define TEXT_MAX 16384

enum tag { OTHER, ROOT, BLOBS, BLOB, PREFIX, NAME, PROPERTIES, METADATA, LENGTH, ETAG, MODIFIED, MD5, TYPE, TIER, COPY, FOLDER, MODE,
           MTIME, MARKER };

/* An element is what it is in this parent only. */
static const struct {
  const char *name;
  enum tag in, is;
  bool text;
} tags[] = {
    {"EnumerationResults", OTHER, ROOT, false},
    {"Blobs", ROOT, BLOBS, false},
    {"NextMarker", ROOT, MARKER, true},
    {"Blob", BLOBS, BLOB, false},
    {"BlobPrefix", BLOBS, PREFIX, false},
    {"Name", BLOB, NAME, true},
    {"Name", PREFIX, NAME, true},
    {"Properties", BLOB, PROPERTIES, false},
    {"Metadata", BLOB, METADATA, false},
    {"Content-Length", PROPERTIES, LENGTH, true},
    {"Etag", PROPERTIES, ETAG, true},
    {"Last-Modified", PROPERTIES, MODIFIED, true},
    {"Content-MD5", PROPERTIES, MD5, true},
    {"ResourceType", PROPERTIES, TYPE, true},
    {"AccessTier", PROPERTIES, TIER, true},
    {"CopyStatus", PROPERTIES, COPY, true},
    {PRELUX_AZURE_META_FOLDER, METADATA, FOLDER, true},
    {PRELUX_AZURE_META_MODE, METADATA, MODE, true},
    {PRELUX_AZURE_META_MTIME, METADATA, MTIME, true},
};

struct prelux_azure_xml {
  XML_Parser parser;
  int (*on_entry)(void *arg, const struct prelux_azure_entry *e);
  void *arg;
  int failed;
  enum tag stack[DEPTH_MAX];
  int depth;
  bool keep;    /* text of the element at hand counts */
  bool encoded; /* of the name at hand */
  bool whole;   /* the root was closed */
  char text[TEXT_MAX + 1], name[TEXT_MAX + 1];
  size_t text_len;
  struct prelux_azure_entry entry;
  char *marker;
};

static void fail(struct prelux_azure_xml *x, int rc)
{
  if (x->failed == 0)
    x->failed = rc;
  XML_StopParser(x->parser, XML_FALSE);
}

static bool same_word(const char *a, const char *b)
{
  return strcasecmp(a, b) == 0;
}

static void XMLCALL on_start(void *arg, const XML_Char *name, const XML_Char **attributes)
{
  struct prelux_azure_xml *x = arg;
  enum tag in = x->depth ? x->stack[x->depth - 1] : OTHER, is = OTHER;
  if (x->failed)
    return;
  x->keep = false;
  for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++)
    if (tags[i].in == in && (tags[i].is == ROOT) == (x->depth == 0) &&
        (in == METADATA ? same_word(tags[i].name, name) : strcmp(tags[i].name, name) == 0))
    {
      is = tags[i].is;
      x->keep = tags[i].text;
    }
  if (x->depth == DEPTH_MAX || (x->depth == 0 && is != ROOT))
  {
    fail(x, -EPROTO);
    return;
  }
  x->stack[x->depth++] = is;
  x->text_len = 0;
  if (is == BLOB || is == PREFIX)
    x->entry = (struct prelux_azure_entry){.prefix = is == PREFIX, .size = UINT64_MAX};
  if (is == NAME)
    x->encoded = attributes[0] && strcmp(attributes[0], "Encoded") == 0 && same_word(attributes[1], "true");
}

static void XMLCALL on_text(void *arg, const XML_Char *text, int len)
{
  struct prelux_azure_xml *x = arg;
  if (!x->keep || x->failed)
    return;
  if ((size_t)len > TEXT_MAX - x->text_len)
  {
    fail(x, -EPROTO);
    return;
  }
  memcpy(x->text + x->text_len, text, (size_t)len);
  x->text_len += (size_t)len;
}

static int take_name(struct prelux_azure_xml *x)
{
  long n = (long)x->text_len;
  if (x->entry.name)
    return -EPROTO;
  if (x->encoded)
    n = prelux_url_decode(x->name, sizeof(x->name), x->text, x->text_len);
  else
    memcpy(x->name, x->text, x->text_len + 1);
  if (n <= 0)
    return -EPROTO;
  x->entry.name = x->name;
  x->entry.name_len = (size_t)n;
  return 0;
}

static int take_length(struct prelux_azure_xml *x)
{
  uint64_t n = 0;
  if (x->text_len == 0 || x->text_len > 18 || strspn(x->text, "0123456789") != x->text_len)
    return -EPROTO;
  for (size_t i = 0; i < x->text_len; i++)
    n = n * 10 + (uint64_t)(x->text[i] - '0');
  x->entry.size = n;
  return 0;
}

static int take_text(struct prelux_azure_xml *x, enum tag is)
{
  struct prelux_azure_entry *e = &x->entry;
  x->text[x->text_len] = 0;
  switch (is)
  {
  case NAME:
    return take_name(x);
  case LENGTH:
    return take_length(x);
  case ETAG:
    if (x->text_len >= sizeof(e->etag))
      return -EPROTO;
    memcpy(e->etag, x->text, x->text_len + 1);
    return 0;
  case MODIFIED:
    e->mtime_ns = prelux_http_date(x->text);
    return 0;
  case MD5:
    prelux_azure_md5(x->text, e->md5);
    return 0;
  case TYPE:
    e->folder = e->folder || same_word(x->text, "directory");
    return 0;
  case TIER:
    e->archived = same_word(x->text, "Archive");
    return 0;
  case COPY:
    e->pending = same_word(x->text, "pending");
    return 0;
  case MODE:
    e->mode = prelux_azure_meta_mode(x->text);
    return 0;
  case MTIME:
    e->has_mtime = prelux_azure_meta_mtime(x->text, &e->kept_mtime_ns);
    return 0;
  case FOLDER:
    e->folder = e->folder || same_word(x->text, "true");
    return 0;
  case MARKER:
    if (x->marker)
      return -EPROTO;
    x->marker = x->text_len ? strdup(x->text) : NULL;
    return x->text_len && !x->marker ? -ENOMEM : 0;
  default:
    return 0;
  }
}

static void XMLCALL on_end(void *arg, const XML_Char *name)
{
  struct prelux_azure_xml *x = arg;
  if (x->failed) /* of an empty element, expat says the end too */
    return;
  enum tag is = x->stack[--x->depth];
  int rc = x->keep ? take_text(x, is) : 0;
  x->keep = false;
  if (rc == 0 && (is == BLOB || is == PREFIX))
    rc = x->entry.name ? x->on_entry(x->arg, &x->entry) : -EPROTO;
  if (is == ROOT)
    x->whole = true;
  if (rc < 0)
    fail(x, rc);
}

static void XMLCALL on_doctype(void *arg, const XML_Char *name, const XML_Char *system, const XML_Char *public, int internal)
{
  fail(arg, -EPROTO);
}

struct prelux_azure_xml *prelux_azure_xml_create(int (*on_entry)(void *arg, const struct prelux_azure_entry *e), void *arg)
{
  struct prelux_azure_xml *x = calloc(1, sizeof(*x));
  if (!x)
    return NULL;
  x->parser = XML_ParserCreate(NULL);
  if (!x->parser)
  {
    free(x);
    return NULL;
  }
  x->on_entry = on_entry;
  x->arg = arg;
  XML_SetUserData(x->parser, x);
  XML_SetElementHandler(x->parser, on_start, on_end);
  XML_SetCharacterDataHandler(x->parser, on_text);
  XML_SetStartDoctypeDeclHandler(x->parser, on_doctype);
  return x;
}

void prelux_azure_xml_free(struct prelux_azure_xml *x)
{
  if (!x)
    return;
  XML_ParserFree(x->parser);
  free(x->marker);
  free(x);
}

static int parse(struct prelux_azure_xml *x, const void *buf, size_t len, bool last)
{
  if (x->failed == 0 && XML_Parse(x->parser, buf, (int)len, last) != XML_STATUS_OK && x->failed == 0)
    x->failed = XML_GetErrorCode(x->parser) == XML_ERROR_NO_MEMORY ? -ENOMEM : -EPROTO;
  return x->failed;
}

int prelux_azure_xml_feed(struct prelux_azure_xml *x, const void *buf, size_t len)
{
  return parse(x, buf, len, false);
}

int prelux_azure_xml_end(struct prelux_azure_xml *x, char **ret_marker)
{
  int rc = parse(x, "", 0, true);
  if (rc == 0 && !x->whole)
    rc = -EPROTO;
  if (rc < 0)
    return rc;
  *ret_marker = x->marker;
  x->marker = NULL;
  return 0;
}
