/* A configuration and the table of keys as JSON. lib/conf/show.h has them as text. */
#ifndef PRELUX_CLI_CONFIG_TEXT_H
#define PRELUX_CLI_CONFIG_TEXT_H

#include <cjson/cJSON.h>

#include "lib/conf/conf.h"

/* What is in force; secrets are null. */
cJSON *prelux_config_json(const struct prelux_conf *conf);
cJSON *prelux_config_keys_json(void);

#endif
