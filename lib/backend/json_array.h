/* A JSON array of objects, taken apart while it arrives: a listing of a million names never lies in memory as a whole. */
#ifndef PRELUX_BACKEND_JSON_ARRAY_H
#define PRELUX_BACKEND_JSON_ARRAY_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

#include "lib/base/problem.h"

#define PRELUX_JSON_ELEMENT_MAX (32u << 20) /* Alluxio lists every block of a file, twice */
#define PRELUX_JSON_DEPTH_MAX 32

/* One element, an object; return 0 or -errno to stop. */
typedef int (*prelux_json_fn)(void *arg, const cJSON *object);

struct prelux_json_array {
  prelux_json_fn each;
  void *arg;
  enum { PRELUX_JSON_BEFORE, PRELUX_JSON_FIRST, PRELUX_JSON_NEXT, PRELUX_JSON_AFTER_ONE, PRELUX_JSON_INSIDE, PRELUX_JSON_CLOSED } state;
  int depth;
  bool in_string, escaped;
  char *text; /* of the element that is arriving */
  size_t len, cap;
  size_t count; /* elements so far */
};

void prelux_json_array_init(struct prelux_json_array *j, prelux_json_fn each, void *arg);
/* -EPROTO: not an array of objects, too deep, an element too long, a name with \u0000; or what `each` said. */
int prelux_json_array_feed(struct prelux_json_array *j, const char *data, size_t len);
/* 0 when the array was closed. */
int prelux_json_array_end(const struct prelux_json_array *j);
void prelux_json_array_release(struct prelux_json_array *j);

/* One whole document that must be an object, with the same bounds; NULL when it is not. Free with cJSON_Delete. */
cJSON *prelux_json_object(const char *text, size_t len);

#endif
