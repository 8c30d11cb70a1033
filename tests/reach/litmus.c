/* The index's seqlock, as it is compiled for a machine: one thread writes the words of a slot, all made from one number, others read
 * them and say when they do not belong together.
 *
 *   litmus FOLDER SECONDS        prints "right" and the number of reads that were a hit */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/index/reader.h"
#include "lib/index/writer.h"

enum { READERS = 3, NAMES = 2 };
static const char *const names[NAMES] = {"one", "two"};
static const char *folder;
static _Atomic int stop;
static _Atomic unsigned long hits, wrong;

static struct prelux_attr made_from(uint64_t n)
{
  return (struct prelux_attr){.type = PRELUX_FILE, .cached = 1, .mode = (uint32_t)(n & 0777), .size = n, .mtime_ns = (int64_t)(n * 3), .ino = n * 5 + 1,
                              .cache_ino = n * 7 + 1, .valid_ns = UINT64_MAX};
}

static void *read_them(void *unused)
{
  struct prelux_index_reader r = {0};
  for (unsigned long i = 0; !atomic_load(&stop); i++) {
    struct prelux_attr got, want;
    const char *name = names[i % NAMES];
    if (!prelux_index_get(&r, folder, 7, name, strlen(name), &got)) continue;
    want = made_from(got.size);
    atomic_fetch_add_explicit(&hits, 1, memory_order_relaxed);
    if (got.mode != want.mode || got.mtime_ns != want.mtime_ns || got.ino != want.ino || got.cache_ino != want.cache_ino) atomic_fetch_add(&wrong, 1);
  }
  return NULL;
}

int main(int argc, char **argv)
{
  struct prelux_index_writer *w;
  pthread_t readers[READERS];
  if (argc < 3) return 2;
  folder = argv[1];
  if (prelux_index_writer_create(folder, 64, 64, &w) < 0) return 3;
  for (int i = 0; i < READERS; i++)
    if (pthread_create(&readers[i], NULL, read_them, NULL) != 0) return 4;
  time_t end = time(NULL) + atoi(argv[2]);
  for (uint64_t n = 1; time(NULL) < end || atomic_load(&hits) < 1000; n++) {
    struct prelux_attr attr = made_from(n);
    prelux_index_put(w, 7, names[n % NAMES], strlen(names[n % NAMES]), &attr, 0);
  }
  atomic_store(&stop, 1);
  for (int i = 0; i < READERS; i++) pthread_join(readers[i], NULL);
  prelux_index_writer_free(w);
  printf("%s %lu\n", atomic_load(&wrong) ? "wrong" : "right", atomic_load(&hits));
  return atomic_load(&wrong) != 0;
}
