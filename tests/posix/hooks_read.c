/* The plainest program: hooks_read FOLDER NAME... reads each file by open, fopen, stat and readdir; prints "right".
 * With --close-all first it closes descriptors 3 to 1023, as old daemons do. */
#include "hooks.h"

static void look(const char *folder, const char *name)
{
  char path[PATH_MAX], line[300], want[300];
  struct stat st;
  int seen = 0;
  struct dirent *entry;
  join_path(path, folder, name);
  MUST(read_file(folder, name) == 1, "%s", path);
  FILE *f = fopen(path, "r");
  snprintf(want, sizeof want, "content of %s\n", name);
  MUST(f && fgets(line, sizeof line, f) && strcmp(line, want) == 0, "fopen %s", path);
  fclose(f);
  MUST(stat(path, &st) == 0 && st.st_size == (off_t)(12 + strlen(name)) * CONTENT_LINES, "stat %s", path);
  DIR *d = opendir(folder);
  MUST(d, "opendir %s", folder);
  while ((entry = readdir(d)))
    seen += strcmp(entry->d_name, name) == 0;
  closedir(d);
  MUST(seen == 1, "%s stands %d times in its folder", name, seen);
}

int main(int argc, char **argv)
{
  int at = 1;
  if (argc > 1 && strcmp(argv[1], "--close-all") == 0)
  {
    at = 2;
    for (int fd = 3; fd < 1024; fd++)
      close(fd);
  }
  if (argc < at + 2)
    return 2;
  for (int i = at + 1; i < argc; i++)
    look(argv[at], argv[i]);
  puts("right");
  return 0;
}
