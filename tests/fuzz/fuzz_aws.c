/* Where keys come from: a profile's files, and the answers of STS, a container and an instance. The first line says which. */
#include <errno.h>
#include <unistd.h>

#include "lib/backend/aws_credentials.h"
#include "lib/backend/aws_sources.h"
#include "tests/fuzz/rig.h"

static void profile(const char *text, size_t len)
{
  static const char *const names[] = {"region", "aws_access_key_id", "role_arn", "source_profile", "credential_process", "duration_seconds"};
  char path[200];
  fuzz_file("profile", text, len, 0600);
  snprintf(path, sizeof path, "%s/profile", fuzz_folder());
  for (int config = 0; config < 2; config++)
  {
    struct prelux_aws_profile p = {.n = 0};
    struct prelux_problem why = {0};
    int rc = prelux_aws_profile_add(&p, path, "default", config, &why);
    if (rc == 0)
      rc = prelux_aws_profile_add(&p, path, "work", config, &why);
    FUZZ_CHECK(p.n <= PRELUX_AWS_SETTINGS && rc <= 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    {
      const char *value = prelux_aws_profile_get(&p, names[i]);
      FUZZ_CHECK(!value || (*value && !strchr(value, '\n')));
    }
    prelux_aws_profile_release(&p);
  }
}

static void remote(char which, const uint8_t *data, size_t size)
{
  static char *env[] = {"AWS_ROLE_ARN=arn:aws:iam::1:role/r", "AWS_WEB_IDENTITY_TOKEN_FILE=/proc/self/comm", "AWS_ENDPOINT_URL_STS=http://h/",
                        "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1/x", "AWS_CONTAINER_AUTHORIZATION_TOKEN=" FUZZ_SECRET, NULL};
  struct prelux_aws_sources s = {.net = fuzz_net(), .env = env, .region = "us-east-1"};
  struct prelux_aws_set set = {0};
  struct prelux_problem why = {0};
  const struct prelux_aws_source_fn_of {
    char sign;
    prelux_aws_source_fn get;
  } sources[] = {{'w', prelux_aws_from_web_identity}, {'c', prelux_aws_from_container}, {'i', prelux_aws_from_instance}};
  for (size_t i = 0; i < 3; i++)
  {
    if (sources[i].sign != which)
      continue;
    fuzz_answers(data, size);
    int rc = sources[i].get(&s, &set, &why);
    FUZZ_CHECK(rc <= 0 && !fuzz_tells(why.text));
    FUZZ_CHECK(rc < 0 || (set.access && *set.access && set.secret && *set.secret));
    FUZZ_CHECK(rc < 0 || !strpbrk(set.access, "\r\n"));
    if (rc == 0)
      prelux_aws_set_release(&set);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  size_t len;
  char *line = fuzz_piece(&data, &size, "\n", &len);
  if (line[0] == 'p')
    profile((const char *)data, size);
  else
    remote(line[0], data, size);
  free(line);
  return 0;
}
