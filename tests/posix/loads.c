/* dlopen of what argv names, one after another: "NAME: value of answer()" or the loader's words. Before a name: @ loads it
 * into a new name space, ! only if it is loaded already. CALLER:NAME: the library CALLER (already loaded) calls dlopen(NAME). */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static void say(const char *name, void *lib)
{
  int (*answer)(void) = lib ? (int (*)(void))dlsym(lib, "answer") : NULL;
  if (answer) printf("%s: %d\n", name, answer());
  else if (lib) printf("%s: loaded\n", name);
  else {
    const char *why = dlerror();
    printf("%s: failed %s\n", name, why ? why : "silently");
  }
}

int main(int argc, char **argv)
{
  for (int i = 1; i < argc; i++) {
    char *colon = strchr(argv[i], ':');
    if (colon) {
      *colon = 0;
      void *caller = dlopen(argv[i], RTLD_NOW);
      void *(*load)(const char *) = caller ? (void *(*)(const char *))dlsym(caller, "load") : NULL;
      say(colon + 1, load ? load(colon + 1) : NULL);
    } else if (argv[i][0] == '@') {
      say(argv[i], dlmopen(LM_ID_NEWLM, argv[i] + 1, RTLD_NOW));
    } else if (argv[i][0] == '!') {
      say(argv[i], dlopen(argv[i] + 1, RTLD_NOW | RTLD_NOLOAD));
    } else {
      say(argv[i], dlopen(*argv[i] ? argv[i] : NULL, RTLD_NOW));
    }
  }
  return 0;
}
