/* Configurations as text: what is in effect, an example, the table of keys. */
#ifndef PRELUX_CLI_CONFIG_TEXT_H
#define PRELUX_CLI_CONFIG_TEXT_H

#include <cjson/cJSON.h>

#include "lib/conf/conf.h"

/* What the configuration means, as YAML that would be read back the same, secrets left out. */
void prelux_config_show(const struct prelux_conf *conf);
cJSON *prelux_config_json(const struct prelux_conf *conf);
/* A commented example that is itself a valid configuration. */
void prelux_config_example(void);
/* All keys as Markdown tables: docs/CONFIGURATION.md holds exactly these. */
void prelux_config_keys(void);
cJSON *prelux_config_keys_json(void);

#endif
