/* Listings as web servers show them. Pure; every byte of input is hostile. */
#ifndef PRELUX_BACKEND_HTTP_INDEX_H
#define PRELUX_BACKEND_HTTP_INDEX_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

#include "lib/backend/backend.h"

/* Names in a page that lists the folder at `url` (where the page came from, ends with a slash). Links that lead to anything
 * but a direct child of that folder are passed over. With any = false only pages that say they are a listing are taken.
 * 0; -EOPNOTSUPP not a listing; -EPROTO the page is cut; or what `add` said. */
int prelux_http_index_html(const char *url, const char *html, size_t len, bool any, prelux_list_fn add, void *arg);

/* One element of nginx's autoindex_format json. 0, -EPROTO, or what `add` said. */
int prelux_http_index_json(const cJSON *element, prelux_list_fn add, void *arg);

#endif
