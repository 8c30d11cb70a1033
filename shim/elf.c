/* What ld.so will open beside a program or library that lies in a cache tree.
 *
 * ld.so opens the libraries that an object needs by itself, in the tree, where `$ORIGIN` in DT_RUNPATH or DT_RPATH leads
 * to. So those are filled first, and theirs, to the end. Needed names without a folder of their own (libc.so.6) are
 * looked for below $ORIGIN as ld.so does; that they are not there is the common answer.
 *
 * Files are read through a map; every offset in them is checked, because they are others' bytes. Work memory is one
 * anonymous map: exec in a thread with a small stack comes here. */
#include "shim/exec.h"

#include <elf.h>
#include <sys/mman.h>

#include "shim/aside.h"
#include "shim/tell.h"

enum { OBJECTS_MAX = 240 };

struct work {
  struct prelux_route r;
  char cache[PATH_MAX];
  char name[PATH_MAX];
  unsigned n;
  char objects[OBJECTS_MAX][PATH_MAX]; /* logical paths, in the order they were found */
};

/* A mapped ELF file. */
struct image {
  const unsigned char *base;
  size_t size;
  const Elf64_Phdr *ph;
  unsigned n_ph;
  const char *strings;
  size_t strings_size;
};

static const void *part(const struct image *f, uint64_t off, uint64_t len)
{
  return off <= f->size && len <= f->size - off ? f->base + off : NULL;
}

/* File offset of a virtual address; UINT64_MAX when no segment holds it. */
static uint64_t offset_of(const struct image *f, uint64_t addr)
{
  for (unsigned i = 0; i < f->n_ph; i++) {
    const Elf64_Phdr *p = &f->ph[i];
    if (p->p_type == PT_LOAD && addr >= p->p_vaddr && addr - p->p_vaddr < p->p_filesz)
      return p->p_offset + (addr - p->p_vaddr);
  }
  return UINT64_MAX;
}

struct opening {
  const char *path;
  struct image *image;
};

/* Memory is the caller's, too, when a child does it. */
static long map_image(void *arg)
{
  const struct opening *o = arg;
  struct stat st;

  long fd = prelux_sys(SYS_openat, AT_FDCWD, o->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return fd;
  long map = prelux_fstat(fd, &st);
  if (map == 0 && (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(Elf64_Ehdr))) map = -ENOEXEC;
  if (map == 0) map = prelux_sys(SYS_mmap, NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0L);
  prelux_sys(SYS_close, fd);
  if (map < 0 && map > -4096) return map;
  *o->image = (struct image){.base = (const unsigned char *)map, .size = (size_t)st.st_size};
  return 0;
}

static bool open_image(const char *path, struct image *f)
{
  struct opening o = {.path = path, .image = f};
  return prelux_aside(map_image, &o) == 0;
}

/* Finds the dynamic section and its strings. Entries, or NULL. */
static const Elf64_Dyn *dynamic(struct image *f, size_t *ret_count)
{
  const Elf64_Ehdr *eh = (const Elf64_Ehdr *)f->base;
  uint64_t strtab = UINT64_MAX, strsz = 0;

  if (memcmp(eh->e_ident, ELFMAG, SELFMAG) != 0 || eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_phoff % 8 != 0 ||
      eh->e_phentsize != sizeof(Elf64_Phdr))
    return NULL;
  f->n_ph = eh->e_phnum;
  f->ph = part(f, eh->e_phoff, (uint64_t)f->n_ph * sizeof(Elf64_Phdr));
  if (!f->ph) return NULL;
  for (unsigned i = 0; i < f->n_ph; i++) {
    if (f->ph[i].p_type != PT_DYNAMIC || f->ph[i].p_offset % 8 != 0) continue;
    const Elf64_Dyn *d = part(f, f->ph[i].p_offset, f->ph[i].p_filesz);
    if (!d) return NULL;
    *ret_count = f->ph[i].p_filesz / sizeof(*d);
    for (size_t k = 0; k < *ret_count; k++) {
      if (d[k].d_tag == DT_STRTAB) strtab = offset_of(f, d[k].d_un.d_ptr);
      if (d[k].d_tag == DT_STRSZ) strsz = d[k].d_un.d_val;
    }
    f->strings = strsz ? part(f, strtab, strsz) : NULL;
    f->strings_size = strsz;
    return f->strings && f->strings[strsz - 1] == 0 ? d : NULL;
  }
  return NULL;
}

static void add_object(struct work *w, const char *logical)
{
  for (unsigned i = 0; i < w->n; i++)
    if (strcmp(w->objects[i], logical) == 0) return;
  if (w->n < OBJECTS_MAX) memcpy(w->objects[w->n++], logical, strlen(logical) + 1);
}

/* `needed` in one item of a search list of the object `logical`. */
static void look_in(struct work *w, const char *logical, const char *item, size_t len, const char *needed)
{
  static const char *const origins[] = {"$ORIGIN", "${ORIGIN}"};
  const char *slash = strrchr(logical, '/');
  struct prelux_attr attr;

  for (size_t i = 0; i < sizeof(origins) / sizeof(origins[0]); i++) {
    size_t n = strlen(origins[i]);
    if (len < n || memcmp(item, origins[i], n) != 0 || (len > n && item[n] != '/')) continue;
    size_t dir = (size_t)(slash - logical), rest = len - n, name = strlen(needed);
    if (dir + rest + name + 2 > sizeof(w->name)) return;
    memcpy(w->name, logical, dir);
    memcpy(w->name + dir, item + n, rest);
    w->name[dir + rest] = '/';
    memcpy(w->name + dir + rest + 1, needed, name + 1);
    if (prelux_route(AT_FDCWD, w->name, 0, &w->r) == PRELUX_MAPPED && prelux_ask_attr(&w->r, "dlopen", &attr) == 0 &&
        attr.type == PRELUX_FILE)
      add_object(w, w->r.logical);
  }
}

/* The objects that `f`, whose logical path is objects[i], needs. */
static void look_at(struct work *w, unsigned i, struct image *f)
{
  size_t count;
  const Elf64_Dyn *d = dynamic(f, &count);

  for (size_t k = 0; d && k < count && d[k].d_tag != DT_NULL; k++) {
    if (d[k].d_tag != DT_NEEDED || d[k].d_un.d_val >= f->strings_size) continue;
    const char *needed = f->strings + d[k].d_un.d_val;
    if (strchr(needed, '/')) continue;
    for (size_t l = 0; l < count && d[l].d_tag != DT_NULL; l++) {
      if ((d[l].d_tag != DT_RUNPATH && d[l].d_tag != DT_RPATH) || d[l].d_un.d_val >= f->strings_size) continue;
      const char *list = f->strings + d[l].d_un.d_val;
      for (size_t len; *list; list += len + (list[len] == ':')) {
        len = strcspn(list, ":");
        look_in(w, w->objects[i], list, len, needed);
      }
    }
  }
}

/* Where ld.so finds it. */
static int place(const struct prelux_route *r, char cache[PATH_MAX])
{
  struct prelux_attr attr;
  int rc = prelux_real_path(r, "dlopen", cache, PATH_MAX, &attr);
  return rc == 0 && prelux_tell_send(cache, "dlopen") ? prelux_real_path(r, "dlopen", cache, PATH_MAX, &attr) : rc;
}

void prelux_elf_fill(const struct prelux_route *r, char cache[PATH_MAX])
{
  struct prelux_attr attr;
  struct image f;

  long map = prelux_sys(SYS_mmap, NULL, sizeof(struct work), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0L);
  if (map < 0 && map > -4096) return;
  struct work *w = (struct work *)map;
  add_object(w, r->logical);
  for (unsigned i = 0; i < w->n; i++) {
    const char *path = cache;
    if (i > 0) {
      path = w->cache;
      if (prelux_route(AT_FDCWD, w->objects[i], 0, &w->r) != PRELUX_MAPPED ||
          place(&w->r, w->cache) != 0)
        continue;
    }
    if (!open_image(path, &f)) continue;
    look_at(w, i, &f);
    prelux_sys(SYS_munmap, f.base, f.size);
  }
  if (w->n > 1 && prelux_tell_send(cache, "dlopen")) prelux_real_path(r, "dlopen", cache, PATH_MAX, &attr);
  prelux_sys(SYS_munmap, map, sizeof(struct work));
}
